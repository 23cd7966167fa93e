"""Figures by the real matplotlib: what is drawn are the numbers, in the style of a paper, and nothing is cut off."""

import re
from dataclasses import replace

import numpy as np
import pytest
from command_line import assert_one_sentence, run, tree
from records import HOSTILE, record

import clorg_scale as cs
from clorg_scale.errors import InputError, MissingDependencyError
from clorg_scale.plot.style import model_colors

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

NASTY = r"$\frac{1}$ _x" + "\n" + "long name " * 9


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def whole(name="one", **settings):
    """A record with all that can be drawn."""
    analysis = record(name=name, **settings)
    n = len(analysis.classes)
    shares = np.random.default_rng(3).random((n, n)) + n * np.eye(n)
    return replace(analysis, class_mixing=shares / shares.sum(1, keepdims=True))


@pytest.fixture(scope="module")
def comparison():
    return cs.compare({"one": whole(), "two": whole("two", seed=1)})


def points_of(line):
    return [tuple(map(float, point)) for point in zip(*line.get_data(), strict=True)]


def curves(axes):
    """Points of the curves that have markers."""
    return [points_of(line) for line in axes.get_lines() if line.get_marker() == "o"]


def test_rld_with_its_bars(comparison):
    axes = cs.plot.rld(comparison)
    for drawn, analysis in zip(curves(axes), comparison.analyses.values(), strict=True):
        assert drawn == sorted(zip(analysis.rld.temperatures, analysis.rld.values, strict=True))
    bar = axes.containers[0][2][0].get_segments()[0]
    np.testing.assert_allclose(np.diff(bar[:, 1]), 2 * 1.96 * 0.002)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["shuffled labels", "one", "two"]
    assert axes.get_xscale() == "log"


def test_results_of_single_stages():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 4)) + 2 * np.eye(4)[y]
    found = cs.rld(X, y, temperatures=(1.0, 0.1))
    assert curves(cs.plot.rld(found)) == [sorted(zip(found.temperatures, found.values, strict=True))]
    table = cs.knn(X, 5, metric="cosine")
    homogeneity = cs.class_homogeneity(table, y)
    assert curves(cs.plot.class_homogeneity(homogeneity)) == [sorted(homogeneity.items())]
    spectrum = cs.spectrum(cs.affinity_graph(table), 6)
    assert curves(cs.plot.spectrum(spectrum)) == [list(enumerate(spectrum.eigenvalues, 1))]


def test_class_homogeneity_and_probes(comparison):
    axes = cs.plot.class_homogeneity(comparison)
    first = next(iter(comparison.analyses.values()))
    assert curves(axes)[0] == sorted(first.class_homogeneity.items())
    axes = cs.plot.probes(comparison)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Linear", "k-NN vote", "GCN"]
    assert [x for x, _ in curves(axes)[0]] == [probe.accuracy for probe in first.probes]
    bars = axes.containers[0][2][0].get_segments()
    np.testing.assert_allclose([bar[:, 0] for bar in bars], [probe.accuracy_interval for probe in first.probes])
    assert [x for x, _ in curves(cs.plot.probes(first.probes))[0]] == [probe.accuracy for probe in first.probes]


def test_mixing_is_the_matrix():
    analysis = whole()
    axes = cs.plot.mixing(analysis)
    np.testing.assert_array_equal(axes.images[0].get_array(), analysis.class_mixing)
    many = whole(n_classes=80)
    axes = cs.plot.mixing(many)
    kept = np.sort(np.argsort(np.diag(many.class_mixing), kind="stable")[:20])
    np.testing.assert_array_equal(axes.images[0].get_array(), many.class_mixing[np.ix_(kept, kept)])
    assert axes.get_title() == "The 20 least homogeneous of 80 classes"


