"""Arrays and labels of every library: shared where they can be, refused in one sentence where they must."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clorg_scale import arrays
from clorg_scale.arrays import (
    array_module,
    as_embeddings,
    available_memory,
    column_means,
    encode_labels,
    label_array,
    parse_memory,
    resolve_device,
    resolve_torch_device,
    row_block,
    row_slices,
    spool,
)
from clorg_scale.errors import InputError, MissingDependencyError

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


@pytest.fixture
def no_memory(monkeypatch):
    """No memory is free: everything that is gathered goes to disk."""
    monkeypatch.setattr(spool, "available_memory", lambda: 0)


# --- embeddings: NumPy


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


# --- embeddings: what is refused


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
        with pytest.raises(InputError, match=r"in 1 of 3 rows \(rows 1\)"):
            column_means(np.array([[1], [np.inf], [2]], np.float16))


def test_sums_beyond_float64_are_explained_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="the sum of feature 1 exceeds the range of float64"):
            column_means(np.array([[0, 1.7e308], [0, 1.7e308], [0, 1.0]]))


# --- embeddings: torch


def test_torch_shares_memory():
    torch = pytest.importorskip("torch")
    for tensor in (
        torch.from_numpy(X.copy()),
        torch.from_numpy(X.copy()).requires_grad_(),
        torch.nn.Parameter(torch.from_numpy(X.copy())),
        torch.from_numpy(X.copy()).half(),
        torch.from_numpy(X.copy())[:, ::2],
        torch.from_numpy(X.copy()).T.contiguous().T,
        torch.arange(60).reshape(20, 3),
        torch.ones(20, 3, dtype=torch.bool),
    ):
        taken = as_embeddings(tensor)
        assert np.shares_memory(taken, tensor.detach().numpy())
        assert taken.shape == tuple(tensor.shape)


def test_torch_bfloat16_block_by_block(no_memory, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(arrays.plain, "BLOCK_BYTES", 64)
    tensor = torch.from_numpy(X).bfloat16().requires_grad_()
    taken = as_embeddings(tensor)
    assert isinstance(taken, np.memmap)
    assert taken.dtype == np.float32
    assert np.array_equal(taken, tensor.detach().float().numpy())


def test_torch_sparse_and_dataless_tensors():
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="are a sparse tensor"):
        as_embeddings(torch.from_numpy(X).to_sparse())
    with pytest.raises(InputError, match="without data"):
        as_embeddings(torch.empty(20, 4, device="meta"))
    with pytest.raises(InputError, match="complex64"):
        as_embeddings(torch.zeros(4, 4, dtype=torch.complex64).conj())


# --- embeddings: protocols


class OnlyDLPack:
    """An array of a library that is known by nothing but DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack_shares_memory():
    data = X.copy()
    assert np.shares_memory(as_embeddings(OnlyDLPack(data)), data)
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="cannot be read through DLPack"):
        as_embeddings(OnlyDLPack(torch.from_numpy(X).bfloat16()))


def test_array_interface_shares_memory():
    class OnlyInterface:
        __array_interface__ = X.__array_interface__

    assert np.shares_memory(as_embeddings(OnlyInterface()), X)


@pytest.mark.skipif(arrays._gpu_problem() is None, reason="needs a machine without a GPU")
def test_data_on_a_gpu_without_cupy():
    class OnGpu:
        @property
        def __cuda_array_interface__(self):
            return {"shape": (3, 2), "typestr": "<f4", "data": (0, True), "version": 3}

    class OnGpuDLPack(OnlyDLPack):
        def __dlpack_device__(self):
            return (2, 0)

    try:
        import cupy  # noqa: F401
    except ImportError:
        for data in (OnGpu(), OnGpuDLPack(X)):
            with pytest.raises(MissingDependencyError, match=r"on a GPU needs .*pip install 'cupy-cuda13x"):
                as_embeddings(data)


@pytest.mark.gpu
def test_gpu_arrays_stay_where_they_are():
    if arrays._gpu_problem() is not None:
        pytest.skip(arrays._gpu_problem())
    import cupy

    on_gpu = cupy.asarray(X)
    assert as_embeddings(on_gpu) is on_gpu
    assert array_module(on_gpu) is cupy
    assert cupy.allclose(column_means(on_gpu), X.mean(axis=0, dtype=np.float64))
    assert encode_labels(cupy.arange(20) % 3, 20).counts.tolist() == [7, 7, 6]
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(X).cuda()
    assert as_embeddings(tensor).data.ptr == tensor.data_ptr()
    assert as_embeddings(tensor.bfloat16()).dtype == np.float32
    cudf = pytest.importorskip("cudf")
    assert isinstance(as_embeddings(cudf.DataFrame(X)), cupy.ndarray)
    assert cupy.array_equal(as_embeddings(cudf.Series(X.tolist())), cupy.asarray(X.tolist()))


