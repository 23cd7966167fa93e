"""Beside CuPy's stand-in no library of RAPIDS is reached, though it may be installed."""

import importlib
import importlib.util
import sys

import numpy as np
import pytest
from gpu_data import brute_force, points
from serial_cupy import RAPIDS

from clorg_scale.affinity import affinity_graph
from clorg_scale.communities import communities
from clorg_scale.neighbors import knn
from clorg_scale.neighbors.exact import BlockSearch

MODULES = {
    "cuvs": ("__init__", "neighbors/__init__", "neighbors/brute_force", "neighbors/ivf_flat", "neighbors/cagra"),
    "pylibcugraph": ("__init__",),
    "cugraph": ("__init__",),
    "rmm": ("__init__",),
}


@pytest.fixture
def fake_rapids(tmp_path, monkeypatch):
    """Modules with the names of RAPIDS, on the path, that raise whatever is used of them."""
    for library, names in MODULES.items():
        for name in names:
            file = tmp_path / library / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"def __getattr__(name):\n    raise AttributeError('{library} was used: ' + name)\n")
    for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AttributeError, match="cuvs was used"):
        _ = importlib.import_module("cuvs.neighbors").ivf_flat_that_is_not_there
    assert importlib.util.find_spec("pylibcugraph") is not None


def test_rapids_is_hidden(fake_rapids, cupy, is_stand_in, monkeypatch):
    if not is_stand_in:
        pytest.skip("the real CuPy works with the real RAPIDS")
    for name in RAPIDS:
        assert importlib.util.find_spec(name) is None
        with pytest.raises(ImportError):
            importlib.import_module(name)
    monkeypatch.setattr("clorg_scale.neighbors.engines.exact_engine", lambda _: BlockSearch("flat(test)", brute_force))
    X, _ = points()
    table = knn(cupy.asarray(X), 7, index="ivf", device="cuda")
    found = communities(affinity_graph(table))
    assert found.details["library"].startswith("igraph")
    assert len(np.unique(found.labels)) == len(found.sizes)
