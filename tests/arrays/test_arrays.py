"""Arrays of NumPy: shared where they can be, refused in one sentence where they must."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twenty_points import X

from clorg_scale import arrays
from clorg_scale.arrays import as_embeddings, column_means, row_block, row_slices
from clorg_scale.errors import InputError

# --- what is taken


@pytest.mark.parametrize(
    "dtype", ["f2", "f4", "f8", "g", ">f4", ">f8", "<f2", "i1", ">i2", "i4", "i8", "u1", "u8", "?"]
)
def test_numpy_of_every_real_type_is_shared(dtype):
    data = (X * 10).astype(dtype)
    taken = as_embeddings(data)
    assert np.shares_memory(taken, data)
    block = row_block(taken, slice(3, 9))
    assert block.dtype == np.dtype(np.float32)
    assert block.dtype.isnative
    assert np.array_equal(block, data[3:9].astype(np.float32))
    assert np.allclose(column_means(taken), data.astype(np.float64).mean(axis=0), rtol=1e-12, atol=1e-12)


def test_strided_arrays_are_shared_and_blocks_are_contiguous():
    data = np.asfortranarray(np.repeat(X, 2, axis=1))[::-2, ::2]
    taken = as_embeddings(data)
    assert np.shares_memory(taken, data)
    block = row_block(taken, slice(0, 5))
    assert block.flags.c_contiguous
    assert np.array_equal(block, data[:5])
    assert np.array_equal(row_block(taken, np.array([7, 0, 7])), data[[7, 0, 7]])


def test_read_only_memory_map_is_shared(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    taken = as_embeddings(mapped)
    assert np.shares_memory(taken, mapped)
    assert np.shares_memory(row_block(taken, slice(2, 4)), mapped)
    assert np.allclose(column_means(taken), X.mean(axis=0, dtype=np.float64))


def test_row_block_is_aligned():
    raw = np.zeros(X.nbytes + 1, np.uint8)
    raw[1:] = X.ravel().view(np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(X.shape)
    assert not unaligned.flags.aligned
    block = row_block(unaligned, slice(0, 20))
    assert block.flags.aligned
    assert np.array_equal(block, X)


def test_row_block_subtracts_the_mean_before_it_rounds():
    offset = np.array([1e6, -1e6, 3e5, 0.0])
    data = X.astype(np.float64) + offset
    mean = column_means(data)
    exact = data - mean
    assert (
        np.abs(row_block(data, slice(None), mean=mean) - exact).max() <= np.finfo(np.float32).eps * np.abs(exact).max()
    )


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_matrix_and_masked_array():
    matrix = np.asmatrix(X)
    assert np.shares_memory(as_embeddings(matrix), matrix)
    assert type(as_embeddings(np.asmatrix(X))) is np.ndarray
    masked = np.ma.masked_array(X)
    assert np.shares_memory(as_embeddings(masked), X)
    masked[3, 1] = np.ma.masked
    with pytest.raises(InputError, match="hold 1 masked values"):
        as_embeddings(masked)


def test_nested_lists():
    assert np.array_equal(as_embeddings(X.tolist()), X.astype(np.float64))
    with pytest.raises(InputError, match="cannot be read as an array"):
        as_embeddings([[1.0, 2.0], [3.0], [4.0, 5.0]])


@given(st.integers(0, 200), st.integers(1, 50), st.integers(1, 4000))
def test_row_slices_cover_all_rows_once(n_rows, n_features, block_bytes):
    slices = list(row_slices(n_rows, n_features, itemsize=4, block_bytes=block_bytes))
    assert [row for rows in slices for row in range(rows.start, rows.stop)] == list(range(n_rows))
    assert all((rows.stop - rows.start) * n_features * 4 <= max(block_bytes, n_features * 4) for rows in slices)


# --- what is refused


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (X[0], r"have shape \(4,\); two dimensions"),
        (X[None], r"have shape \(1, 20, 4\); two dimensions"),
        (X[:2], r"have shape \(2, 4\); at least 3 points"),
        (X[:, :0], r"have shape \(20, 0\); at least 3 points"),
        (X.astype(object), "hold Python objects, not numbers"),
        (X.astype(np.complex64), "have dtype complex64; real numbers are needed"),
        (X.astype("U9"), "real numbers are needed"),
        (np.zeros(5, dtype=[("a", "f4")]), "real numbers are needed"),
        (3.0, "two dimensions"),
        (None, "hold Python objects"),
        ("embeddings.npy", "real numbers are needed"),
        ({"a": 1}, "hold Python objects"),
    ],
)
def test_what_is_no_matrix_of_numbers(data, sentence):
    with pytest.raises(InputError, match=f"The vectors .*{sentence}"):
        as_embeddings(data, name="vectors")


def test_sparse_matrices_are_refused():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    for sparse in (scipy_sparse.csr_matrix(X), scipy_sparse.coo_array(X)):
        with pytest.raises(InputError, match="are a sparse matrix; pass a dense array"):
            as_embeddings(sparse)


def test_nan_and_infinite_rows_are_counted_across_blocks(monkeypatch):
    data = np.zeros((1000, 8))
    for row, value in ((2, np.nan), (500, np.inf), (501, -np.inf), (502, np.nan), (998, np.nan), (999, np.inf)):
        data[row, row % 8] = value
    data[500, 7] = -np.inf  # the sum of the column is NaN by itself
    monkeypatch.setattr(arrays.embeddings, "row_slices", lambda n, d, itemsize: row_slices(n, d, block_bytes=4096))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=r"in 6 of 1000 rows \(rows 2, 500, 501, 502, 998, \.\.\.\); remove"):
            column_means(data)
        with pytest.raises(InputError, match=r"in 1 of 3 rows \(row 1\); remove or repair it"):
            column_means(np.array([[1], [np.inf], [2]], np.float16))


def test_sums_beyond_float64_are_explained_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="the sum of feature 1 exceeds the range of float64"):
            column_means(np.array([[0, 1.7e308], [0, 1.7e308], [0, 1.0]]))
