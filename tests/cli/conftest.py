"""The folder in which commands run."""

import numpy as np
import pytest
from mistakes import LABELS, points


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with good embeddings and labels, in which commands run."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", points())
    np.save("y.npy", LABELS)
    return tmp_path
