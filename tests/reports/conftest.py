"""What several of the reports' tests begin with."""

import numpy as np
import pytest
from command_line import run


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with embeddings and labels of three classes, in which commands run."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    np.save("x.npy", (rng.normal(size=(90, 5)) + 3 * labels[:, None]).astype(np.float32))
    np.save("y.npy", labels)
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A training on images of cats and dogs, and the folder of these."""
    from small_networks import save_images

    root = tmp_path_factory.mktemp("trained")
    for split in ("train", "test"):
        save_images(root / "images" / split, n=10, seed=len(split))
    settings = ("--method=supervised", "--width=2", "--image-size=16", "--epochs=2", "--batch-size=8")
    done = run("train", *settings, "--measure-every=0", "--device=cpu", "--data", root / "images", "--out", root / "t")
    assert done.code == 0, done.err
    return root, done
