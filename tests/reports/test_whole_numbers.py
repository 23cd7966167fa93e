"""Counts, seeds and numbers of neighbors may be integers of any library, and nothing else."""

import numpy as np
import pytest

import clorg_scale as cs
from clorg_scale import demo
from clorg_scale.errors import InputError
from clorg_scale.layout import lay_out
from clorg_scale.probes import KNNProbe, LabelPropagationProbe, LinearProbe
from clorg_scale.studies import measures, modality, temperature
from clorg_scale.studies.trainings import Setting
from clorg_scale.whole import whole_number

LABELS = np.arange(90) % 3
POINTS = np.random.default_rng(0).normal(size=(90, 4)) + 2.0 * (LABELS == 1)[:, None]
TABLE = cs.knn(POINTS, 8, metric="cosine")
GRAPH = cs.affinity_graph(cs.knn(POINTS, 8))
TRAIN = np.arange(90) < 60

CALLS = {
    "rld k": lambda value: cs.rld(POINTS, LABELS, k=value, method="graph").values[0],
    "rld seed": lambda value: cs.rld(POINTS, LABELS, seed=value, temperatures=[1]).null_std[0],
    "knn k": lambda value: cs.knn(POINTS, value).distances.sum(),
    "knn seed": lambda value: cs.knn(POINTS, 5, seed=value).mean_distance,
    "recall sample": lambda value: TABLE.recall(POINTS, value),
    "recall seed": lambda value: TABLE.recall(POINTS, 5, seed=value),
    "from_arrays n_points": lambda value: (
        cs.KNN.from_arrays([[1], [2], [1]], [[1.0], [1.0], [2.0]], metric="euclidean", n_points=value).n_points
    ),
    "class_homogeneity ks": lambda value: next(iter(cs.class_homogeneity(TABLE, LABELS, ks=[value]).items())),
    "communities seed": lambda value: cs.communities(GRAPH, seed=value).modularity,
    "rld_of_subsets sizes": lambda value: (
        cs.rld_of_subsets(POINTS, LABELS, sizes=[value], n_subsets=2).sizes[0]
        if isinstance(value, (bool, np.bool_, str, float))
        else cs.rld_of_subsets(POINTS, LABELS, sizes=[np.int64(40) + value], n_subsets=2).values[0, 0]
    ),
    "rld_of_subsets n_subsets": lambda value: cs.rld_of_subsets(
        POINTS, LABELS, sizes=[30], n_subsets=value, temperatures=[1]
    ).values[0, 0],
    "LinearProbe max_epochs": lambda value: LinearProbe(max_epochs=value).fit(POINTS, LABELS).score(POINTS, LABELS),
    "LinearProbe batch_size": lambda value: (
        LinearProbe(max_epochs=2, batch_size=value, patience=value).fit(POINTS, LABELS).score(POINTS, LABELS)
    ),
    "KNNProbe k": lambda value: KNNProbe(value).fit(POINTS, LABELS).score(POINTS, LABELS),
    "lay_out n_points": lambda value: lay_out(POINTS, LABELS, n_points=value)[1].sum(),
    "lay_out seed": lambda value: lay_out(POINTS, LABELS, n_points=5, seed=value)[1].sum(),
    "LabelPropagationProbe seed": lambda value: (
        LabelPropagationProbe(seed=value).fit(GRAPH, LABELS, TRAIN).score(LABELS, ~TRAIN)
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_integers_of_numpy_are_integers(call):
    assert call(3) == call(np.int64(3)) == call(np.uint8(3)) == call(np.array(3))


@pytest.mark.parametrize("value", [True, np.bool_(True), 1.5, 3.0, np.float64(3), "a", "3"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nothing_else_is(call, value):
    with pytest.raises(InputError, match="must be a whole number"):
        call(value)


def test_analyze_keeps_plain_numbers(tmp_path):
    settings = {
        "probes": [],
        "seed": np.int64(2),
        "k": np.int32(5),
        "map_points": np.uint16(0),
        "chi_points": np.int8(9),
    }
    analysis = cs.analyze(POINTS, LABELS, output=tmp_path, **settings)
    assert cs.Analysis.from_json(tmp_path).settings == analysis.settings
    for name in settings.keys() - {"probes"}:
        for wrong in (True, 2.5, "a"):
            with pytest.raises(InputError, match=f"{name} must be a whole number"):
                cs.analyze(POINTS, LABELS, **settings | {name: wrong})


def test_none_is_no_seed():
    with pytest.raises(InputError, match="seed must be a whole number of 0 or more, not None"):
        cs.communities(GRAPH, seed=None)


def test_range_and_place_are_told():
    assert whole_number("k", np.int64(4), 1, 9) == 4
    assert type(whole_number("k", np.int64(4), 1, 9)) is int
    with pytest.raises(InputError, match="k must be a whole number from 1 to 9 for 10 points, not 10"):
        whole_number("k", 10, 1, 9, where=" for 10 points")


def test_graph_networks():
    torch = pytest.importorskip("torch")
    del torch
    numbers = {"max_epochs": 3, "hidden": 4, "n_layers": 2, "fanout": 3, "batch_size": 20, "patience": 2, "seed": 1}

    def probabilities(settings):
        return cs.probes.GCNProbe(**settings).fit(GRAPH, LABELS, TRAIN).predict_proba()

    of_numpy = {name: np.int64(value) for name, value in numbers.items()}
    np.testing.assert_array_equal(probabilities(numbers), probabilities(of_numpy))
    for name in numbers.keys() - {"fanout"}:
        with pytest.raises(InputError, match=f"{name} must be a whole number"):
            probabilities(numbers | {name: 2.5})


@pytest.mark.parametrize("name", ["width", "epochs", "batch_size", "n_images", "seed"])
def test_settings_of_trainings(name):
    setting = Setting(**{name: np.int64(3)})
    assert setting == Setting(**{name: 3})
    assert type(getattr(setting, name)) is int
    assert setting.training("") == Setting(**{name: 3}).training("")
    for wrong in (True, 1.5, "3", None, -1):
        with pytest.raises(InputError, match=f"{name} must be a whole number"):
            Setting(**{name: wrong})


SEEDED = {
    "demo": (demo.run_demo, demo, "analyze"),
    "measure": (lambda out, seed: measures.measure(POINTS, LABELS, seed=seed), measures, "rld"),
    "study_temperature": (temperature.study_temperature, temperature, "rld"),
    "study_modality": (modality.study_modality, modality, "measure"),
}


class Reached(Exception):
    """The computation that a seed is for was reached."""


@pytest.mark.parametrize(("function", "room", "computation"), SEEDED.values(), ids=SEEDED)
def test_seeds_of_studies_and_the_demo(function, room, computation, tmp_path, monkeypatch):
    seeds = []

    def compute(*_, seed, **__):
        seeds.append(seed)
        raise Reached

    monkeypatch.setattr(room, computation, compute)
    for seed in (3, np.int64(3), np.array(3)):
        with pytest.raises(Reached):
            function(out=tmp_path / "out", seed=seed)
    assert seeds == [3, 3, 3]
    assert {type(seed) for seed in seeds} == {int}
    for wrong in (True, 1.5, "3", None, 2**32):
        with pytest.raises(InputError, match="seed must be a whole number from 0 to 4294967295"):
            function(out=tmp_path / "out", seed=wrong)
    assert list(tmp_path.iterdir()) == []