# --- embeddings: frames and columns


def test_pandas_frames():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, copy=False)
    assert np.shares_memory(as_embeddings(frame), X)
    mixed = pd.DataFrame({"a": X[:, 0], "b": np.arange(20), "c": X[:, 1] > 0})
    assert np.array_equal(as_embeddings(mixed[["a", "b"]]), np.c_[X[:, 0].astype(np.float64), np.arange(20)])
    assert as_embeddings(mixed).shape == (20, 3)
    nullable = pd.DataFrame({"a": pd.array([1.5, None, 3.0], "Float64"), "b": pd.array([1, 2, 3], "Int64")})
    assert np.array_equal(as_embeddings(nullable), [[1.5, 1], [np.nan, 2], [3, 3]], equal_nan=True)
    nullable_integers = pd.DataFrame({"a": pd.array([1, None, 3], "Int32"), "b": pd.array([1, 2, 3], "Int32")})
    assert np.isnan(as_embeddings(nullable_integers)[1, 0])
    with pytest.raises(InputError, match="whose columns name, when are not numeric"):
        as_embeddings(mixed.assign(name="x", when=pd.Timestamp(0)))


def test_pandas_columns_of_lists():
    pd = pytest.importorskip("pandas")
    for rows in (list(X), X.astype(np.float64).tolist(), [tuple(row) for row in X.astype(np.float64).tolist()]):
        column = pd.Series(rows)
        taken = as_embeddings(column)
        assert np.array_equal(taken, X)
        assert taken.dtype == getattr(rows[0], "dtype", np.float64)
        assert np.array_equal(as_embeddings(column.to_frame()), X)
    with pytest.raises(InputError, match="differ in length: 4 numbers at row 0, 3 at row 7"):
        as_embeddings(pd.Series([*X[:7], X[7, :3], *X[8:]]))
    with pytest.raises(InputError, match="real numbers are needed"):
        as_embeddings(pd.Series([["a", "b"]] * 4))


def test_arrow_lists_share_memory():
    pa = pytest.importorskip("pyarrow")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)
    taken = as_embeddings(fixed)
    assert np.array_equal(taken, X)
    assert taken.ctypes.data == fixed.values.buffers()[1].address
    assert np.array_equal(as_embeddings(fixed[5:11]), X[5:11])
    chunked = pa.chunked_array([fixed[:7], fixed[7:7], fixed[7:]])
    assert np.array_equal(as_embeddings(chunked), X)
    assert np.array_equal(as_embeddings(pa.chunked_array([fixed])), X)
    assert np.array_equal(as_embeddings(pa.table({"emb": fixed})), X)
    assert np.array_equal(as_embeddings(pa.array(list(X))), X)
    assert np.array_equal(as_embeddings(pa.array(list(X))[3:9]), X[3:9])
    half = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel().astype(np.float16)), 4)
    assert as_embeddings(half).dtype == np.float16
    pd = pytest.importorskip("pandas")
    assert np.array_equal(as_embeddings(pd.Series(fixed, dtype=pd.ArrowDtype(fixed.type))), X)


def test_arrow_columns_that_cannot_be_used():
    pa = pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="1 missing values"):
        as_embeddings(pa.array([[1.0, 2.0], None, [3.0, 4.0]]))
    with pytest.raises(InputError, match="missing values"):
        as_embeddings(pa.array([[1.0, 2.0], [None, 1.0], [3.0, 4.0]]))
    with pytest.raises(InputError, match=r"differ in length: 2 and 1 numbers \(row 1\)"):
        as_embeddings(pa.array([[1.0, 2.0], [1.0], [3.0, 4.0]]))
    with pytest.raises(InputError, match="differ in length: 1 and 2 numbers"):
        as_embeddings(pa.chunked_array([[[1.0, 2.0]] * 3, [[1.0]] * 3]))


# --- embeddings: arrays that are read slice by slice


@pytest.mark.parametrize("memory", [0, 1 << 40])
def test_hdf5_and_zarr_datasets(tmp_path, monkeypatch, memory):
    h5py = pytest.importorskip("h5py")
    zarr = pytest.importorskip("zarr")
    monkeypatch.setattr(spool, "available_memory", lambda: memory)
    monkeypatch.setattr(arrays.plain, "BLOCK_BYTES", 100)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=X, chunks=(3, 2), compression="gzip")
        from_hdf5 = as_embeddings(dataset)
    stored = zarr.create_array(tmp_path / "x.zarr", data=X.astype(np.float16), chunks=(6, 4))
    from_zarr = as_embeddings(stored)
    assert isinstance(from_hdf5, np.memmap) == (memory == 0)
    assert np.array_equal(from_hdf5, X)
    assert from_zarr.dtype == np.float16
    assert np.array_equal(from_zarr, X.astype(np.float16))


