"""`analyze` on a GPU: what it copies between host and device, what resuming reads, and memory that runs out."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from gpu_data import brute_force, points

import clorg_scale as cs
from clorg_scale.affinity import affinity_graph
from clorg_scale.analysis import stages, steps
from clorg_scale.analysis.fallback import on_cpu
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
    # The solver of the CPU: the stand-in has no cupyx.
    solve = steps.spectrum

    def solved(graph, *given, device, **labels):
        return solve(on_cpu(graph), *given, **labels)

    monkeypatch.setattr(steps, "spectrum", solved)
    return counted


def analysis(folder, X, codes):
    return cs.analyze(X, codes, method="graph", probes=[], map_points=0, k=9, output=folder)


@pytest.mark.filterwarnings("ignore:.*labels are -1")
def test_what_an_analysis_copies_and_resumes(copies, tmp_path):
    """Embeddings once up; down only what lives on the host: sums of points, the graph for the host's libraries."""
    X, codes = points(d=64)
    first = analysis(tmp_path, X, codes)
    up, down = dict(copies.up), dict(copies.down)
    assert X.nbytes <= up.pop(BEFORE) < 1.1 * X.nbytes
    assert all(size < X.nbytes / 2 for size in up.values())
    table, graph = 2 * 4 * 9 * len(X), 2 * 8 * 9 * len(X)
    assert down.pop(BEFORE) < 2 * (table + 2 * graph)
    assert down["communities"] < 2 * graph
    assert all(size < X.nbytes for size in down.values())
    assert all(note.engine.startswith("cuda (") for note in first.stages)
    resumed = analysis(tmp_path, X, codes)
    assert [note.to_dict() for note in resumed.stages] == [note.to_dict() for note in first.stages]
    assert array_module(resumed.neighbor_table().indices) is not np
    np.testing.assert_array_equal(on_host(resumed.neighbor_table().indices), on_host(first.neighbor_table().indices))


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
    with pytest.warns(UserWarning, match="The CPU computes the stage 'sum': The device ran out of memory in a sum"):
        found = run(total, values, resources=Resources("cuda", "auto", engine="cuda (cupy)"))
    assert found.value == 10
    assert run.notes[-1].engine == "cpu, as the GPU ran out of memory"
    again = stages.Stages(tmp_path, resume=True)
    assert again(total, values, resources=Resources("cuda", "auto", engine="cuda (cupy)")) == found
    assert again.notes == run.notes
