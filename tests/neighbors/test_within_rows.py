"""Selection and sorting within rows by torch, as on a GPU, give what NumPy gives."""

import numpy as np
import pytest

from clorg_scale.neighbors import within_rows


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_rows(library, dtype, monkeypatch):
    if library == "torch":
        torch = pytest.importorskip("torch")
        monkeypatch.setattr(within_rows, "_torch_for", lambda _: torch)
    keys = np.random.default_rng(0).integers(0, 40, (200, 37)).astype(dtype)  # with ties
    if dtype != np.int64:
        keys[5, 3] = np.inf
    np.testing.assert_array_equal(within_rows.sorted_columns(keys), np.argsort(keys, axis=1, kind="stable"))
    columns = within_rows.smallest_columns(keys, 9)
    assert all(len(set(row)) == 9 for row in columns.tolist())
    found = np.sort(np.take_along_axis(keys, columns, 1), axis=1)
    np.testing.assert_array_equal(found, np.sort(keys, axis=1)[:, :9])