def test_dask_array():
    da = pytest.importorskip("dask.array")
    assert np.array_equal(as_embeddings(da.from_array(X, chunks=(7, 2)) * 2), X * 2)


def test_gathered_file_takes_whole_chunks_and_leaves_nothing_behind(tmp_path, monkeypatch, no_memory):
    class Remote:
        """Remembers what was asked of it."""

        shape, dtype, ndim, chunks = (20, 4), X.dtype, 2, (6, 4)

        def __init__(self):
            self.asked = []

        def __getitem__(self, rows):
            self.asked.append(rows)
            return X[rows]

    monkeypatch.setattr(arrays.plain, "BLOCK_BYTES", 100)
    monkeypatch.setattr(spool.tempfile, "tempdir", str(tmp_path))
    remote = Remote()
    taken = as_embeddings(remote)
    assert np.array_equal(taken, X)
    assert [rows.start for rows in remote.asked] == [0, 6, 12, 18]
    assert list(tmp_path.iterdir()) == []


# --- labels


def coded(labels, n=None):
    result = encode_labels(labels, len(labels) if n is None else n)
    assert result.codes.dtype == np.int64
    return result.codes.tolist(), result.classes.tolist()


def test_labels_of_every_kind():
    assert coded([3, 1, 3]) == ([1, 0, 1], [1, 3])
    assert coded(np.array([3, 1, 3], ">i4")) == ([1, 0, 1], [1, 3])
    assert coded(np.array([3.0, 1.0, 3.0], np.float16)) == ([1, 0, 1], [1, 3])
    assert coded([True, False, True]) == ([1, 0, 1], [False, True])
    assert coded(["b", "a", "b"]) == ([1, 0, 1], ["a", "b"])
    assert coded(np.array(["ö", "a", "ö"], object)) == ([1, 0, 1], ["a", "ö"])
    assert coded(["ö".encode(), b"a"]) == ([1, 0], ["a", "ö"])
    assert coded(np.array([b"b", b"a"], object)) == ([1, 0], ["a", "b"])
    assert coded(np.array([2, 1], object)) == ([1, 0], [1, 2])
    assert coded(np.array([True, False], object)) == ([1, 0], [False, True])
    assert coded(np.array(["b", "a"], np.dtypes.StringDType())) == ([1, 0], ["a", "b"])
    assert coded(np.array([2**63 + 5, 1], np.uint64)) == ([1, 0], [1, 2**63 + 5])
    assert coded(np.array([[2], [1]]), 2) == ([1, 0], [1, 2])


def test_unlabelled_points():
    assert coded([-1, 5, 3, -1]) == ([-1, 1, 0, -1], [3, 5])
    assert coded([-1.0, 5.0, 3.0]) == ([-1, 1, 0], [3, 5])
    assert coded([-1, -5, 3]) == ([-1, 0, 1], [-5, 3])
    assert coded(["b", "-1", "a"]) == ([1, -1, 0], ["a", "b"])
    assert coded(np.array(["b", -1, "a"], object)) == ([1, -1, 0], ["a", "b"])
    assert coded(np.array(["", "-1", "a"], object)) == ([0, -1, 1], ["", "a"])
    assert coded(np.array([255, 3], np.uint8)) == ([1, 0], [3, 255])
    assert encode_labels([-1, 5, 3, -1, 5], 5).counts.tolist() == [1, 2]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_codes_give_the_labels_back(labels):
    if len(set(labels) - {-1}) < 2:
        with pytest.raises(InputError, match="at least two classes are needed"):
            encode_labels(labels, len(labels))
        return
    result = encode_labels(labels, len(labels))
    back = np.where(result.codes < 0, -1, result.classes[result.codes])
    assert back.tolist() == labels
    assert (result.counts > 0).all()
    assert -1 not in result.classes


def test_labels_of_frames_and_tensors():
    torch = pytest.importorskip("torch")
    pd = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow")
    expected = ([1, 0, 1], ["a", "b"])
    text = ["b", "a", "b"]
    assert coded(torch.tensor([7, 2, 7])) == ([1, 0, 1], [2, 7])
    assert coded(torch.tensor([7, -1, 2], dtype=torch.bfloat16)) == ([1, -1, 0], [2, 7])
    for column in (
        pd.Series(text),
        pd.Series(text, dtype="string"),
        pd.Series(text, dtype="string[pyarrow]"),
        pd.Series(text, dtype="category"),
        pd.Categorical(text, categories=["b", "never", "a"]),
        pd.CategoricalIndex(text),
        pd.DataFrame({"label": text}),
        pd.DataFrame({"label": text}, dtype="category"),
        pa.array(text),
        pa.array(text).dictionary_encode(),
        pa.chunked_array([["b"], ["a", "b"]]),
    ):
        assert coded(column) == expected
    assert coded(pd.Series([7, -1, 2], dtype="Int64")) == ([1, -1, 0], [2, 7])
    assert coded(pd.Series([7, -1, 2], dtype="category")) == ([1, -1, 0], [2, 7])


