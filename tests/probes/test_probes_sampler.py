import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from clorg_scale.errors import InputError
from clorg_scale.probes.sampler import NeighborSampler


def graph(n, seed, density=0.2):
    upper = sp.triu(sp.random(n, n, density, random_state=seed, dtype=np.float32), 1)
    return (upper + upper.T).tocsr()


def dense(block, n):
    """The block as rows over all n nodes."""
    shape = (block.n_targets, len(block.sources))
    rows = np.zeros((block.n_targets, n))
    rows[:, block.sources] = sp.csr_matrix((block.values, block.indices, block.indptr), shape=shape).toarray()
    return rows


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), fanout=st.integers(1, 12), n=st.integers(3, 60))
def test_sample_is_a_part_of_the_neighborhood(seed, fanout, n):
    A = graph(n, seed)
    targets = np.random.default_rng(seed).permutation(n)[: n // 2 + 1]
    block = NeighborSampler(A.indptr, A.indices, A.data).block(targets, fanout, seed=seed)
    assert len(set(block.sources)) == len(block.sources)
    np.testing.assert_array_equal(block.sources[: len(targets)], targets)
    degrees = np.diff(A.indptr)
    np.testing.assert_array_equal(np.diff(block.indptr), np.minimum(degrees[targets], fanout))
    for row, target in enumerate(targets):
        kept = block.sources[block.indices[block.indptr[row] : block.indptr[row + 1]]]
        assert len(set(kept)) == len(kept)  # without replacement
        assert set(kept) <= set(A.indices[A.indptr[target] : A.indptr[target + 1]])
        if degrees[target] <= fanout:
            np.testing.assert_array_equal(dense(block, n)[row], A[target].toarray()[0])
    transposed = (block.values_t, block.indices_t, block.indptr_t)
    matrix = sp.csr_matrix((block.values, block.indices, block.indptr), (len(targets), len(block.sources)))
    back = sp.csr_matrix(transposed, (len(block.sources), len(targets)))
    assert abs(matrix.T - back).sum() == 0


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), fanout=st.integers(1, 12), n=st.integers(3, 60))
def test_a_block_over_labels_is_that_over_the_nodes_that_show_them(seed, fanout, n):
    A, rng = graph(n, seed), np.random.default_rng(seed)
    seeds, shown, rows_of_labels = rng.permutation(n)[: n // 2 + 1], rng.integers(0, 4, n), rng.normal(size=(4, 3))
    sampler = NeighborSampler(A.indptr, A.indices, A.data)
    by_node, last = sampler.sample(seeds, (fanout, fanout), seed=seed)
    by_label, same_last = sampler.sample(seeds, (fanout, fanout), seed=seed, shown=shown)
    np.testing.assert_array_equal(last.sources, same_last.sources)  # only the farthest hop is by label
    np.testing.assert_array_equal(shown[last.sources], by_label.targets)

    def product(block, h):
        shape = (block.n_targets, len(block.sources))
        return sp.csr_matrix((block.values, block.indices, block.indptr), shape) @ h[: len(block.sources)]

    def back(block, g):
        shape = (len(block.sources), block.n_targets)
        return sp.csr_matrix((block.values_t, block.indices_t, block.indptr_t), shape) @ g

    np.testing.assert_allclose(
        product(by_label, rows_of_labels), product(by_node, rows_of_labels[shown[by_node.sources]]), atol=1e-5
    )
    gradient, expected = rng.normal(size=(by_node.n_targets, 3)), np.zeros((4, 3))
    np.add.at(expected, shown[by_node.sources], back(by_node, gradient))
    found = back(by_label, gradient)
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-5)
    assert not expected[len(found) :].any()


def same_neighbors(weights, n):
    """n nodes whose rows all hold the same neighbors: their samples are independent draws of one row."""
    size, width = n + len(weights), len(weights)
    indptr = np.append(np.arange(0, width * n + 1, width), [width * n] * width)
    return sp.csr_matrix((np.tile(weights, n), np.tile(np.arange(n, size), n), indptr), shape=(size, size))


