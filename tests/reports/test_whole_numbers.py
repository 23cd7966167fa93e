"""Counts, seeds and numbers of neighbors may be integers of any library, and nothing else."""

import numpy as np
import pytest

import clorg_scale as cs
from clorg_scale import demo
from clorg_scale.datasets import Images, compact_mixture, locally_dense_mixture
from clorg_scale.errors import InputError
from clorg_scale.layout import lay_out
from clorg_scale.probes import KNNProbe, LabelPropagationProbe, LinearProbe
from clorg_scale.studies import measures, modality, temperature
from clorg_scale.studies.trainings import Setting
from clorg_scale.whole import real_number, whole_number

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


def mixture(draw, **numbers):
    return draw(**{"n_points": 30, "n_features": 4} | numbers)[0].sum()


CALLS |= {
    f"{draw.__name__} {name}": lambda value, draw=draw, name=name: mixture(draw, **{name: value})
    for draw in (compact_mixture, locally_dense_mixture)
    for name in ("n_points", "n_features", "n_classes", "n_dimensions", "seed")
}
CALLS["locally_dense_mixture clusters_per_class"] = lambda value: mixture(
    locally_dense_mixture, clusters_per_class=value
)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_integers_of_numpy_are_integers(call):
    assert call(3) == call(np.int64(3)) == call(np.uint8(3)) == call(np.array(3))


@pytest.mark.parametrize("value", [True, np.bool_(True), 1.5, 3.0, np.float64(3), "a", "3"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nothing_else_is(call, value):
    with pytest.raises(InputError, match="must be a whole number"):
        call(value)


@pytest.mark.parametrize("name", [name for name in CALLS if "mixture" in name])
def test_none_is_no_number_of_a_mixture(name):
    with pytest.raises(InputError, match=f"{name.split()[1]} must be a whole number of . or more, not None"):
        CALLS[name](None)


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


def test_real_numbers():
    assert real_number("x", np.float32(0.5)) == real_number("x", np.array(0.5)) == 0.5
    assert type(real_number("x", np.int64(2))) is float
    for wrong in (True, "1", "a", None, np.nan, np.inf, -1, [1, 2], 10**400):
        with pytest.raises(InputError, match="x must be a number of 0 or more, not "):
            real_number("x", wrong)
    for wrong in (0, -0.1, None, np.inf):
        with pytest.raises(InputError, match="x must be a positive number, not "):
            real_number("x", wrong, positive=True)
    with pytest.raises(InputError, match=r"x must be a number from 0 to 2, not 2\.5"):
        real_number("x", 2.5, most=2)


NOISE = np.random.default_rng(0).integers(0, 255, (48, 1, 8, 8)).astype(np.uint8)


@pytest.mark.parametrize("value", [True, 1.5, 3.0, "a", None])
@pytest.mark.parametrize(
    "name",
    [
        "build n_channels",
        "build image_size",
        "build width",
        "build seed",
        "train epochs",
        "train batch_size",
        "train checkpoint_every",
        "train seed",
        "train learning_rate",
        "embed batch_size",
        "Recorder every",
        "Recorder n_images",
        "Recorder batch_size",
        "Recorder seed",
        "first",
        "spread",
        "load_images image_size",
    ],
)
def test_backbones(tmp_path, name, value):
    pytest.importorskip("torchvision")
    from clorg_scale import backbones
    from clorg_scale.datasets import load_images

    images = Images(NOISE, np.arange(48) % 3, ["a", "b", "c"], "noise")
    small = {"n_channels": 1, "image_size": 8, "width": 2, "seed": 3}
    settings = {"epochs": 1, "batch_size": 8, "checkpoint_every": 1, "seed": 3, "learning_rate": 1e-3}
    function, _, option = name.partition(" ")

    def call(number):
        if function == "build":
            return backbones.build("resnet18", **small | {option: number}).settings
        if function == "train":
            training = settings | {option: number}
            network = backbones.train(
                images, backbones.build("resnet18", **small), method="supervised", device="cpu", **training
            )
            return float(sum(weights.double().sum() for weights in network.state_dict().values()))
        if function == "embed":
            network = backbones.build("resnet18", **small)
            stored = backbones.embed(network, images, out=tmp_path / "e", device="cpu", **{option: number})
            return len(stored.embeddings)
        if function == "Recorder":
            numbers = {"every": 1, "n_images": 48, "batch_size": 8, "seed": 3} | {option: number}
            return backbones.Recorder(images, out=tmp_path / "r", **numbers).every
        if function == "load_images":
            return load_images("fashion-mnist", image_size=number)
        return len(getattr(images, function)(number))

    kind = "a positive" if option == "learning_rate" else "a whole"
    if not (option == "learning_rate" and value in (1.5, 3.0)):
        with pytest.raises(InputError, match=f"must be {kind} number"):
            call(value)
    usual = (small | settings | {"every": 2, "n_images": 48}).get(option, 8)
    if value is None and function != "load_images":
        assert call(usual) == call(np.array(usual)[()])


def test_a_number_of_epochs_is_optional(tmp_path):
    pytest.importorskip("torchvision")
    from clorg_scale import backbones

    images = Images(NOISE, np.arange(48) % 3, ["a", "b", "c"], "noise")
    assert backbones.Recorder(images, out=tmp_path, epochs=np.uint8(3)).epochs == 3
    assert backbones.Recorder(images, out=tmp_path).epochs is None
    with pytest.raises(InputError, match="epochs must be a whole number"):
        backbones.Recorder(images, out=tmp_path, epochs=2.5)
