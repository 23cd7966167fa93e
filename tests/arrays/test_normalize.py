"""L2 normalization of embeddings."""

import numpy as np
import pytest
from sklearn.preprocessing import normalize

from clorg_scale.arrays.normalize import normalize_rows
from clorg_scale.errors import InputError

POINTS = np.random.default_rng(0).normal(size=(50, 7)) * 10.0 ** np.arange(-3, 4)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", "i2", "i4", "u1"])
def test_rows_are_those_of_scikit_learn(dtype):
    with np.errstate(over="ignore"):
        points = (np.abs(POINTS) + 1).clip(1, 200).astype(dtype)
    found = normalize_rows(points)
    assert found.dtype == (np.float64 if dtype in ("<f8", "i4") else np.float32)
    np.testing.assert_allclose(found, normalize(points.astype(np.float64)), rtol=1e-7 if found.itemsize == 4 else 1e-14)


@pytest.mark.parametrize("factor", [1e300, 1e-300, 2.0**-1010])
def test_extreme_lengths(factor):
    points = POINTS / np.abs(POINTS).max() * factor + factor
    np.testing.assert_allclose(normalize_rows(points), normalize(points / factor), rtol=1e-13)


def test_the_input_stays_as_it_was():
    points = POINTS.copy()
    normalize_rows(points)
    np.testing.assert_array_equal(points, POINTS)


def test_a_copy_that_is_large_against_memory_is_mapped(monkeypatch):
    from clorg_scale.arrays import spool

    monkeypatch.setattr(spool, "available_memory", lambda: 1000)
    found = normalize_rows(POINTS)
    assert isinstance(found, np.memmap)
    np.testing.assert_allclose(found, normalize(POINTS), rtol=1e-14)


@pytest.mark.parametrize(("value", "sentence"), [(0.0, "rows 3, 40"), (np.nan, "NaN"), (np.inf, "infinite")])
def test_rows_without_a_direction_are_named(value, sentence):
    points = POINTS.copy()
    points[[3, 40]] = value
    with pytest.raises(InputError, match=sentence):
        normalize_rows(points)
