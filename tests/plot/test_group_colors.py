"""Groups on a map, as readers with each kind of color blindness tell them apart."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from color_vision import MACHADO, ciede2000, lab, linear
from records import record

import clorg_scale as cs
from clorg_scale.plot.scatter import UNLABELLED_COLOR
from clorg_scale.plot.spots import APART, spots
from clorg_scale.plot.style import MOST_TOLD_APART, group_colors, group_markers

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.colors import to_hex


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


@pytest.mark.parametrize("reader", MACHADO)
@pytest.mark.parametrize("n", [2, 10, 11, MOST_TOLD_APART])
def test_each_pair_of_groups_differs_in_marker_or_in_a_color_that_every_reader_sees(reader, n):
    groups = [*zip(group_colors(n), group_markers(n), strict=True), (UNLABELLED_COLOR, "o")]
    seen = [lab(np.clip(MACHADO[reader] @ linear(color), 0, 1)) for color, _ in groups]
    for i, j in combinations(range(len(groups)), 2):
        if groups[i][1] == groups[j][1]:
            assert ciede2000(seen[i], seen[j]) > 9.5, (groups[i], groups[j])


def with_classes(n_classes, **settings):
    return record(n_classes=n_classes, n_map=600, **settings)


def test_numbers_on_the_map_stand_among_their_own_points():
    analysis = with_classes(14)
    axes = cs.plot.point_map(analysis)
    points = analysis.point_map
    xy, codes = np.column_stack([points.x, points.y]), np.array(points.class_code)
    legend = axes.get_legend()
    names = [text.get_text().split(maxsplit=1) for text in legend.get_texts()]
    assert [number for number, _ in names[:14]] == [str(c + 1) for c in range(14)]
    texts = {text.get_text(): text.get_position() for text in axes.texts}
    assert set(texts) == {str(c + 1) for c in np.unique(codes[codes >= 0])}
    for number, at in texts.items():
        own = xy[codes == int(number) - 1]
        assert np.hypot(*(own - at).T).min() < np.ptp(xy, axis=0).max() / 16


def test_numbers_keep_apart():
    rng = np.random.default_rng(0)
    xy, codes = rng.normal(size=(4000, 2)), rng.integers(0, 20, 4000)  # all groups in the same place
    at = np.array(list(spots(xy, codes, 20).values()))
    apart = [np.hypot(*(p - q)) for p, q in combinations(at, 2)]
    assert len(at) == 20
    assert min(apart) >= APART * np.ptp(xy, axis=0).max()


def test_points_have_the_marker_of_their_group():
    analysis = with_classes(14)
    axes = cs.plot.point_map(analysis)
    drawn = axes.collections[0]
    xy = np.asarray(drawn.get_offsets())
    paths, points = drawn.get_paths(), analysis.point_map
    handles = axes.get_legend().legend_handles
    for i in range(0, len(xy), 37):
        row = int(np.flatnonzero((xy[i] == np.column_stack([points.x, points.y])).all(1))[0])
        code = points.class_code[row]
        assert to_hex(drawn.get_facecolors()[i]) == to_hex(handles[code].get_facecolor()[0])
        np.testing.assert_array_equal(paths[i].vertices, handles[code].get_paths()[0].vertices)


def test_communities_go_by_their_own_numbers():
    analysis = with_classes(3)
    n = len(analysis.point_map.community)
    communities = replace(analysis.communities, n_communities=12)
    analysis = replace(
        analysis, communities=communities, point_map=replace(analysis.point_map, community=list(np.arange(n) % 12))
    )
    axes = cs.plot.point_map(analysis, by="community")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [str(c) for c in range(12)]
    assert {text.get_text() for text in axes.texts} == {str(c) for c in range(12)}


def test_more_groups_than_markers_and_colors_have_no_legend():
    axes = cs.plot.point_map(with_classes(MOST_TOLD_APART + 1))
    assert axes.get_legend() is None
    assert axes.get_title() == "21 groups"
    assert not axes.texts
