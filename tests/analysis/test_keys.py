"""Cache keys of stages: every argument of every stage's function counts, whichever it is."""

import dataclasses
import inspect

import numpy as np
import pytest

from clorg_scale.affinity import AffinityGraph
from clorg_scale.analysis import probing, steps
from clorg_scale.analysis.keys import Keys
from clorg_scale.analysis.probing import Probing
from clorg_scale.analysis.resources import Resources
from clorg_scale.analysis.stages import Stage, Stages, stage
from clorg_scale.arrays import ClassLabels
from clorg_scale.neighbors import KNN
from clorg_scale.neighbors.shared import first_neighbors

STAGES = [value for module in (steps, probing) for value in vars(module).values() if isinstance(value, Stage)]
STAGES = list({stage.name: stage for stage in [*STAGES, *probing.study_scores.values()]}.values())


def points(seed=0):
    return np.random.default_rng(seed).normal(size=(6, 3)).astype(np.float32)


def labels(*codes):
    return ClassLabels(np.array(codes or (0, 1, 0, 1, 0, 1)), np.arange(2))


def table(distance=1.0):
    return KNN(np.array([[1], [0]]), np.array([[distance], [1.0]], np.float32), "euclidean", "flat", 2)


def graph(weight=1.0):
    return AffinityGraph(np.array([0, 1, 2]), np.array([1, 0]), np.array([weight, 1.0], np.float32))


def probes(**changed):
    settings = {
        "points": points(),
        "classes": labels(),
        "test": points(2),
        "test_codes": np.array([0, 1, 0, 1, 0, 1]),
        "probes": ["knn"],
        "table": table(),
        "k": 3,
        "mean_distance": 1.0,
        "seed": 0,
        "resources": Resources("cpu"),
    }
    return Probing(**settings | changed)


VALUES = {
    "points": (points(), points(1)),
    "test": (points(2), points(3)),
    "classes": (labels(), labels(1, 1, 0, 1, 0, 1)),
    "codes": (np.array([0, 1, 0]), np.array([0, 1, 1])),
    "graph": (graph(), graph(2.0)),
    "table": (table(), table(1.5)),
    "shared": (table(), None),
    "perplexity": (30.0, 31.0),
    "probing": (probes(), probes(k=4)),
    "resources": (Resources("cpu"), Resources("cuda")),
    "temperatures": ([1.0, 0.1], [1.0, 0.2]),
    "method": ("auto", "exact"),
    "approximation": ({}, {"target_error": 0.01}),
    "resolution": (1.0, 2.0),
    "left_out": ("", "Left out: gcn."),
    "varied": ("labels", "neighbors"),
    "tried": ((0.1,), (0.1, 0.2)),
} | dict.fromkeys(("n_asked", "k", "seed", "n_vectors", "map_points"), (5, 6))
"""Two values of each parameter that a stage's function has."""


def key(stage, **arguments):
    return Keys().of_call(stage.name, stage.function, (), arguments)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_argument_changes_the_key(stage):
    parameters = inspect.signature(stage.function).parameters
    arguments = {name: VALUES[name][0] for name in parameters}
    equal = {name: VALUES[name][0] for name in parameters}
    keys = [key(stage, **arguments)]
    assert key(stage, **equal) == keys[0]
    keys += [key(stage, **arguments | {name: VALUES[name][1]}) for name in parameters]
    assert len(set(keys)) == 1 + len(parameters)


def test_stages_have_keys_of_their_own():
    assert len(STAGES) == 13
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    assert key(probing.probe_scores, probing=probes(), left_out="") != Keys().of_call(
        "other", probing.probe_scores.function, (), {"probing": probes(), "left_out": ""}
    )


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("points", points(1)),
        ("classes", labels(0, 0, 0, 1, 0, 1)),
        ("test", points(3)),
        ("test", None),
        ("test_codes", np.array([0, 1, 0, 1, 0, 0])),
        ("table", table(1.5)),
        ("table", None),
        ("probes", ["linear"]),
        ("k", 4),
        ("mean_distance", 1.1),
        ("seed", 1),
        ("resources", Resources("cuda")),
    ],
)
def test_every_field_of_the_probes_points_counts(field, other):
    assert {field.name for field in dataclasses.fields(Probing)} >= {field}
    first, second = (key(probing.probe_scores, probing=p, left_out="") for p in (probes(), probes(**{field: other})))
    assert first != second


def test_what_only_decides_how_fast_a_stage_is_does_not_count():
    slow = Resources("cpu", requested="auto", memory_limit=1, client=object(), progress=True)
    arguments = {"points": points(), "k": 2, "seed": 0}
    assert key(steps.neighbors, resources=slow, **arguments) == key(
        steps.neighbors, resources=Resources("cpu", "cpu"), **arguments
    )


def test_defaults_and_positions_count_as_keywords_do():
    def function(a, b=2):
        return a + b

    of_call = Keys().of_call
    assert (
        of_call("f", function, (1,), {}) == of_call("f", function, (1, 2), {}) == of_call("f", function, (), {"a": 1})
    )
    assert of_call("f", function, (1,), {}) != of_call("f", function, (1, 3), {})


def test_arguments_whose_contents_are_not_known_are_refused():
    with pytest.raises(TypeError, match="argument of type object"):
        Keys().of_call("f", lambda a: a, (object(),), {})


@dataclasses.dataclass(frozen=True)
class Total:
    value: float
    values: np.ndarray


@stage("total", lambda total: f"{total.value:g}.")
def total(values: np.ndarray, *, scale: float) -> Total:
    return Total(float(values.sum() * scale), values)


@stage("twice", lambda total: f"{total.value:g}.")
def twice(total: Total) -> Total:
    return Total(2 * total.value, total.values)


def test_a_result_counts_by_the_key_of_its_stage(tmp_path):
    """Also where it was read from the folder; a changed setting reaches the stages that stand on it."""

    def names(scale):
        run = Stages(tmp_path, resume=True)
        half = run.derived(lambda total: total.value / 2, run(total, np.arange(3.0), scale=scale))
        assert run(twice, run(total, np.arange(3.0), scale=scale)).value == 6 * scale
        assert half == 1.5 * scale
        return {path.name for path in tmp_path.iterdir()}

    first = names(1.0)
    assert len(first) == 2
    assert names(1.0) == first
    both = names(2.0)
    assert first < both
    assert len(both) == 4


def test_a_table_counts_by_its_contents_however_it_was_cut():
    """So a search of more neighbors, such as that of a study, leaves what is made of the first ones as it is."""
    wide = KNN(np.array([[1, 2], [0, 2], [1, 0]]), np.array([[1, 2], [1, 3], [3, 4.0]]), "euclidean", "flat", 3)
    own = KNN(wide.indices[:, :1].copy(), wide.distances[:, :1].copy(), "euclidean", "flat", 3)
    keys = Keys()
    keys.remember(wide, "of a search")
    keys.remember(own, "of another search")
    assert len({str(keys._described(first_neighbors(table, 1))) for table in (wide, own)}) == 1
    assert keys._described(first_neighbors(wide, 2)) != keys._described(first_neighbors(wide, 1))
