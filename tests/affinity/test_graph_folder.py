"""Graphs in folders: written whole or not at all, mapped when opened, and used without a copy of the whole."""

import gc
import json
import resource
import shutil
import tracemalloc

import numpy as np
import pytest
from command_line import assert_one_sentence, run

import clorg_scale as cs
from clorg_scale.affinity import AffinityGraph, storage, symmetrize
from clorg_scale.arrays.mapped import compilable_view, mapped_array
from clorg_scale.communities.modularity import class_weights
from clorg_scale.errors import InputError
from clorg_scale.probes import LabelPropagationProbe

ARRAYS = ("indptr", "indices", "weights")


def ring(n=3_000, reach=4):
    """Every node with those at most `reach` away, more weakly the farther they are; classes are arcs."""
    offsets = np.concatenate([np.arange(-reach, 0), np.arange(1, reach + 1)])
    indices = (np.arange(n)[:, None] + offsets) % n
    order = np.argsort(indices, axis=1)
    weights = np.broadcast_to(1 / np.abs(offsets), indices.shape)
    arrays = (np.take_along_axis(part, order, axis=1).reshape(-1) for part in (indices, weights))
    columns, values = arrays
    indptr = np.arange(0, len(columns) + 1, 2 * reach)
    return AffinityGraph(indptr.astype(np.int32), columns.astype(np.int32), values.astype(np.float32))


CLASSES = np.arange(3_000) // 600


@pytest.fixture
def folder(tmp_path):
    ring().save(tmp_path / "graph")
    return tmp_path / "graph"


def test_what_is_opened_is_what_was_saved(folder):
    opened, graph = AffinityGraph.open(folder), ring()
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(f"{a}.npy" for a in ARRAYS), "metadata.json"])
    for name in ARRAYS:
        mapped, array = getattr(opened, name), getattr(graph, name)
        assert mapped_array(mapped).path == str(folder / f"{name}.npy")
        assert not mapped.flags.writeable
        assert mapped.dtype == array.dtype
        np.testing.assert_array_equal(mapped, array)
        np.testing.assert_array_equal(np.load(folder / f"{name}.npy", allow_pickle=False), array)
    assert json.loads((folder / "metadata.json").read_text())["arrays"]["indices"]["length"] == 24_000


def test_numbers_of_an_opened_graph(folder):
    opened, graph = AffinityGraph.open(folder), ring()
    np.testing.assert_array_equal(opened.degrees, graph.degrees)
    np.testing.assert_allclose(graph.degrees, np.asarray(graph.to_scipy().sum(axis=1)), rtol=1e-6)
    assert cs.modularity(opened, CLASSES) == cs.modularity(graph, CLASSES)
    np.testing.assert_array_equal(cs.communities(opened).labels, cs.communities(graph).labels)
    known = np.arange(3_000) % 50 == 0
    predicted = [LabelPropagationProbe(alpha=0.9).fit(g, CLASSES, known).predict() for g in (opened, graph)]
    np.testing.assert_array_equal(*predicted)
    assert (predicted[0] == CLASSES).mean() > 0.9
    np.testing.assert_allclose(cs.spectrum(opened, 4).eigenvalues, cs.spectrum(graph, 4).eigenvalues, atol=1e-6)
    assert opened.n_components() == 1


def test_minibatches_of_an_opened_graph(folder):
    pytest.importorskip("torch")
    from clorg_scale.probes import GCNProbe
    from clorg_scale.probes.propagate import PropagationMatrix

    graphs = AffinityGraph.open(folder), ring()
    matrices = [PropagationMatrix(g.indptr, g.indices, g.weights, "symmetric") for g in graphs]
    assert np.shares_memory(matrices[0].indices, graphs[0].indices)
    blocks = [matrix.sampler().sample(np.arange(20), [3, 3], seed=1) for matrix in matrices]
    for ours, theirs in zip(*blocks, strict=True):
        np.testing.assert_array_equal(ours.sources, theirs.sources)
        np.testing.assert_array_equal(ours.values, theirs.values)
    known = np.arange(3_000) % 3 == 0
    settings = {"batch_size": 500, "fanout": 4, "max_epochs": 2, "device": "cpu"}
    fitted = [GCNProbe(**settings).fit(g, CLASSES, known).predict_proba() for g in graphs]
    np.testing.assert_allclose(*fitted, atol=1e-5)


def test_a_view_for_compiled_loops_keeps_the_map(folder):
    view = compilable_view(AffinityGraph.open(folder).indices)
    gc.collect()
    np.testing.assert_array_equal(view, ring().indices)
    assert view.flags.writeable
    view = ring().indices
    assert compilable_view(view) is view


def test_no_step_holds_the_whole_graph(tmp_path, monkeypatch):
    """NumPy reports its allocations to tracemalloc; what is mapped is none."""
    monkeypatch.setattr(symmetrize, "BLOCK_ENTRIES", 2**15)
    ring(100_000, 8).save(tmp_path / "graph")
    labels = np.arange(100_000) // 20_000
    opened = AffinityGraph.open(tmp_path / "graph")
    n_bytes = sum(getattr(opened, name).nbytes for name in ARRAYS)
    assert n_bytes > 13e6
    known = labels.astype(bool) | True

    def peak(work):
        work()  # compiles
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(lambda: AffinityGraph.open(tmp_path / "graph")) < 0.1 * n_bytes
    assert peak(lambda: opened.degrees) < 0.25 * n_bytes  # (n,) float64, and a block
    codes = labels.astype(np.int64)
    assert peak(lambda: class_weights(opened, codes, 5)) < 0.25 * n_bytes
    assert peak(lambda: opened.save(tmp_path / "copy")) < 0.1 * n_bytes
    # The normalized weights are half a graph; the scores of two classes, twice, and few vectors come to them.
    probe = LabelPropagationProbe(alpha=0.5, max_iterations=2)
    halves = (labels > 2).astype(int)
    assert peak(lambda: probe.fit(opened, halves, known)) < 1.1 * n_bytes
    pytest.importorskip("torch")
    from clorg_scale.probes.propagate import PropagationMatrix

    def sample():
        matrix = PropagationMatrix(opened.indptr, opened.indices, opened.weights, "symmetric")
        matrix.sampler().sample(np.arange(50), [5, 5], seed=0)

    assert peak(sample) < 0.8 * n_bytes


