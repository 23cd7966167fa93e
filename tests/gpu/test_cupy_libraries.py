"""How libraries of RAPIDS are called, and what follows when they fail."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from gpu_data import tables

from clorg_scale.affinity import affinity_graph
from clorg_scale.arrays import on_default_stream
from clorg_scale.arrays.handles import cugraph_handle, cuvs_resources
from clorg_scale.communities import communities
from clorg_scale.errors import InputError


@pytest.fixture
def raft(monkeypatch):
    """Stand-in for RAFT's handle, which tells on what streams handles were made, and which were waited for."""
    told = []

    class DeviceResources:
        def __init__(self, stream=None):
            told.append(f"made on {stream}")
            self.stream = stream

        def sync(self):
            told.append(f"waited for {self.stream}")

        def getHandle(self):  # RAFT's own name
            return 1000 + self.stream

    common = types.SimpleNamespace(DeviceResources=DeviceResources)
    for name, module in (("pylibraft", types.SimpleNamespace(common=common)), ("pylibraft.common", common)):
        monkeypatch.setitem(sys.modules, name, module)
    return told


def test_one_handle_on_the_current_stream(cupy, raft, is_stand_in, monkeypatch):
    """cuVS and cuGraph are given the address of RAFT's object, and it is waited for once."""
    if not is_stand_in:
        pytest.skip("handles of the real libraries: test_gpu_signatures")
    monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda: types.SimpleNamespace(ptr=7))

    class Resources:
        def get_c_obj(self):
            raise AssertionError("cuVS has a handle of its own")

    for name, module in (
        ("cuvs", types.SimpleNamespace()),
        ("cuvs.common", types.SimpleNamespace(Resources=Resources)),
        ("pylibcugraph", types.SimpleNamespace(ResourceHandle=lambda handle=None: handle)),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    with cuvs_resources("A search") as resources:
        assert isinstance(resources, Resources)
        assert resources.get_c_obj() == 1007
        assert raft == ["made on 7"]
        resources.sync()
    assert raft == ["made on 7", "waited for 7", "waited for 7"]
    with cugraph_handle("Communities") as handle:
        assert handle == 1007
    assert raft[3:] == ["made on 7", "waited for 7"]


def test_automatic_communities_without_pylibcugraph_are_igraphs(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "pylibcugraph", None)
    table, on_device, _ = tables(cupy)
    ours = communities(affinity_graph(on_device))
    theirs = communities(affinity_graph(table), device="cpu")
    assert isinstance(ours.labels, np.ndarray)
    assert ours.details["library"].startswith("igraph")
    assert ours.modularity == pytest.approx(theirs.modularity, abs=0.02)


def test_foreign_libraries_work_on_the_default_stream(cupy, is_stand_in, monkeypatch):
    """cuVS and cuGraph are in order with that stream alone: another one is waited for, and waits."""
    if not is_stand_in:
        pytest.skip("the real CuPy tells nobody")
    told = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def synchronize(self):
            told.append(f"{self.name} finished")

        def __enter__(self):
            told.append(f"on {self.name}")

        def __exit__(self, *_):
            told.append(f"off {self.name}")

    null = Stream("default")
    Stream.null = null
    device = types.SimpleNamespace(synchronize=lambda: told.append("all finished"))
    current = [Stream("mine")]
    monkeypatch.setattr(
        cupy,
        "cuda",
        types.SimpleNamespace(
            get_current_stream=lambda: current[0],
            Stream=Stream,
            Device=lambda: device,
        ),
    )

    @on_default_stream()
    def search():
        told.append("search")

    search()
    assert told == ["mine finished", "on default", "search", "off default", "all finished"]
    told.clear()
    current[0] = null
    search()
    assert told == ["search"]


@pytest.mark.parametrize("nonsense", ["alone", "strangers"])
def test_a_useless_partition_of_the_gpu_is_replaced(cupy, raft, monkeypatch, nonsense):
    """Every node alone (rapids-singlecell 417), or communities of nodes that do not know each other."""
    table, on_device, _ = tables(cupy)
    graph = affinity_graph(on_device)
    useful = communities(affinity_graph(table), device="cpu")
    ranks = np.argsort(np.argsort(useful.labels, kind="stable"))
    labels = np.arange(400) if nonsense == "alone" else ranks % 80
    answers = [labels, useful.labels * 10 + 3]  # numbers with gaps
    vertices = np.random.default_rng(0).permutation(400)

    def leiden(*_):
        found = answers.pop(0)
        return cupy.asarray(vertices), cupy.asarray(found[vertices]), 0.9

    library = types.SimpleNamespace(
        ResourceHandle=int,
        GraphProperties=dict,
        SGGraph=lambda *_, **__: None,
        __version__="0",
        leiden=leiden,
        __spec__=ModuleSpec("pylibcugraph", None),
    )
    monkeypatch.setitem(sys.modules, "pylibcugraph", library)
    with pytest.warns(UserWarning, match="communities of 400 nodes, with modularity -.*igraph on the CPU"):
        assert communities(graph, device="cuda").details["library"].startswith("igraph")
    found = communities(graph, device="cuda")
    assert found.details["library"] == "pylibcugraph 0"
    np.testing.assert_array_equal(found.labels, useful.labels)
    assert found.modularity == pytest.approx(useful.modularity, abs=1e-9)


@pytest.mark.parametrize("where", ["SGGraph", "leiden"])
def test_memory_that_runs_out_in_pylibcugraph(cupy, raft, monkeypatch, where):
    """While the graph is made, too; it then is a MemoryError."""

    def fails(*_, **__):
        raise MemoryError("CUGRAPH_ALLOC_ERROR")

    parts = {"SGGraph": lambda *_, **__: None, "leiden": None, where: fails}
    library = types.SimpleNamespace(
        ResourceHandle=int, GraphProperties=dict, __version__="0", __spec__=ModuleSpec("pylibcugraph", None), **parts
    )
    monkeypatch.setitem(sys.modules, "pylibcugraph", library)
    _, on_device, _ = tables(cupy)
    with pytest.raises(InputError, match=r"found no communities .*ALLOC_ERROR.*device='cpu'"):
        communities(affinity_graph(on_device), device="cuda")


@pytest.mark.parametrize("method", ["leiden", "louvain"])
def test_what_pylibcugraph_reports_gets_a_sentence(cupy, raft, monkeypatch, method):
    """Its C interface turns memory that ran out into a RuntimeError."""

    def fails(*_):
        raise RuntimeError("non-success value returned from the C interface: RMM failure")

    library = types.SimpleNamespace(
        ResourceHandle=int,
        GraphProperties=dict,
        SGGraph=lambda *_, **__: None,
        __version__="0",
        leiden=fails,
        louvain=fails,
        __spec__=ModuleSpec("pylibcugraph", None),
    )
    monkeypatch.setitem(sys.modules, "pylibcugraph", library)
    _, on_device, _ = tables(cupy)
    with pytest.raises(InputError, match=r"found no communities .*RMM failure.*device='cpu'"):
        communities(affinity_graph(on_device), method=method, device="cuda")