def test_missing_labels_are_counted():
    pd = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow")
    for labels in (
        [1.0, np.nan, np.nan, 2.0],
        np.array(["a", None, np.nan, "b"], object),
        pd.Series(["a", None, None, "b"], dtype="category"),
        pd.Series(["a", None, None, "b"], dtype="string"),
        pd.Series([1, None, None, 2], dtype="Int64"),
    ):
        with pytest.raises(InputError, match=r"2 of the labels are missing .*first at row 1\); write -1"):
            encode_labels(labels, 4)
    with pytest.raises(InputError, match="2 missing values"):
        encode_labels(pa.array(["a", None, None, "b"]), 4)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([1, 2], "There are 2 labels, but 3 embeddings"),
        (np.eye(3), r"have shape \(3, 3\).*argmax"),
        (3, r"have shape \(\)"),
        ([0.0, 0.5, 1.0], r"not whole numbers \(the first is 0.5 at row 1\)"),
        ([0.0, np.inf, 1.0], r"not whole numbers \(the first is inf at row 1\)"),
        ([0.0, 1e300, 1.0], "not whole numbers"),
        ([7, 7, 7], "hold a single class; at least two"),
        ([7, -1, 7], "hold a single class; at least two"),
        ([-1, -1, -1], r"hold no class \(all points are unlabelled\)"),
        ([1j, 2, 3], "dtype complex128"),
        (np.array(["2020", "2021", "2022"], "M8[Y]"), "dtype datetime64"),
        (np.array([1, "a", 2], object), r"mix Python objects \(int, str\)"),
        (np.array([(1,), "a", 2], object), r"mix Python objects \(int, str, tuple\)"),
        ([b"\xff\xfe", b"a", b"b"], "not UTF-8"),
    ],
)
def test_labels_that_cannot_be_used(labels, sentence):
    with pytest.raises(InputError, match=sentence):
        encode_labels(labels, 3)


def test_a_class_of_one_point_is_fine():
    assert encode_labels([0, 0, 1], 3).counts.tolist() == [2, 1]


def test_label_array_takes_a_single_class():
    assert label_array(["a", "a"]).tolist() == ["a", "a"]
    assert label_array(np.array(["a", -1], object)).tolist() == ["a", "-1"]


# --- devices and memory


def test_devices():
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(InputError, match="must be 'auto', 'cpu' or 'cuda', not 'tpu'"):
        resolve_device("tpu")
    if arrays._gpu_problem() is not None:
        assert resolve_device("auto") == "cpu"
        with pytest.raises(InputError, match=r"device='cuda' was asked for, but .*device='cpu'"):
            resolve_device("cuda")


def test_pytorch_needs_no_cupy_on_a_gpu(monkeypatch):
    cuda = pytest.importorskip("torch").cuda
    for seen in (True, False):
        monkeypatch.setattr(cuda, "is_available", lambda seen=seen: seen)
        assert resolve_torch_device("cpu") == "cpu"
        assert resolve_torch_device() == ("cuda" if seen else "cpu")
    with pytest.raises(InputError, match="PyTorch sees no usable GPU"):
        resolve_torch_device("cuda")
    with pytest.raises(InputError, match="not 'tpu'"):
        resolve_torch_device("tpu")


@pytest.mark.parametrize(
    ("limit", "n_bytes"),
    [("8GB", 8 * 10**9), ("512MiB", 512 << 20), (" 1.5 g ", 1_500_000_000), ("100", 100), (100, 100), (None, None)],
)
def test_memory_limits(limit, n_bytes):
    assert parse_memory(limit) == n_bytes


@pytest.mark.parametrize("limit", ["", "many", "8XB", "-1GB", 0, -5, "0GB"])
def test_memory_limits_that_make_no_sense(limit):
    with pytest.raises(InputError, match="memory limit"):
        parse_memory(limit)


def test_available_memory_is_an_amount_of_bytes():
    assert 1 << 20 < available_memory() < 1 << 50


def test_importing_arrays_stays_light():
    code = (
        "import clorg_scale.arrays, sys; print([m for m in ('torch', 'pandas', 'pyarrow', 'h5py') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("amount", [1, 999, 1000, 1001, 50_331_648, 99_949, 99_951, 999_999, 123_456_789_012])
def test_memory_that_suffices_is_rounded_up(amount):
    from clorg_scale.arrays.memory import at_least

    said = parse_memory(at_least(amount).replace("bytes", ""))
    assert amount <= said <= 1.011 * amount
