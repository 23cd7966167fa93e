"""Labels in files: what is written is the class, and what is missing is refused with its row."""

import pickle
import re

import numpy as np
import pytest
from command_line import assert_one_sentence, run

import clorg_scale as cs
from clorg_scale.arrays import encode_labels, label_array
from clorg_scale.errors import InputError
from clorg_scale.store import load_labels

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def written(folder, cells, ending):
    """Labels in a text file of one column, or of two for ``.csv2``, with a header where a format has one."""
    path = folder / f"y{ending.rstrip('2')}"
    header = {".txt": "", ".csv": "label\n", ".tsv": "label\n", ".csv2": "id,label\n"}[ending]
    rows = [f"7,{cell}" if ending == ".csv2" else cell for cell in cells]
    path.write_text(header + "\n".join(rows) + "\n")
    return path


ENDINGS = pytest.mark.parametrize("ending", [".txt", ".csv", ".tsv", ".csv2"])


@ENDINGS
@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["1_10", "11_0", "110"], ["1_10", "11_0", "110"]),
        (["1E2", "100", "1e2"], ["1E2", "100", "1e2"]),
        (["007", "7", "07"], ["007", "7", "07"]),
        (["+1", "1", "-1"], ["+1", "1", "-1"]),
        (["-0", "0", "3"], ["-0", "0", "3"]),
        (["1", "1.0", "2"], ["1", "1.0", "2"]),
        (["1.0", "1.00", "2.0"], ["1.0", "1.00", "2.0"]),
        (["٣", "3", "4"], ["٣", "3", "4"]),
        (["0x10", "16", "1"], ["0x10", "16", "1"]),
        (["inf", "Infinity", "1"], ["inf", "Infinity", "1"]),
        (["True", "1", "true"], ["True", "1", "true"]),
        (["10", "-1", "2"], [10, -1, 2]),
        (["0", "-9223372036854775808", "9223372036854775807"], [0, -(2**63), 2**63 - 1]),
        (["1.0", "-1.0", "2.0"], [1, -1, 2]),
        (["9223372036854775808", "9223372036854775809", "1"], ["9223372036854775808", "9223372036854775809", "1"]),
        (["1" * 5000, "1" * 5001, "1"], ["1" * 5000, "1" * 5001, "1"]),
        (["9007199254740993.0", "9007199254740992.0", "1.0"], ["9007199254740993.0", "9007199254740992.0", "1.0"]),
    ],
    ids=lambda value: value[0][:12] if isinstance(value[0], str) else "",
)
def test_two_texts_are_two_classes(tmp_path, cells, labels, ending):
    read = load_labels(written(tmp_path, cells, ending))
    assert read.tolist() == labels
    n_classes = len({cell for cell in cells if cell not in ("-1", "-1.0")})
    assert len(encode_labels(read, 3).names) == n_classes


@ENDINGS
@pytest.mark.parametrize("cell", ["", " ", "\t ", '""', '"  "'])
@pytest.mark.parametrize("others", [("3", "4"), ("cat", "dog")])
def test_an_empty_label_is_refused_with_its_row(tmp_path, cell, others, ending):
    if ending == ".txt" and '"' in cell:
        pytest.skip("quotes mean nothing in lines")
    if ending == ".tsv" and cell == "\t ":
        cell = "   "
    path = written(tmp_path, [others[0], cell, others[1]], ending)
    row = 2 if ending == ".txt" else 3
    with pytest.raises(InputError, match=rf"has no label in row {row}.*; write -1 for a point without a class"):
        load_labels(path)
    np.save(tmp_path / "x.npy", X[:3])
    assert_one_sentence(run("rld", tmp_path / "x.npy", "--labels", path), f"no label in row {row}")


@pytest.mark.parametrize("ending", [".csv2", ".csv"])
def test_an_empty_label_in_the_last_row(tmp_path, ending):
    path = written(tmp_path, ["cat", "dog", '""'], ending)
    with pytest.raises(InputError, match="has no label in row 4"):
        load_labels(path)


def test_empty_cells_of_other_columns_and_lines_at_the_end_are_fine(tmp_path):
    path = tmp_path / "y.csv"
    path.write_text("id,label,note\n1,3,\n,4,x\n\n\n")
    assert load_labels(path).tolist() == [3, 4]
    with pytest.raises(InputError, match="has no label in row 3 in column 'id'"):
        load_labels(f"{path}:id")


