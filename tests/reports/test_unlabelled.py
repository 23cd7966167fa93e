"""-1 is unlabelled, unless it is a class: how many points are, and what makes one doubt it, is told."""

import json
import warnings

import numpy as np
import pytest
from command_line import run

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.probes import KNNProbe, LabelPropagationProbe, LinearProbe

N = 120
CODES = np.arange(N) % 3
POINTS = np.random.default_rng(0).normal(size=(N, 4)) + 2.0 * np.eye(3, 4)[CODES]
SIGNS, THREE, TEXT = np.where(CODES == 0, -1, 1), CODES - 1, np.array(["-1", "a", "b"])[CODES]
TABLE = cs.knn(POINTS, 6, metric="cosine")
GRAPH = cs.affinity_graph(cs.knn(POINTS, 6))
TRAIN = np.arange(N) < 80


def values_of_rld(labels, **options):
    return cs.rld(POINTS, labels, temperatures=[0.2], **options).values[0]


MEASURES = {
    "rld": values_of_rld,
    "rld_of_subsets": lambda labels, **options: cs.rld_of_subsets(
        POINTS, labels, sizes=[60], n_subsets=2, temperatures=[1], **options
    ).values[0, 0],
    "class_homogeneity": lambda labels, **options: cs.class_homogeneity(TABLE, labels, ks=[3], **options)[3],
    "calinski_harabasz": lambda labels, **options: cs.calinski_harabasz(POINTS, labels, **options),
    "modularity": lambda labels, **options: cs.modularity(GRAPH, labels, **options),
    "linear": lambda labels, **options: len(LinearProbe(max_epochs=1, **options).fit(POINTS, labels).classes_),
    "knn": lambda labels, **options: len(KNNProbe(3, **options).fit(POINTS, labels).classes_),
    "label_propagation": lambda labels, **options: len(
        LabelPropagationProbe(alpha=0.5, **options).fit(GRAPH, labels, TRAIN).classes_
    ),
    "analyze": lambda labels, **options: cs.analyze(POINTS, labels, k=5, probes=[], map_points=0, **options).rld.values[
        0
    ],
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_minus_one_as_a_class(measure):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = measure(CODES)
        assert measure(THREE, unlabelled=None) == expected
        assert measure(THREE.astype(float), unlabelled=None) == expected
        assert measure(TEXT, unlabelled=None) == expected
        assert measure(SIGNS, unlabelled=None) == measure(CODES != 0)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_another_label_for_unlabelled_points(measure):
    named = np.array(["a", "b", "unknown"])[CODES]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = measure(np.where(CODES == 2, -1, CODES))
    assert measure(np.where(CODES == 2, 99, CODES), unlabelled=99) == expected
    assert measure(named, unlabelled="unknown") == expected


@pytest.mark.parametrize("labels", [THREE, THREE.astype(float), TEXT, CODES * 5 - 1, np.where(CODES, CODES + 3, -1)])
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_warning_where_it_looks_like_a_class(measure, labels):
    with pytest.warns(UserWarning, match=r"-1, which means unlabelled.*unlabelled=None") as told:
        measure(labels)
    assert len(told) == 1


@pytest.mark.parametrize("measure", [MEASURES[name] for name in ("rld", "class_homogeneity", "linear", "analyze")])
def test_no_warning_where_it_does_not(measure):
    few, most = CODES.copy(), CODES.copy()
    few[:6] = -1
    most[:99] = -1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(few)
        measure(most)


def test_hidden_test_labels_are_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LabelPropagationProbe(alpha=0.5).fit(GRAPH, np.where(TRAIN, CODES, -1), TRAIN)


def test_signs_name_the_way_out():
    with pytest.raises(InputError, match=r"a single class; at least two .*40 of them are -1.*unlabelled=None"):
        cs.rld(POINTS, SIGNS)
    with pytest.warns(UserWarning, match="look like a class"):
        cs.modularity(GRAPH, SIGNS)


def test_the_count_is_in_every_result(tmp_path):
    labels = CODES.copy()
    labels[:7] = -1
    assert cs.rld(POINTS, labels).n_unlabelled == 7
    assert cs.rld(POINTS, CODES).n_unlabelled == 0
    analysis = cs.analyze(POINTS, labels, k=5, probes=[], map_points=0, output=tmp_path)
    assert analysis.n_unlabelled == 7
    assert "7 unlabelled" in (tmp_path / "report.html").read_text()


def test_a_label_that_cannot_be_is_refused():
    for wrong in (1.5, True, [1]):
        with pytest.raises(InputError, match="unlabelled must be a label"):
            cs.rld(POINTS, CODES, unlabelled=wrong)
    with pytest.raises(InputError, match="the labels are integers"):
        cs.rld(POINTS, CODES, unlabelled="nothing")


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "x.npy", POINTS)
    for name, labels in (("three", THREE), ("signs", SIGNS)):
        np.save(tmp_path / f"{name}.npy", labels)
    return tmp_path


def test_command_line_of_rld(files):
    told = run("rld", files / "x.npy", "--labels", files / "three.npy")
    assert (told.code, told.err.count("\n")) == (0, 1)
    assert "40 of the 120 labels are -1" in told.err
    assert "120 points (40 unlabelled) in 2 classes" in told.out
    whole = run("rld", files / "x.npy", "--labels", files / "three.npy", "--unlabelled", "none", "--json")
    assert (whole.code, whole.err) == (0, "")
    document = json.loads(whole.out)
    assert document["n_unlabelled"] == 0
    assert set(document["per_class"]) == {"-1", "0", "1"}
    refused = run("rld", files / "x.npy", "--labels", files / "signs.npy")
    assert refused.code == 2
    assert "a single class; at least two" in refused.err


def test_command_line_of_communities_and_analyze(files):
    told = run("communities", files / "x.npy", "--labels", files / "three.npy", "--k", "5")
    assert told.code == 0
    assert "unlabelled points" in told.out
    out = files / "out"
    options = ("--k", "5", "--probes", "none", "--map-points", "0", "--out", out)
    told = run("analyze", files / "x.npy", "--labels", files / "three.npy", *options)
    assert told.code == 0
    assert told.err.count("which means unlabelled") == 1
    assert "40 unlabelled" in told.out
    whole = run("analyze", files / "x.npy", "--labels", files / "three.npy", "--unlabelled", "none", *options)
    assert (whole.code, whole.err) == (0, "")
    assert json.loads((out / "analysis.json").read_text())["classes"] == ["-1", "0", "1"]
