"""No array of points x temperatures x groups is in the memory of one process."""

import pickle

import numpy as np

import clorg_scale as cs
from clorg_scale import kept_results
from clorg_scale.kept_results import map_keeping, with_kept
from clorg_scale.rld.sampled import cpu, estimate


def test_kept_arrays_go_to_a_file_beyond_a_size(monkeypatch):
    monkeypatch.setattr(kept_results, "IN_MEMORY", 100 * 8)
    arrays = [np.random.default_rng(i).random((10, 5)) for i in range(6)]
    kept = [handle for _, handle in map_keeping(map, lambda chunk: (chunk[0], arrays[chunk[0]]), zip(range(6)))]
    assert [isinstance(handle, np.ndarray) for handle in kept] == [True, True, False, False, False, False]
    found = with_kept(map, lambda pair: pair, ((i, kept[i]) for i in reversed(range(6))))
    for i, array in found:
        np.testing.assert_array_equal(array, arrays[i])


def test_changes_without_a_group_need_not_fit_memory(monkeypatch):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 10_000)
    X = (rng.standard_normal((4, 8))[codes] + rng.standard_normal((10_000, 8))).astype(np.float32)
    in_memory = cs.rld(X, codes, method="sampled", temperatures=(1, 0.1), target_error=0.05)
    monkeypatch.setattr(kept_results, "IN_MEMORY", 0)
    passed = []
    kernel_pass = cpu.BlockEngine.kernel_pass

    def watched(self, *arguments):
        passed.append(kernel_pass(self, *arguments))
        return passed[-1]

    monkeypatch.setattr(cpu.BlockEngine, "kernel_pass", watched)
    in_file = cs.rld(X, codes, method="sampled", temperatures=(1, 0.1), target_error=0.05)
    np.testing.assert_array_equal(in_file.values, in_memory.values)
    np.testing.assert_array_equal(in_file.stderr, in_memory.stderr)
    assert passed
    for sums in passed:
        assert len(sums.changes) == 2  # one for each block of 8192 points
        assert not any(isinstance(kept, np.ndarray) for kept in sums.changes)
        assert sums.log_r.shape == sums.variances.shape == (2, 10_000)


def _sent_to_workers(monkeypatch, file, n):
    """Bytes that describe the tiles of n points to each worker, and the tiles."""
    rng = np.random.default_rng(0)
    np.save(file, rng.standard_normal((n, 128), dtype=np.float32))
    handed = []
    monkeypatch.setattr(cpu, "hand_over", lambda _, value: handed.append(value) or value)
    cs.rld(
        np.load(file, mmap_mode="r"), rng.integers(0, 4, n), method="sampled", temperatures=(1, 0.1), target_error=0.05
    )
    (tiles,) = handed
    return pickle.dumps(tiles, protocol=5), tiles


def test_workers_read_the_landmarks_themselves(monkeypatch, tmp_path):
    monkeypatch.setattr(estimate, "POOL_BYTES", 1)
    sent, tiles = _sent_to_workers(monkeypatch, tmp_path / "X.npy", 6_000)
    np.testing.assert_array_equal(pickle.loads(sent)._pool_points[0], tiles._pool_points[0])
    # Of some 4,100 landmarks: row, position, class, reach; no coordinates, and nothing of the other points.
    assert len(sent) < 4_300 * 28 + 10_000
    larger, _ = _sent_to_workers(monkeypatch, tmp_path / "larger.npy", 18_000)
    assert len(larger) < len(sent) + 1_000