def test_a_graph_replaces_another_whole(folder, monkeypatch):
    before = AffinityGraph.open(folder)
    ring(2_000).save(folder)
    after = AffinityGraph.open(folder)
    assert (before.n_nodes, after.n_nodes) == (3_000, 2_000)
    np.testing.assert_array_equal(before.indices, ring().indices)
    assert len(list(folder.iterdir())) == 4
    opened = AffinityGraph.open(folder)
    opened.save(folder)  # onto itself
    np.testing.assert_array_equal(AffinityGraph.open(folder).weights, opened.weights)

    def fail(*_, **__):
        raise RuntimeError("killed")

    monkeypatch.setattr(storage.json, "dump", fail)
    with pytest.raises(RuntimeError):
        ring(1_000).save(folder)
    monkeypatch.undo()
    assert AffinityGraph.open(folder).n_nodes == 2_000
    assert len(list(folder.iterdir())) == 4


def test_nothing_is_left_where_it_cannot_be_written(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(InputError, match="largest file size allowed is exceeded"):
            ring().save(tmp_path / "graph")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not empty and holds no affinity graph \('notes.txt'"):
        ring().save(tmp_path / "other")
    (tmp_path / "other" / "notes").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        ring().save(tmp_path / "other" / "notes")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["notes", "notes.txt", "other"]


def change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("damage", [change_a_byte, cut, lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_damaged_arrays(folder, name, damage):
    damage(folder / f"{name}.npy")
    with pytest.raises(InputError, match=f"{name}.npy") as told:
        AffinityGraph.open(folder)
    assert "\n" not in str(told.value)


def test_foreign_files(folder, tmp_path):
    np.save(folder / "weights.npy", np.array([{}] * 3), allow_pickle=True)
    with pytest.raises(InputError, match="never unpickled"):
        AffinityGraph.open(folder)
    (folder / "weights.npy").unlink()
    (folder / "weights.npy").symlink_to(folder / "indices.npy")
    with pytest.raises(InputError, match="is a link"):
        AffinityGraph.open(folder)
    metadata = json.loads((folder / "metadata.json").read_text())
    for wrong, sentence in (
        ("[]", "does not describe an affinity graph"),
        ("{", "does not describe an affinity graph"),
        (json.dumps(metadata | {"format": "clorg-scale embeddings 1"}), "does not describe an affinity graph"),
        (json.dumps(metadata).replace('"indptr.npy"', '"../indptr.npy"'), "files outside its folder"),
        (json.dumps(metadata).replace('"indptr.npy"', "5"), "is damaged"),
    ):
        (folder / "metadata.json").write_text(wrong)
        with pytest.raises(InputError, match=sentence):
            AffinityGraph.open(folder)
    (folder / "metadata.json").unlink()
    with pytest.raises(InputError, match="holds no affinity graph"):
        AffinityGraph.open(folder)
    with pytest.raises(InputError, match="There is no folder"):
        AffinityGraph.open(tmp_path / "none")


def test_arrays_of_two_graphs_do_not_fit(folder, tmp_path):
    ring(2_000, 5).save(tmp_path / "other")
    entries = [json.loads((path / "metadata.json").read_text()) for path in (folder, tmp_path / "other")]
    shutil.copy(tmp_path / "other" / "indices.npy", folder / "indices.npy")
    with pytest.raises(InputError, match=r"not what was written|says"):
        AffinityGraph.open(folder)
    entries[0]["arrays"]["indices"] = entries[1]["arrays"]["indices"]
    (folder / "metadata.json").write_text(json.dumps(entries[0]))
    with pytest.raises(InputError, match=r"do not fit together|not what was"):
        AffinityGraph.open(folder)


def test_the_other_form_is_named(folder, tmp_path):
    ring(100).save(tmp_path / "graph.npz")
    with pytest.raises(InputError, match=r"AffinityGraph.load reads .npz"):
        AffinityGraph.open(tmp_path / "graph.npz")
    with pytest.raises(InputError, match=r"use AffinityGraph.open"):
        AffinityGraph.load(folder)
    with pytest.raises(InputError, match="npz"):
        ring(100).save(tmp_path / "graph.csv")


def test_communities_on_the_command_line(folder, tmp_path):
    np.save(tmp_path / "y.npy", CLASSES)
    result = run("communities", folder, "--labels", tmp_path / "y.npy", "--out", tmp_path / "c.npy", "--json")
    assert result.code == 0, result.err
    found, graph = json.loads(result.out), ring()
    expected = cs.communities(graph)
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), expected.labels)
    assert found["modularity"] == pytest.approx(expected.modularity)
    assert found["class_modularity"] == pytest.approx(cs.modularity(graph, CLASSES))
    assert_one_sentence(run("communities", folder, "--k", "5"), "--k decides how a graph is built")
    cut(folder / "indices.npy")
    assert_one_sentence(run("communities", folder), "indices.npy")