def test_each_neighbor_is_kept_with_probability_by_weight():
    weights = np.array([8.0, 1, 1, 2, 2, 3, 0.5, 0.5, 1, 1], dtype=np.float32)  # the first is always kept
    n, rounds = 500, 8
    draws = n * rounds
    A = same_neighbors(weights, n)
    sampler = NeighborSampler(A.indptr, A.indices, A.data)
    kept, total = np.zeros(10), np.zeros(10)
    for seed in range(rounds):
        rows = dense(sampler.block(np.arange(n), 4, seed=seed), n + 10)[:, n:]
        assert ((rows > 0).sum(axis=1) == 4).all()
        kept += (rows > 0).sum(axis=0)
        total += rows.sum(axis=0)
    assert kept[0] == draws
    # Counts are Binomial(draws, p), p = 3 w / sum over the nine others. Entries of a row are not independent of
    # each other, so each count is held to a bound of its own: nine normal deviates exceed 4.5 in absolute value
    # with probability below 1e-4.
    p = weights[1:] * 3 / weights[1:].sum()
    assert (np.abs(kept[1:] - draws * p) < 4.5 * np.sqrt(draws * p * (1 - p))).all()
    # Unbiased: an entry's value is w / p with probability p, so its variance is w^2 (1 - p) / p.
    bound = 4.5 * weights[1:] * np.sqrt((1 - p) / p / draws)
    assert (np.abs(total[1:] / draws - weights[1:]) < bound).all()
    assert total[0] / draws == pytest.approx(8)


def test_chi_square_of_single_draws():
    weights = np.array([1.0, 2, 3, 4, 5, 6], dtype=np.float32)
    n, rounds = 1000, 8
    A = same_neighbors(weights, n)
    sampler = NeighborSampler(A.indptr, A.indices, A.data)
    counts = np.zeros(6)
    for seed in range(rounds):
        block = sampler.block(np.arange(n), 1, seed=seed)
        counts += np.bincount(block.sources[block.indices] - n, minlength=6)
    expected = n * rounds * weights / weights.sum()
    # With a fan-out of 1 the outcomes are independent multinomial draws by weight: chi-square with 5 degrees of
    # freedom exceeds 25.7 with probability 1e-4.
    assert ((counts - expected) ** 2 / expected).sum() < 25.7


def test_isolated_nodes_zero_weights_and_extreme_weights():
    A = sp.lil_matrix((8, 8), dtype=np.float32)
    A[0, 1:7] = [1e30, 1e30, 1e-30, 1e-30, 1e-38, 1.0]
    A = A.tocsr()
    A.data[4] = 0  # a stored zero is never sampled where others are left out
    sampler = NeighborSampler(A.indptr, A.indices, A.data)
    for fanout in (1, 2, 3, 5):
        block = sampler.block(np.array([7, 0]), fanout, seed=1)
        assert np.diff(block.indptr).tolist() == [0, fanout]
        assert (block.values > 0).all()
        assert np.isfinite(block.values).all()
    assert len(sampler.block(np.array([7]), 3, seed=0).sources) == 1


def test_blocks_of_two_layers_chain_and_depend_on_the_seed_alone():
    A = graph(200, 0)
    sampler = NeighborSampler(A.indptr, A.indices, A.data)
    seeds = np.arange(0, 200, 10)
    first, last = sampler.sample(seeds, (3, 4), seed=5)
    np.testing.assert_array_equal(last.sources, first.sources[: first.n_targets])
    assert np.diff(last.indptr).max() == 3
    assert np.diff(first.indptr).max() == 4
    again = NeighborSampler(A.indptr, A.indices, A.data).sample(seeds, (3, 4), seed=5)
    np.testing.assert_array_equal(again[0].sources, first.sources)
    np.testing.assert_array_equal(again[0].values, first.values)
    other = sampler.sample(seeds, (3, 4), seed=6)
    assert not np.array_equal(other[1].sources, last.sources)
    # Hops use different random numbers: else a node would keep the same neighbors in every layer.
    same_node = [sampler.sample(seeds, (3, 3), seed=s) for s in range(20)]
    assert any(
        set(b[0].sources[b[0].indices[: b[0].indptr[1]]]) != set(b[1].sources[b[1].indices[: b[1].indptr[1]]])
        for b in same_node
    )


def test_fanout_below_one():
    A = graph(5, 0)
    with pytest.raises(InputError, match="fanout"):
        NeighborSampler(A.indptr, A.indices, A.data).block(np.array([0]), 0, seed=0)
