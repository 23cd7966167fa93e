"""Numbers with their nouns."""

import numpy as np
import pytest

import clorg_scale as cs
from clorg_scale.arrays import encode_labels
from clorg_scale.counted import counted, numbered
from clorg_scale.errors import InputError


@pytest.mark.parametrize(
    ("n", "noun", "text"),
    [(1, "row", "1 row"), (0, "row", "0 rows"), (5000, "class", "5,000 classes"), (2, "index", "2 indexes")],
)
def test_a_number_and_its_noun(n, noun, text):
    assert counted(n, noun) == text


def test_irregular_plurals():
    assert counted(3, "community", plural="communities") == "3 communities"
    assert counted(1, "community", plural="communities") == "1 community"


@pytest.mark.parametrize(
    ("rows", "total", "text"), [([3], 1, "row 3"), ([3, 5], 2, "rows 3, 5"), ([3, 5], 9, "rows 3, 5, ...")]
)
def test_numbered_rows(rows, total, text):
    assert numbered("row", np.array(rows), total) == text


def test_sentences_about_one_of_a_kind():
    X = np.random.default_rng(0).normal(size=(30, 3))
    y = np.arange(30) % 2
    with pytest.raises(InputError, match=r"There is 1 label, but 30 embeddings"):
        cs.rld(X, y[:1])
    with pytest.raises(InputError, match=r"There is 1 label in y.npy, but 30 embeddings"):
        encode_labels(y[:1], 30, name="labels in y.npy")
    assert repr(cs.knn(X, 1)).find("1 neighbor of 30 points") >= 0
    X[4] = 0
    with pytest.raises(InputError, match=r"1 zero vector \(row 4\)"):
        cs.knn(X, 3, metric="cosine")
    X[4] = np.nan
    with pytest.raises(InputError, match=r"in 1 of 30 rows \(row 4\); remove or repair it\."):
        cs.knn(X, 3)
