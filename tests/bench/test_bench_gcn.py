"""`bench run gcn`: what is timed beside the probes is the same network, and learns."""

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")
geometric = pytest.importorskip("torch_geometric")

from clorg_scale.bench import pyg

from clorg_scale.probes.sampler import NeighborSampler


@pytest.mark.slow
def test_batches_of_neighbor_loader_learn_the_classes(monkeypatch):
    """With our sampler in the place of the compiled one, which is rarely installed."""
    from torch_geometric import sampler
    from torch_geometric.nn import GCNConv

    class Sampler(sampler.BaseSampler):
        def __init__(self, data, num_neighbors):
            self.fanouts = num_neighbors
            adjacency = sp.csr_matrix((data.edge_weight, data.edge_index.numpy()), (data.num_nodes, data.num_nodes))
            # Entries are numbered from 1, as values that are 0 are not sampled.
            self.numbers = sp.csr_matrix((np.arange(adjacency.nnz) + 1, adjacency.indices, adjacency.indptr))
            self.inner = NeighborSampler(adjacency.indptr, adjacency.indices, adjacency.data)

        def sample_from_nodes(self, index, **_):
            first, last = self.inner.sample(index.node.numpy(), self.fanouts, seed=0)
            nodes, row, col = first.sources, [], []
            for block in (last, first):
                targets = np.repeat(np.arange(block.n_targets), np.diff(block.indptr))
                places = np.searchsorted(np.sort(nodes), block.sources)
                own = np.argsort(nodes)[places]
                row.append(own[block.indices])
                col.append(own[targets])
            row, col = (np.concatenate(part) for part in (row, col))
            edge = np.asarray(self.numbers[nodes[col], nodes[row]]).ravel() - 1
            parts = (torch.from_numpy(np.asarray(part).astype(np.int64)) for part in (nodes, row, col, edge))
            return sampler.SamplerOutput(*parts, batch=None, metadata=(index.input_id, None))

        sample_from_edges = None  # abstract, and not asked for

    monkeypatch.setattr(sampler, "NeighborSampler", Sampler)
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 3, 300))
    A = np.triu(rng.random((300, 300)) < np.where(labels[:, None] == labels, 0.1, 0.01), 1)
    coo = sp.coo_matrix((A + A.T).astype(np.float32))
    edges = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    network = pyg.network_of(GCNConv, labels, cached=False)
    epoch = pyg.batched_epoch(network, labels, (edges, torch.from_numpy(coo.data)), fanout=5, batch_size=32)
    for _ in range(20):
        epoch()
    masked, shown = pyg.masked_nodes(rng, torch.from_numpy(labels))
    predicted = network.eval()(shown, edges, torch.from_numpy(coo.data)).argmax(dim=1)
    assert (predicted[masked] == torch.from_numpy(labels)[masked]).float().mean() > 0.9
