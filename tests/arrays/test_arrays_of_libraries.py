"""Arrays of other libraries: tensors, frames, columns, files that are read slice by slice."""

import numpy as np
import pytest
from twenty_points import X

from clorg_scale import arrays
from clorg_scale.arrays import array_module, as_embeddings, column_means, encode_labels, spool
from clorg_scale.errors import InputError, MissingDependencyError


@pytest.fixture
def no_memory(monkeypatch):
    """No memory is free: everything that is gathered goes to disk."""
    monkeypatch.setattr(spool, "available_memory", lambda: 0)


# --- torch


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


# --- protocols


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


# --- frames and columns


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


# --- arrays that are read slice by slice


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