def test_class_mixing_is_the_share_of_the_affinity():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = rng.normal(size=(90, 4)) + 1.5 * np.eye(4)[y]
    y[:6] = -1
    analysis = cs.analyze(X, y, k=5, probes=[], map_points=0, temperatures=(1.0, 0.1))
    graph = cs.affinity_graph(cs.knn(X, 5), temperature=0.1, mean_distance=analysis.rld.mean_distance)
    one_hot = (y[:, None] == np.arange(3)).astype(float)
    sums = one_hot.T @ graph.to_scipy().toarray().astype(float) @ one_hot
    np.testing.assert_allclose(analysis.class_mixing, sums / sums.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("by", ["class", "community", "density"])
def test_the_map_has_every_point(by):
    analysis = whole(n_map=300)
    axes = cs.plot.point_map(analysis, by=by)
    xy = np.asarray(axes.collections[0].get_offsets())
    expected = np.column_stack([analysis.point_map.x, analysis.point_map.y])
    np.testing.assert_allclose(np.sort(xy, axis=0), np.sort(expected, axis=0))
    if by == "class":
        row = int(np.flatnonzero((xy == expected[0]).all(1))[0])
        colors = [handle.get_facecolor()[0] for handle in axes.get_legend().legend_handles]
        code = analysis.point_map.class_code[0]
        assert to_hex(axes.collections[0].get_facecolors()[row]) == to_hex(colors[code])


def test_whole_epochs_have_whole_numbers_on_the_axis():
    few = cs.compare({f"epoch {i}": whole(f"epoch {i}", seed=i) for i in (1, 2, 3)})
    assert all(float(tick).is_integer() for tick in cs.plot.trajectory(few).get_xticks())


def test_a_trajectory_is_drawn_against_its_steps():
    names = ["epoch 20", "epoch 3", "epoch 100"]
    checkpoints = cs.compare({name: whole(name, seed=seed) for seed, name in enumerate(names)})
    assert checkpoints.steps == [3, 20, 100]
    assert cs.plot.trajectory(checkpoints).get_xlabel() == "Epoch"
    for measure, quantity in (("rld", "RLD, T = 0.2"), ("chi", "CHI, k = 10"), ("probes", "accuracy, knn")):
        axes = cs.plot.trajectory(checkpoints, measure=measure)
        values = next(row for row in checkpoints.table() if row["quantity"] == quantity)
        assert [(step, values[name]) for step, name in zip((3, 20, 100), checkpoints.analyses, strict=True)] in curves(
            axes
        )


DRAWN = ("rld", "class_homogeneity", "probes", "mixing", "point_map", "trajectory")


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_is_cut_off_and_letters_are_legible(name):
    """At the width of a column, with ten classes of long names, each text lies within the figure, 6 pt or more."""
    analysis = whole(NASTY)
    analysis = replace(analysis, classes=[f"{NASTY} {c}" for c in range(10)])
    result = analysis if name in ("mixing", "point_map") else cs.compare({NASTY: analysis, "_two": analysis})
    axes = assert_legible(name, result)
    if name in ("rld", "class_homogeneity", "probes"):
        assert "_two" in [text.get_text().strip() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("name", ["rld", "class_homogeneity", "probes"])
def test_eight_models_of_long_names_are_legible(name):
    assert_legible(name, cs.compare({f"{i} is a network with a long name": whole() for i in range(8)}))


def test_many_models_go_from_dark_to_light():
    """Color-blind readers tell them apart by lightness."""
    lightness = [sum(np.array([0.2126, 0.7152, 0.0722]) * to_rgb(color)) for color in model_colors(12)]
    assert (np.diff(lightness) > 0.01).all()
    assert lightness[-1] < 0.85  # not lost on paper


def test_a_map_of_twenty_classes_is_legible():
    many = whole(n_classes=20)
    assert_legible("point_map", replace(many, classes=[f"{NASTY} {c}" for c in range(20)]))


def test_many_classes_are_legible():
    many = whole(n_classes=80)
    assert_legible("mixing", replace(many, classes=[f"a long name {c}" for c in range(80)]))


def assert_legible(name, result):
    axes = getattr(cs.plot, name)(result)
    figure = axes.figure
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] == pytest.approx(85 / 25.4)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    inside = figure.bbox
    for text in texts:
        box = text.get_window_extent()
        if box.width and text.get_text() not in [t.get_text() for t in axes.get_xticklabels(minor=True)]:
            assert text.get_fontsize() >= 6
            if _is_drawn(text, axes):
                assert box.x0 >= inside.x0 - 1, text
                assert box.x1 <= inside.x1 + 1, text
                assert box.y0 >= inside.y0 - 1, text
                assert box.y1 <= inside.y1 + 1, text
    return axes


def _is_drawn(text, axes):
    """Tick labels outside the limits exist, and are not drawn."""
    ticks = [*axes.xaxis.get_major_ticks(), *axes.yaxis.get_major_ticks()]
    for tick in ticks:
        if text in (tick.label1, tick.label2):
            low, high = sorted(tick.axes.get_xlim() if tick in axes.xaxis.get_major_ticks() else tick.axes.get_ylim())
            return low <= tick.get_loc() <= high
    return True


def test_own_axes_are_drawn_on(comparison):
    figure, (left, right) = pyplot.subplots(1, 2)
    assert cs.plot.rld(comparison, left) is left
    assert cs.plot.class_homogeneity(comparison, ax=right) is right
    assert len(pyplot.get_fignums()) == 1
    assert figure.axes == [left, right]
    assert matplotlib.rcParams["font.size"] == matplotlib.rcParamsDefault["font.size"]


def test_what_cannot_be_drawn(comparison):
    bare = replace(record(n_map=0), probes=[])
    for draw, result, sentence in (
        (cs.plot.rld, 3, "RLD is drawn from RLDResult, Analysis or Comparison, not from int"),
        (cs.plot.class_homogeneity, [0.5], "not from list"),
        (cs.plot.probes, bare, "has no probes"),
        (cs.plot.mixing, comparison, "draw each of comparison.analyses.values()"),
        (cs.plot.mixing, bare, "earlier version"),
        (cs.plot.point_map, bare, "has no map"),
        (cs.plot.spectrum, bare, "no spectrum"),
    ):
        with pytest.raises(InputError, match=re.escape(sentence)):
            draw(result)
    with pytest.raises(InputError, match="by must be"):
        cs.plot.point_map(whole(), by="size")
    with pytest.raises(InputError, match="measure must be"):
        cs.plot.trajectory(comparison, measure="loss")


def test_without_matplotlib(comparison, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"A figure needs the package 'matplotlib'.*pip install"):
        cs.plot.rld(comparison)


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_figures_of_an_analysis(tmp_path, name, start):
    whole(HOSTILE, n_map=50).to_json(tmp_path / "analysis.json")
    outcome = run("figures", tmp_path, "--format", name)
    assert (outcome.code, outcome.err) == (0, "")
    files = tree(tmp_path / "figures")
    assert set(files) == {f"{figure}.{name}" for figure in ("rld", "class-homogeneity", "probes", "mixing", "map")}
    assert outcome.out.split() == [str(tmp_path / "figures" / file) for file in sorted(files, key=outcome.out.index)]
    assert all(contents.startswith(start) for contents in files.values())
    again = run("figures", tmp_path, "--format", name, "--out", tmp_path / "again")
    assert again.code == 0
    assert tree(tmp_path / "again") == files  # no date, no random part


def test_figures_of_a_comparison_of_checkpoints(tmp_path):
    cs.compare({f"epoch {i}": whole(f"epoch {i}", seed=i, n_map=20) for i in range(3)}).write(tmp_path)
    assert run("figures", tmp_path, "--format", "svg", "--out", tmp_path / "out").code == 0
    names = {name.removesuffix(".svg") for name in tree(tmp_path / "out")}
    assert names == {
        "rld",
        "class-homogeneity",
        "probes",
        "trajectory-rld",
        "trajectory-chi",
        "trajectory-probes",
        *(f"{figure}-{i + 1}-epoch-{i}" for i in range(3) for figure in ("mixing", "map")),
    }


def test_mistakes(tmp_path):
    (tmp_path / "a").mkdir()
    assert_one_sentence(run("figures", tmp_path / "a"), "no analysis at", "clorg-scale analyze")
    whole(n_map=20).to_json(tmp_path / "a" / "analysis.json")
    before = tree(tmp_path)
    assert_one_sentence(run("figures", tmp_path / "a", "--format", "gif"), "pdf, svg, png", "'gif'")
    (tmp_path / "file").write_text("")
    assert_one_sentence(run("figures", tmp_path / "a", "--out", tmp_path / "file"), "cannot be written")
    (tmp_path / "file").unlink()
    assert tree(tmp_path) == before
