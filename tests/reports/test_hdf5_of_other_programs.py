"""HDF5 files as R (rhdf5, hdf5r), Julia (HDF5.jl, JLD2), Java and Fortran write them."""

import numpy as np
import pytest
from command_line import run

from clorg_scale.store import load_embeddings, load_labels

h5py = pytest.importorskip("h5py")

X = np.random.default_rng(0).normal(size=(12, 3))
Y = np.arange(12) % 3


def fixed_text(text, *, padding, size=16):
    """Type and value of a string of fixed length."""
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(size)
    kind.set_strpad(padding)
    return kind, np.array(text, dtype=f"S{size}")


PADDINGS = [h5py.h5t.STR_NULLTERM, h5py.h5t.STR_NULLPAD, h5py.h5t.STR_SPACEPAD]


def add_attribute(item, name, text, *, shape, padding):
    """Add a string of fixed length as an attribute, scalar or an array of one."""
    kind, value = fixed_text(text, padding=padding)
    space = h5py.h5s.create(h5py.h5s.SCALAR) if shape == () else h5py.h5s.create_simple(shape)
    h5py.h5a.create(item.id, name.encode(), kind, space).write(value.reshape(shape), mtype=kind)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_encodings_as_bytes_and_arrays_of_one(tmp_path, padding, shape):
    path = tmp_path / "r.h5ad"
    with h5py.File(path, "w") as file:
        file["X"] = X
        add_attribute(file["X"], "encoding-type", "array", shape=shape, padding=padding)
        obs = file.create_group("obs")
        add_attribute(obs, "encoding-type", "dataframe", shape=shape, padding=padding)
        kind = obs.create_group("labels")
        add_attribute(kind, "encoding-type", "categorical", shape=shape, padding=padding)
        kind["codes"] = Y.astype(np.int8)
        kind["categories"] = np.array([b"ape", b"bee", b"cat"])
    stored = load_embeddings(path)
    assert np.array_equal(stored.embeddings, X)
    assert stored.labels.tolist() == [["ape", "bee", "cat"][code] for code in Y]
    assert run("rld", path).code == 0


@pytest.mark.parametrize(
    "value",
    [
        np.bytes_(b"array"),
        np.array(["array"], dtype=h5py.string_dtype()),
        np.array([b"a", b"b"]),
        np.arange(3),
        1.5,
        h5py.Empty("S4"),
        np.array([(1, 2)], dtype=[("major", int), ("minor", int)]),
    ],
)
def test_attributes_of_any_type_are_no_reason_to_refuse(tmp_path, value):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["embeddings"], file["labels"] = X, Y
        file["embeddings"].attrs["encoding-type"] = value
        file.create_group("more").attrs["encoding-type"] = value
    stored = load_embeddings(tmp_path / "x.h5")
    assert np.array_equal(stored.embeddings, X)
    assert stored.labels.tolist() == Y.tolist()


def test_named_types(tmp_path):
    with h5py.File(tmp_path / "julia.h5", "w") as file:
        file["_types/00000001"] = np.dtype([("re", "f8"), ("im", "f8")])
        file["number"] = np.dtype(">f4")
        file.create_dataset("embeddings", data=X, dtype=file["number"])
        file["labels"] = Y
        file["labels"].attrs.create("julia type", np.int8(1), dtype=np.dtype("i1"))
    stored = load_embeddings(tmp_path / "julia.h5")
    assert np.array_equal(stored.embeddings, X.astype(">f4"))
    assert stored.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("padding", PADDINGS)
def test_labels_of_fixed_length_in_utf8_that_is_called_ascii(tmp_path, padding):
    names = ["Bär", "cat", "dog"]
    kind, values = fixed_text([names[code].encode() for code in Y], padding=padding)
    assert kind.get_cset() == h5py.h5t.CSET_ASCII
    if padding == h5py.h5t.STR_SPACEPAD:
        values = np.char.ljust(values, 16)
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["embeddings"] = X
        h5py.h5d.create(file.id, b"labels", kind, h5py.h5s.create_simple((12,))).write(
            h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=kind
        )
    assert load_labels(tmp_path / "r.h5").tolist() == [names[code] for code in Y]


def test_types_that_numpy_lacks_and_datasets_without_data_beside_the_embeddings(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["embeddings"] = X
        file["nothing"] = h5py.Empty("f8")
        file["reference"] = file["embeddings"].ref
        file.create_dataset("ragged", (2,), dtype=h5py.vlen_dtype("f8"))
        enumeration = h5py.h5t.enum_create(h5py.h5t.NATIVE_INT32)
        enumeration.enum_insert(b"A", 1)
        h5py.h5d.create(file.id, b"opaque", h5py.h5t.create(h5py.h5t.OPAQUE, 5), h5py.h5s.create_simple((3,)))
        h5py.h5d.create(file.id, b"kinds", enumeration, h5py.h5s.create_simple((3,)))
    assert np.array_equal(load_embeddings(tmp_path / "x.h5").embeddings, X)
