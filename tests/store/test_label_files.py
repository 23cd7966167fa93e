"""Labels in files of every format."""

import numpy as np
import pytest
from stored_arrays import X, Y

from clorg_scale.errors import InputError
from clorg_scale.store import load_labels, save_embeddings


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("y.txt", "3\n-1\n3\n", [3, -1, 3]),
        ("y.txt", "cat\r\ndog\r\n\r\n", ["cat", "dog"]),
        ("y.txt", "\ufeff1.0\n2.0", [1, 2]),
        ("y.txt", "label\ncat\n", ["label", "cat"]),
        ("y.csv", 'cat\n"dog, big"\n', ["cat", "dog, big"]),
        ("y.csv", "species\n3\n-1\n", [3, -1]),
        ("y.csv", "label\na\nb\n", ["a", "b"]),
        ("y.csv", "id,label\n7,a\n8,b\n", ["a", "b"]),
        ("y.csv:id", "id,label\n7,a\n8,b\n", [7, 8]),
        ("y.tsv", "id\ty\n7\ta b\n8\tb\n", ["a b", "b"]),
        ("y.json", "[3, 1, -1]", [3, 1, -1]),
        ("y.json", '{"labels": ["a", "b"], "n": 2}', ["a", "b"]),
        ("y.json:kind", '{"labels": ["a", "b"], "kind": [true, false]}', [True, False]),
        ("y.json", '["a", -1, "b"]', ["a", "-1", "b"]),
    ],
)
def test_label_files(tmp_path, name, text, labels):
    (tmp_path / name.partition(":")[0]).write_bytes(text.encode())
    assert load_labels(f"{tmp_path}/{name}").tolist() == labels


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("y.txt", b"", "is empty"),
        ("y.txt", b"1\n\n2\n", "has no label in row 2; write -1"),
        ("y.txt", b"1.5\n2\n", "not whole numbers"),
        ("y.txt", b"\xff\xfe\x00", "cannot be read as text"),
        ("y.csv", b"a,b\n1\n", "has 2 columns in row 1, but 1 in row 2"),
        ("y.csv", b"a,b\n1,2\n", "several arrays that may be the labels"),
        ("y.csv", b'"open\n', "cannot be read as text"),
        ("y.json", b"{", "is not a JSON file"),
        ("y.json", b"3", "must hold a list of labels"),
        ("y.json", b'{"n": 3}', "must hold a list of labels"),
        ("y.json", b"[1, null, 2]", "1 of the labels in .* is missing"),
        ("y.json", b"[[1], [2]]", "mix Python objects"),
        ("y.json", b"[" * 100_000, "is not a JSON file"),
    ],
)
def test_label_files_that_cannot_be_used(tmp_path, name, data, sentence):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=sentence):
        load_labels(tmp_path / name)


def test_labels_from_arrays(tmp_path):
    np.save(tmp_path / "y.npy", np.array(["a", "b"]))
    assert load_labels(tmp_path / "y.npy").tolist() == ["a", "b"]
    np.savez(tmp_path / "y.npz", whatever=Y, X=X)
    assert load_labels(tmp_path / "y.npz").tolist() == Y.tolist()
    save_embeddings(tmp_path / "s", X, Y)
    assert load_labels(tmp_path / "s").tolist() == Y.tolist()
