"""The memory limit of an analysis covers every stage that can say what it needs, and the normalized copy."""

import re

import numpy as np
import pytest

import clorg_scale as cs
from clorg_scale.analysis.inputs import LabeledPoints, check_inputs
from clorg_scale.arrays import parse_memory
from clorg_scale.arrays.normalize import normalize_within
from clorg_scale.errors import InputError

LABELS = np.arange(300) % 3
POINTS = (np.random.default_rng(0).normal(size=(300, 6)) + 2.0 * np.eye(3, 6)[LABELS]).astype(np.float32)
SETTINGS = {"probes": [], "k": 5, "device": "cpu", "temperatures": (0.5,)}


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"map_points": 0}, r"(RLD of|Searching \d+ neighbors of) 300 points"),
        ({"map_points": 300, "perplexity": 1000}, "The map of 300 points"),
    ],
)
def test_the_limit_is_asked_before_anything_is_computed(tmp_path, settings, what):
    with pytest.raises(InputError, match=what) as refused:
        cs.analyze(POINTS, LABELS, memory_limit="1MB", output=tmp_path / "out", **SETTINGS | settings)
    assert not (tmp_path / "out").exists()
    # What the sentence asks for does.
    enough = re.search(r"needs at least ([\d.]+ .B)", str(refused.value))[1]
    result = cs.analyze(POINTS, LABELS, memory_limit=enough, **SETTINGS | settings)
    assert result.n_points == 300


def test_the_normalized_copy_counts_or_lies_in_a_file():
    n_bytes = POINTS.nbytes
    inside = normalize_within(POINTS, 10 * n_bytes, needed=9 * n_bytes)
    assert not isinstance(inside.embeddings, np.memmap)
    assert inside.memory_limit == 9 * n_bytes
    outside = normalize_within(POINTS, 10 * n_bytes, needed=9 * n_bytes + 1)
    assert isinstance(outside.embeddings, np.memmap)
    assert outside.memory_limit == 10 * n_bytes
    np.testing.assert_array_equal(outside.embeddings, inside.embeddings)
    assert normalize_within(POINTS, None, needed=0).memory_limit is None
    assert normalize_within(POINTS, "1GB", needed=0).memory_limit == parse_memory("1GB") - n_bytes


def test_both_copies_of_an_analysis_share_the_limit():
    given, test = (LabeledPoints.handed_in(array, LABELS, None) for array in (POINTS, POINTS[::-1].copy()))
    data = check_inputs(given, test)
    limit = 3 * POINTS.nbytes
    for needed, in_memory in ((POINTS.nbytes, 2), (POINTS.nbytes + 1, 1), (2 * POINTS.nbytes + 1, 0)):
        normalized, left = data.normalized(limit, needed)
        copies = (normalized.points, normalized.test)
        assert sum(not isinstance(copy, np.memmap) for copy in copies) == in_memory
        assert left == limit - in_memory * POINTS.nbytes >= needed


@pytest.mark.parametrize("compute", [cs.rld, cs.knn], ids=["rld", "knn"])
def test_stages_normalize_within_the_limit(compute):
    """With just enough for the computation itself the copy goes to a file, and the numbers stay."""
    second = LABELS if compute is cs.rld else 5
    with pytest.raises(InputError, match=r"[Mm]emory limit") as refused:
        compute(POINTS, second, memory_limit="1kB", device="cpu")
    enough = re.search(r"at least ([\d.]+ .B)", str(refused.value))[1]
    tight, ample = (
        compute(POINTS, second, memory_limit=limit, device="cpu", normalize=True) for limit in (enough, None)
    )
    values = [result.values if compute is cs.rld else result.distances for result in (tight, ample)]
    np.testing.assert_allclose(*values, rtol=1e-6)
