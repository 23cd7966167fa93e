"""Labels, test points and settings that do not fit: exit code 2, one sentence, nothing written."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_one_sentence, run, tree
from mistakes import LABELS, OUT, STAGES, N, command, points, refused, spoiled

from clorg_scale.arrays import resolve_device
from clorg_scale.errors import InputError

# ---- labels ----------------------------------------------------------------------------------------------------

BAD_LABELS = {
    "too few": (lambda: LABELS[:-1], (f"{N - 1} labels", f"{N} embeddings")),
    "too many": (lambda: np.arange(N + 1) % 3, (f"{N + 1} labels",)),
    "fractions": (lambda: LABELS + np.where(LABELS == 1, 0.5, 0), ("not whole numbers", "1.5 at row 1")),
    "nan": (lambda: np.where(LABELS == 2, np.nan, LABELS), ("missing", "row 2", "-1")),
    "infinite": (lambda: np.where(LABELS == 2, np.inf, LABELS), ("not whole numbers",)),
    "one class": (lambda: np.full(N, 3), ("single class", "two")),
    "unlabelled": (lambda: np.full(N, -1), ("unlabelled",)),
    "one class beside unlabelled": (lambda: np.where(LABELS == 0, 4, -1), ("single class",)),
    "one-hot": (lambda: np.eye(3)[LABELS], ("holds no labels",)),
    "dates": (lambda: LABELS.astype("datetime64[s]"), ("dtype", "integers or strings")),
}


@pytest.mark.parametrize("name", ["analyze", "rld", "communities"])
@pytest.mark.parametrize("bad", BAD_LABELS)
def test_bad_labels(here, name, bad):
    make, words = BAD_LABELS[bad]
    np.save("y.npy", make())
    refused(here, command(name), *words)


def test_every_point_a_class_of_its_own(here):
    np.save("y.npy", np.arange(N))
    refused(here, command("analyze"), "class of its own")


@pytest.mark.parametrize("name", ["analyze", "rld", "communities"])
def test_label_files_that_cannot_be_read(here, name):
    (here / "y.xlsx").write_bytes(b"PK")
    (here / "empty.txt").touch()
    (here / "y.json").write_text('{"labels": [1, 2')
    (here / "folder").mkdir()
    np.save("objects.npy", np.array([1, None, "a"] * 20, dtype=object), allow_pickle=True)
    for file, words in (
        ("y.xlsx", ("y.xlsx", "unknown format", ".csv")),
        ("empty.txt", ("empty.txt is empty",)),
        ("y.json", ("y.json",)),
        ("folder", ("folder is a folder",)),
        ("objects.npy", ("Python objects",)),
        ("no.txt", ("no.txt does not exist",)),
        ("no_such_array", ("no array 'no_such_array'",)),
    ):
        shutil.rmtree(here / "results", ignore_errors=True)
        (here / OUT[name]).unlink(missing_ok=True) if Path(OUT[name]).suffix else None
        refused(here, command(name, "x.npy", file), *words)


@pytest.mark.parametrize("name", ["analyze", "rld"])
def test_labels_that_are_not_there(here, name):
    refused(here, command(name, "x.npy", None), "x.npy holds no labels", "--labels")


def test_test_points_that_do_not_fit(here):
    X, y = points(), LABELS
    np.save("few.npy", X[:2])
    np.save("wide.npy", np.hstack([X, X]))
    np.save("nan.npy", spoiled([1], np.nan))
    np.save("names.npy", LABELS.astype(str))
    np.save("new.npy", LABELS + 1)
    np.save("none.npy", np.full(N, -1))
    np.save("two.npy", y[:2])
    for test, labels, words in (
        ("few.npy", "two.npy", ("few.npy have shape (2, 4)", "at least 3 points")),
        ("wide.npy", "y.npy", ("test embeddings have 8 features", "4")),
        ("nan.npy", "y.npy", ("test embeddings hold NaN", "row 1)")),
        ("x.npy", "names.npy", ("the same kind of names",)),
        ("x.npy", "new.npy", ("test labels hold a class", "3")),
        ("x.npy", "none.npy", ("None of the test points has a label",)),
        ("x.npy", "two.npy", ("2 labels",)),
        ("x.npy", None, ("x.npy holds no labels",)),
        (None, "y.npy", ("--test-labels", "without --test-embeddings")),
    ):
        shutil.rmtree(here / "results", ignore_errors=True)
        given = [] if test is None else ["--test-embeddings", test]
        given += [] if labels is None else ["--test-labels", labels]
        refused(here, (*command("analyze"), *given), *words)


# ---- settings --------------------------------------------------------------------------------------------------

ALL = [
    (("--k", "0"), ("k must be a whole number from 1 to 39",)),
    (("--k", "-3"), ("k must be a whole number from 1 to 39",)),
    (("--k", str(N)), ("k must be a whole number from 1 to 39", str(N))),
    (("--k", "many"), ("--k",)),
    (("--seed", "-1"), ("--seed", "-1")),
    (("--seed", str(2**32)), ("--seed",)),
    (("--seed", "1.5"), ("--seed",)),
    (("--device", "tpu"), ("'auto', 'cpu' or 'cuda'", "'tpu'")),
    (("--memory-limit", "much"), ("'much' is not an amount of memory", "8GB")),
    (("--memory-limit", "-8GB"), ("'-8GB'",)),
    (("--memory-limit", "0"), ("positive",)),
    (("--memory-limit", "10kB"), ("at least", "B, more than")),
    (("--bogus", "1"), ("--bogus", "--help")),
]
TEMPERATURES = [
    (("--temperatures", "0.1,0"), ("positive", "0.0")),
    (("--temperatures", "-1"), ("positive", "-1.0")),
    (("--temperatures", "nan"), ("positive",)),
    (("--temperatures", "inf"), ("positive",)),
    (("--temperatures", "1e-9"), ("1e-09 is too small",)),
    (("--temperatures", "hot"), ("separated by commas", "'hot'")),
    (("--temperatures", ","), ("No temperature",)),
    (("--method", "magic"), ("method", "'exact'", "'magic'")),
    (("--target-error", "0"), ("target_error", "positive")),
    (("--target-error", "nan"), ("target_error", "positive")),
]
SETTINGS = {
    "analyze": [
        *ALL,
        *TEMPERATURES,
        (("--probes", "linear,oracle"), ("'oracle'", "linear", "gcn")),
        (("--communities", "magic"), ("community_method", "'leiden'", "'magic'")),
        (("--resolution", "0"), ("resolution", "positive")),
        (("--resolution", "nan"), ("resolution", "positive")),
        (("--map-points", "-5"), ("map_points", "0 for no map")),
        (("--map-points", "1"), ("map_points", "3 or more")),
    ],
    "rld": [*(case for case in ALL if case[0][0] != "--k"), *TEMPERATURES],
    "knn": [
        *ALL,
        (("--metric", "manhattan"), ("metric", "'cosine'", "'manhattan'")),
        (("--index", "magic"), ("index", "'magic'", "'hnsw'")),
        (("--index", ""), ("index",)),
    ],
    "communities": [
        *ALL,
        (("--method", "magic"), ("method", "'louvain'", "'magic'")),
        (("--resolution", "-1"), ("resolution", "positive")),
        (("--temperature", "0"), ("temperature", "positive")),
        (("--temperature", "nan"), ("temperature", "positive")),
    ],
}


@pytest.mark.parametrize(
    ("name", "given", "words"), [(name, *case) for name, cases in SETTINGS.items() for case in cases]
)
def test_bad_settings(here, name, given, words):
    refused(here, command(name, "x.npy", "y.npy", *given), *words)


@pytest.mark.parametrize("k", [0, N])
def test_neighbors_of_the_graph_method(here, k):
    refused(here, command("rld", "x.npy", "y.npy", "--method", "graph", "--k", k), "k must be a whole number")


@pytest.mark.parametrize("name", STAGES)
def test_a_gpu_that_is_not_there(here, name):
    try:
        resolve_device("cuda")
    except InputError:
        refused(here, command(name, "x.npy", "y.npy", "--device", "cuda"), "device='cuda'", "doctor")
    else:
        pytest.skip("this machine has a GPU")


@pytest.mark.parametrize("name", STAGES)
def test_the_memory_limit_named_does(here, name):
    """The least that the error sentence names is enough, and one percent less is not."""
    arguments = command(name)
    sentence = run(*arguments, "--memory-limit", "10kB").err
    amount, unit = re.search(r"at least ([\d.]+) (kB|MB|GB)", sentence).groups()
    assert run(*arguments, "--memory-limit", f"{0.99 * float(amount) - 1}{unit}").code == 2
    assert not (here / OUT[name]).exists()
    assert run(*arguments, "--memory-limit", f"{amount}{unit}").code == 0


def test_wrong_arguments(here):
    for arguments, words in (
        (("bogus",), ("'bogus'", "clorg-scale --help")),
        (("rld",), ("EMBEDDINGS", "clorg-scale rld --help")),
        (("analyze", "x.npy"), ("--out",)),
        (("compare",), ("FOLDERS",)),
        (("doctor", "all"), ("all", "clorg-scale doctor --help")),
        (("doctor", "--fast"), ("--fast",)),
        (("demo", "--seed", "-1"), ("--seed",)),
        (("demo", "fashion"), ("fashion",)),
        (("--bogus",), ("--bogus",)),
    ):
        before = tree(here)
        assert_one_sentence(run(*arguments), *words)
        assert tree(here) == before