@ENDINGS
@pytest.mark.parametrize("cell", ["NA", "NaN", "nan", "null", "<NA>"])
def test_what_other_programs_write_for_missing(tmp_path, cell, ending):
    row = 2 if ending == ".txt" else 3
    for others in (("3", "-1"), ("1.0", "2.0")):
        with pytest.raises(InputError, match=f"no label in row {row}.* which says '{cell}'; write -1"):
            load_labels(written(tmp_path, [others[0], cell, others[1]], ending))
    with pytest.warns(UserWarning, match=f"'{cell}' \\(first in row {row}\\) is taken as a class"):
        assert load_labels(written(tmp_path, ["cat", cell, "dog"], ending)).tolist() == ["cat", cell, "dog"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("y.csv", "label\n", "has a header, but no rows"),
        ("y.csv", "id,label\n", "has a header, but no rows"),
        ("y.tsv", "id\tlabel\n\n", "has a header, but no rows"),
        ("y.csv", "label,label\n1,2\n", "several columns named 'label'"),
        ("y.csv", "", "is empty"),
        ("y.csv", "\n\n", "is empty"),
        ("y.txt", " \n", "is empty"),
        ("y.csv", "0.5\n1.5\n", "not whole numbers"),
        ("y.csv", "id,label\n1,0.5\n2,1\n", "not whole numbers"),
        ("y.json", "[36893488147419103232, 1, 2]", "more than 64 bits (the first at row 0)"),
        ("y.json", "[1, -9223372036854775809]", "more than 64 bits (the first at row 1)"),
        ("y.json", f"[1, {10**300}]", "more than 64 bits"),
        ("y.json", f"[1.5, {10**400}]", "not whole numbers"),
        ("y.json", "[1, 1e999]", "not whole numbers"),
        ("y.json", "[true, 1, 0]", "mix Python objects (bool, int)"),
    ],
)
def test_label_files_that_cannot_be_used(tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    np.save(tmp_path / "x.npy", X)
    assert_one_sentence(run("rld", tmp_path / "x.npy", "--labels", tmp_path / name))
    with pytest.raises(InputError, match=re.escape(sentence)):
        load_labels(tmp_path / name)


def test_large_integers_keep_their_digits(tmp_path):
    (tmp_path / "y.json").write_text("[18446744073709551615, 18446744073709551614, 1]")
    assert load_labels(tmp_path / "y.json").tolist() == [2**64 - 1, 2**64 - 2, 1]
    (tmp_path / "y.json").write_text("[9007199254740993, 9007199254740992, 1.0]")
    assert load_labels(tmp_path / "y.json").tolist() == [2**53 + 1, 2**53, 1]


def test_a_list_of_text_and_missing_values_is_not_all_text():
    for missing in (None, float("nan")):
        with pytest.raises(InputError, match=r"1 of the labels is missing .*row 1"):
            label_array(["a", missing, "b"])
    with pytest.raises(InputError, match=r"mix Python objects \(int, str\)"):
        label_array([1, "1", "a"])
    assert label_array(["a", -1, "b"]).tolist() == ["a", "-1", "b"]


# --- labels beside embeddings


def store(path, embeddings, labels):
    """Both in one file of whatever format."""
    if path.suffix == ".npz":
        np.savez(path, embeddings=embeddings, labels=labels)
    elif path.suffix == ".h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["embeddings"], file["labels"] = embeddings, labels
    elif path.suffix == ".zarr":
        group = pytest.importorskip("zarr").open_group(path, mode="w")
        group.create_array("embeddings", data=embeddings)
        group.create_array("labels", data=labels)
    elif path.suffix == ".safetensors":
        pytest.importorskip("safetensors.numpy").save_file({"embeddings": embeddings, "labels": labels}, path)
    else:
        torch = pytest.importorskip("torch")
        torch.save({"embeddings": torch.from_numpy(embeddings), "labels": torch.from_numpy(labels)}, path)


@pytest.mark.parametrize("ending", [".npz", ".h5", ".zarr", ".safetensors", ".pt"])
def test_labels_of_shape_n_1(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    labels = np.array([[3], [4], [3], [-1], [4], [4]])
    store(path, X, labels)
    assert cs.load_embeddings(path).labels.tolist() == labels.ravel().tolist()
    assert load_labels(path).tolist() == labels.ravel().tolist()
    store(path, X, np.eye(6, dtype=np.int64))
    with pytest.raises(InputError, match=r"holds no labels: 'labels' has shape \(6, 6\); .*argmax"):
        cs.load_embeddings(path)
    assert run("knn", path, "--k", "2").code == 0  # which needs no labels


def test_a_file_of_labels_of_shape_n_1(tmp_path):
    np.save(tmp_path / "y.npy", np.array([["a"], ["b"]]))
    assert load_labels(tmp_path / "y.npy").tolist() == ["a", "b"]
    np.savez(tmp_path / "y.npz", whatever=np.array([[1], [2]]), X=X[:2])
    assert load_labels(tmp_path / "y.npz").tolist() == [1, 2]


def test_an_array_of_embeddings_may_have_a_name_of_labels(tmp_path):
    np.save(tmp_path / "y.npy", X)
    stored = cs.load_embeddings(tmp_path / "y.npy")
    np.testing.assert_array_equal(stored.embeddings, X)
    assert stored.labels is None


def test_labels_that_are_python_objects_are_refused_not_overlooked(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, embeddings=X, labels=np.array(["a", "b", "a", "b", "a", "b"], object))
    assert_one_sentence(run("rld", path), "labels", "Python objects, which are never unpickled")
    assert_one_sentence(run("rld", path, "--labels", path), "Python objects")
    assert run("knn", path, "--k", "2").code == 0
    np.save(tmp_path / "y.npy", np.array(["a", 3], object))
    with pytest.raises(InputError, match="Python objects, which are never unpickled"):
        load_labels(tmp_path / "y.npy")


def test_objects_in_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    for labels, dtype in (
        (np.array(list("ababab"), object), h5py.string_dtype()),
        (np.array([list("ababab")], object).T, h5py.string_dtype()),
        (np.array(list("ababab"), "S"), None),
    ):
        with h5py.File(path, "w") as file:
            file["X"] = X
            file.create_dataset("labels", data=labels, dtype=dtype)
        assert cs.load_embeddings(path).labels.tolist() == list("ababab")
    for labels in (np.array([pickle.dumps("a")] * 6, "V"), np.ones(6, [("a", "i4"), ("b", "i4")])):
        with h5py.File(path, "w") as file:
            file["X"], file["labels"] = X, labels
        assert_one_sentence(run("rld", path), "'labels'", "has type")
