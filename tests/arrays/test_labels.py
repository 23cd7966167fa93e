"""Labels of every library: their codes and classes, which points have none, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clorg_scale.arrays import encode_labels, label_array
from clorg_scale.errors import InputError


def coded(labels, n=None):
    result = encode_labels(labels, len(labels) if n is None else n)
    assert result.codes.dtype == np.int64
    return result.codes.tolist(), result.names.tolist()


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
    back = np.where(result.codes < 0, -1, result.names[result.codes])
    assert back.tolist() == labels
    assert (result.counts > 0).all()
    assert -1 not in result.names


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


def test_names_in_a_column_of_cudf():
    """CuPy holds no strings: cuDF's columns of them, of pandas' type for strings, go through pandas."""
    pd = pytest.importorskip("pandas")
    host = pd.Series(["b", "a", "b"], dtype=pd.StringDtype(na_value=np.nan))

    class Series:
        __module__ = "cudf.core.series"
        ndim, iloc, dtype = 1, None, host.dtype

        def to_pandas(self):
            return host

        def isna(self):
            return host.isna()

        def __len__(self):
            return len(host)

        @property
        def values(self):
            raise TypeError("String arrays are not supported by CuPy")

    assert coded(Series()) == ([1, 0, 1], ["a", "b"])


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
