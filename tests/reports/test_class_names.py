"""Names of classes: stored with embeddings, shown in reports, test sets matched by them whatever their numbers."""

import json

import numpy as np
import pytest
from command_line import assert_one_sentence, run, tree

import clorg_scale as cs
from clorg_scale.errors import InputError

NAMES = ["apple", "bear", "cat", "dog"]
OTHER_NAMES = ["apple", "cat", "dog"]
QUICK = {"k": 5, "map_points": 0, "probes": ["knn"], "device": "cpu", "method": "exact"}


def blobs(classes, n, seed):
    """Points about the corner of their class among four, n each; labels are positions in `classes`."""
    rng = np.random.default_rng(seed)
    corners = {name: 10 * np.eye(4)[i] for i, name in enumerate(NAMES)}
    points = np.concatenate([rng.normal(corners[name], 1, (n, 4)) for name in classes])
    return points.astype(np.float32), np.repeat(np.arange(len(classes)), n)


@pytest.fixture
def stores(tmp_path):
    for file, classes, seed in (("train", NAMES, 0), ("test", OTHER_NAMES, 1)):
        points, labels = blobs(classes, 15, seed)
        cs.save_embeddings(tmp_path / file, points, labels, {"class_names": classes})
    return tmp_path


def knn_accuracy(analysis):
    return next(probe.accuracy for probe in analysis.probes)


@pytest.mark.slow
def test_test_points_are_matched_by_name(stores):
    train, test = (cs.load_embeddings(stores / name) for name in ("train", "test"))
    assert (train.class_names, test.class_names) == (NAMES, OTHER_NAMES)
    by_store = cs.analyze(train, test_embeddings=test, **QUICK)
    by_array = cs.analyze(
        train.embeddings,
        train.labels,
        test_embeddings=test.embeddings,
        test_labels=test.labels,
        class_names=train.class_names,
        test_class_names=test.class_names,
        **QUICK,
    )
    for analysis in (by_store, by_array):
        assert analysis.classes == NAMES
        assert knn_accuracy(analysis) == 1
    numbers = cs.analyze(
        train.embeddings, train.labels, test_embeddings=test.embeddings, test_labels=test.labels, **QUICK
    )
    assert knn_accuracy(numbers) == pytest.approx(1 / 3)  # what the numbers say where no names are known


@pytest.mark.parametrize("named", ["train", "test"])
def test_names_are_matched_with_labels_that_are_names(stores, named):
    train, test = (cs.load_embeddings(stores / name) for name in ("train", "test"))
    texts = {"train": np.array(NAMES)[train.labels], "test": np.array(OTHER_NAMES)[test.labels]}
    if named == "train":
        analysis = cs.analyze(train, test_embeddings=test.embeddings, test_labels=texts["test"], **QUICK)
    else:
        analysis = cs.analyze(train.embeddings, texts["train"], test_embeddings=test, **QUICK)
    assert analysis.classes == NAMES
    assert knn_accuracy(analysis) == 1


def test_the_command_line_shows_and_matches_names(stores):
    out = stores / "out"
    settings = ("--k=5", "--probes=knn", "--map-points=0", "--device=cpu", "--method=exact")
    done = run("analyze", stores / "train", "--test-embeddings", stores / "test", "--out", out, *settings)
    assert done.code == 0, done.err
    document = json.loads((out / "analysis.json").read_text())
    assert document["classes"] == NAMES
    assert document["probes"][0]["accuracy"] == 1
    assert all(name in (out / "report.html").read_text() for name in NAMES)
    done = run("rld", stores / "train", "--method", "exact", "--device", "cpu", "--json")
    assert list(json.loads(done.out)["per_class"]) == NAMES


def test_classes_that_only_test_points_have_are_named(stores):
    points, labels = blobs(["cat", "dog", "apple"], 5, 2)
    cs.save_embeddings(stores / "more", points, labels, {"class_names": ["cat", "eel", "fox"]})
    before = tree(stores)
    command = ("analyze", stores / "train", "--test-embeddings", stores / "more", "--k", 5, "--out", stores / "out")
    assert_one_sentence(run(*command), "2 classes that the labels do not", "'eel', 'fox'")
    assert tree(stores) == before


def test_labels_of_another_file_do_not_take_the_names_of_the_store(stores):
    labels = cs.load_embeddings(stores / "train").labels
    np.save(stores / "y.npy", 3 - labels)
    assert cs.load_embeddings(stores / "train", labels=stores / "y.npy").class_names is None
    assert cs.load_embeddings(stores / "train", labels=stores / "train").class_names == NAMES
    assert cs.load_embeddings(stores / "train", labels="labels").class_names == NAMES


def test_unlabelled_points_have_no_name(stores):
    train, test = (cs.load_embeddings(stores / name) for name in ("train", "test"))
    labels, test_labels = train.labels.copy(), test.labels.copy()
    labels[[0, -1]] = test_labels[[3, 20]] = -1
    analysis = cs.analyze(
        train.embeddings,
        labels,
        test_embeddings=test.embeddings,
        test_labels=test_labels,
        class_names=NAMES,
        test_class_names=OTHER_NAMES,
        **QUICK,
    )
    assert (analysis.classes, analysis.n_unlabelled, analysis.n_test) == (NAMES, 2, 43)
    assert knn_accuracy(analysis) == 1


@pytest.mark.parametrize(
    ("names", "sentence"),
    [(NAMES[:3], r"class 3, but class_names has names for 0 to 2"), ([*NAMES[:3], "cat"], "'cat' twice")],
)
def test_names_that_do_not_go_with_the_labels(stores, names, sentence):
    train = cs.load_embeddings(stores / "train")
    with pytest.raises(InputError, match=sentence):
        cs.analyze(train.embeddings, train.labels, class_names=names, **QUICK)


def test_training_points_as_test_points_are_told(stores):
    train = cs.load_embeddings(stores / "train")
    with pytest.warns(UserWarning, match="test embeddings are the embeddings themselves"):
        cs.analyze(train, test_embeddings=train, **QUICK)


def test_embeddings_without_labels_get_a_sentence(stores):
    points, _ = blobs(NAMES, 5, 0)
    with pytest.raises(InputError, match="no labels"):
        cs.analyze(points, **QUICK)
