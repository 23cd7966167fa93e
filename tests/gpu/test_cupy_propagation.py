"""The GCN's matrix of a graph on a GPU is made and kept there; it is that of the CPU."""

import numpy as np
import pytest
from gpu_data import tables

torch = pytest.importorskip("torch", reason="torch is not installed")

from clorg_scale.affinity import affinity_graph
from clorg_scale.arrays import on_host
from clorg_scale.probes import propagate
from clorg_scale.probes.device_sampler import DeviceNeighborSampler


@pytest.mark.parametrize("kind", ["symmetric", "row"])
def test_the_matrix_of_a_graph_on_the_device(cupy, is_stand_in, kind, monkeypatch):
    table, on_device, _ = tables(cupy)
    graph, there = affinity_graph(table), affinity_graph(on_device)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    if is_stand_in:  # whose arrays torch does not take
        monkeypatch.setattr(propagate, "as_tensor", lambda array, _: torch.from_numpy(on_host(array)))
    taken, get = [], cupy.ndarray.get
    if is_stand_in:
        monkeypatch.setattr(cupy.ndarray, "get", lambda self: (taken.append(self.host.size), get(self))[1])
    ours = propagate.PropagationMatrix(there.indptr, there.indices, there.weights, kind, gpu)
    theirs = propagate.PropagationMatrix(graph.indptr, graph.indices, graph.weights, kind)
    assert isinstance(ours.sampler(), DeviceNeighborSampler)
    assert not taken
    np.testing.assert_allclose(on_host(ours.values), theirs.values, rtol=1e-6)
    nodes = np.array([3, 17, 42, 399])
    for name, argument in (("whole", ()), ("rows", (slice(20, 90),)), ("chosen", (nodes,))):
        found, expected = (
            getattr(matrix, name)(*argument, device).matrix.to_dense().cpu()
            for matrix, device in ((ours, cpu if is_stand_in else gpu), (theirs, cpu))
        )
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(on_host(ours.values_t), theirs.values_t, rtol=1e-6)
