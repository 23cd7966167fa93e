"""`analyze` on a GPU: what it copies between host and device, what resuming reads, and memory that runs out."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from gpu_data import brute_force, points, tables

import clorg_scale as cs
from clorg_scale.affinity import affinity_graph
from clorg_scale.analysis import stages, steps
from clorg_scale.analysis.resources import Resources
from clorg_scale.arrays import array_module, on_host
from clorg_scale.arrays.gpu import OutOfDeviceMemoryError
from clorg_scale.neighbors import knn
from clorg_scale.neighbors.exact import BlockSearch

BEFORE = "before and between the stages"


class Copies:
    """Bytes copied to and from the device by each stage."""

    def __init__(self):
        self.stage, self.up, self.down, self.counting = BEFORE, {}, {}, True

    @contextmanager
    def during(self, name, **_):
        self.stage = name
        yield
        self.stage = BEFORE

    def add(self, direction, array):
        if self.counting:
            direction[self.stage] = direction.get(self.stage, 0) + array.nbytes


@pytest.fixture
def copies(cupy, is_stand_in, monkeypatch):
    """Counts the copies of the stand-in."""
    if not is_stand_in:
        pytest.skip("the real CuPy does not count")
    counted = Copies()
    monkeypatch.setattr(stages, "stage_progress", counted.during)
    array, get = cupy.ndarray, cupy.ndarray.get
    monkeypatch.setattr(array, "get", lambda self: (counted.add(counted.down, self.host), get(self))[1])
    for name in ("asarray", "array", "ascontiguousarray"):
        make = getattr(cupy, name)

        def counting(data, *args, make=make, **kwargs):
            if isinstance(data, np.ndarray) and data.ndim:
                counted.add(counted.up, data)
            return make(data, *args, **kwargs)

        monkeypatch.setattr(cupy, name, counting)

    def search(*blocks):
        """The search of the stand-in, which computes in main memory; what that copies is not counted."""
        counted.counting = False
        found = brute_force(*blocks)
        counted.counting = True
        return found

    monkeypatch.setattr("clorg_scale.neighbors.engines.exact_engine", lambda _: BlockSearch("flat(test)", search))
    return counted


def analysis(folder, X, codes):
    return cs.analyze(X, codes, method="graph", probes=[], map_points=0, k=9, output=folder)


@pytest.mark.filterwarnings("ignore:.*labels are -1")
def test_what_an_analysis_copies_and_resumes(copies, tmp_path):
    """Embeddings once up, with labels and row numbers; down results, and the graph where a library of the GPU lacks."""
    X, codes = points(d=64)
    first = analysis(tmp_path, X, codes)
    n, n_labeled, n_classes = len(X), int((codes >= 0).sum()), 5
    labels, table = 8 * n, first.neighbor_table().indices.nbytes + first.neighbor_table().distances.nbytes
    graph = affinity_graph(first.neighbor_table())
    edges = graph.indptr.nbytes + graph.indices.nbytes + graph.weights.nbytes
    sums_of_points = 8 * n * len(first.rld.temperatures)
    up = {
        BEFORE: X.nbytes + 2 * labels,  # modularity and mixing of the classes
        "Calinski-Harabasz": labels,
        "nearest neighbors": 9 * labels,  # random pairs for the mean distance: of 8,192 points at most
        "class homogeneity": 2 * labels + 2 * 8 * n_labeled,
        "RLD": labels,
        "communities": labels,
    }
    down = {
        BEFORE: 2 * table + edges,  # to be kept, and for the issues, which are found in main memory
        "Calinski-Harabasz": 8 * n_classes * X.shape[1],
        "class homogeneity": 0,
        "RLD": 2 * sums_of_points,
        "communities": 4
        * graph.indices.nbytes,  # rows in int64, columns, weights, for igraph: where pylibcugraph is not installed
        "spectrum": edges,  # for SciPy: where pylibraft is not installed
    }
    for expected, counted in ((up, copies.up), (down, copies.down)):
        assert counted.keys() == expected.keys()
        for stage, size in expected.items():
            assert abs(counted[stage] - size) < 2_000, stage  # numbers, fingerprints, a row pointer
    assert all(note.engine.startswith("cuda (") for note in first.stages)
    resumed = analysis(tmp_path, X, codes)
    assert [note.to_dict() for note in resumed.stages] == [note.to_dict() for note in first.stages]
    assert array_module(resumed.neighbor_table().indices) is not np
    np.testing.assert_array_equal(on_host(resumed.neighbor_table().indices), on_host(first.neighbor_table().indices))


def test_a_graph_on_the_device_has_its_spectrum_on_the_cpu(cupy):
    """Where that is asked for: without CuPy's sparse matrices."""
    table, on_device, codes = tables(cupy)
    ours, theirs = (cs.spectrum(affinity_graph(t), 4, labels=codes, device="cpu") for t in (on_device, table))
    np.testing.assert_allclose(ours.eigenvalues, theirs.eigenvalues, rtol=1e-6)
    np.testing.assert_allclose(ours.class_share, theirs.class_share, rtol=1e-4)


def test_other_libraries_compute_anew(tmp_path):
    graph = affinity_graph(knn(points()[0], 5, device="cpu"))
    known = []
    for engine in ("cuda (cupy 14.2.0)", "cuda (cupy 14.2.0, pylibcugraph 26.10.0)"):
        run = stages.Stages(tmp_path, resume=True)
        settings = {"method": "leiden", "resolution": 1.0, "seed": 0}
        run(steps.partition, graph, resources=Resources("cpu", engine=engine), **settings)
        known += [(run.files["communities"], run.notes[0].engine)]
    assert known[0][0] != known[1][0]
    assert known[1][1].endswith("pylibcugraph 26.10.0)")


@stages.stage("sum", lambda _: "A sum.")
def total(values: np.ndarray, *, resources: Resources) -> steps.SpreadRatio:
    """Run out of memory on a GPU."""
    if resources.device == "cuda" or array_module(values) is not np:
        raise OutOfDeviceMemoryError("The device ran out of memory in a sum.")
    return steps.SpreadRatio(float(values.sum()))


def test_memory_that_runs_out_leaves_a_stage_to_the_cpu(cupy, tmp_path):
    """If the device was chosen automatically, with a warning and in the record; also when resumed."""
    values = cupy.asarray(np.arange(5.0))
    run = stages.Stages(tmp_path, resume=True)
    with pytest.raises(OutOfDeviceMemoryError):
        run(total, values, resources=Resources("cuda", "cuda", engine="cuda (cupy)"))
    with pytest.warns(UserWarning, match="The stage 'sum' runs on the CPU: The device ran out of memory in a sum"):
        found = run(total, values, resources=Resources("cuda", "auto", engine="cuda (cupy)"))
    assert found.value == 10
    assert run.notes[-1].engine == "cpu, as the GPU ran out of memory"
    again = stages.Stages(tmp_path, resume=True)
    assert again(total, values, resources=Resources("cuda", "auto", engine="cuda (cupy)")) == found
    assert again.notes == run.notes
