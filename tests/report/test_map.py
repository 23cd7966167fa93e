"""The map: all points, in the page or beside it; selection, search, and what is linked with it."""

import base64
import json
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
from browsing import SCRIPTS, downloaded, is_drawn, opened, opens_and_runs_none
from records import record

import clorg_scale as cs
from clorg_scale.report import page as report_page
from clorg_scale.report import write_comparison, write_report, write_trajectory
from clorg_scale.report.mixing import describe_mixing
from clorg_scale.report.points import pack_points


def with_all_points(n=3_000, n_unplaced=7):
    """A record with the positions of all points but a few."""
    rng = np.random.default_rng(3)
    codes = rng.integers(-1, 10, n)
    xy = np.column_stack([10 * codes, rng.normal(0, 4, n)]) + rng.normal(0, 1, (n, 2))
    xy[:n_unplaced] = np.nan
    density = np.where(codes < 0, np.nan, rng.random(n)).astype(np.float32)
    points = {
        "class_code": codes.astype(np.int32),
        "community": rng.integers(0, 14, n).astype(np.int32),
        "local_density": density,
        "map_x": xy[:, 0].astype(np.float32),
        "map_y": xy[:, 1].astype(np.float32),
    }
    return replace(record(n_map=100), n_points=n, points=points)


def unpacked(packed, entry):
    content = base64.b64decode(packed.text)

    def column(name, kind):
        return np.frombuffer(content, kind, entry["n"], entry[name])

    x = entry["left"] + column("x", "<u2") / 65_535 * entry["size"]
    y = entry["bottom"] + column("y", "<u2") / 65_535 * entry["size"]
    return (
        x,
        y,
        column("class_code", "<u2"),
        column("community", "<u2"),
        column("density", "u1"),
        column("index", "<u4"),
    )


def test_packed_points_are_those_of_the_record():
    analysis = with_all_points()
    packed = pack_points([analysis, analysis])
    assert packed.maps[0] == packed.maps[1]
    assert len(packed.text) < 4 / 3 * 14 * 3_000 + 100  # equal columns stand there once
    x, y, codes, community, density, index = unpacked(packed, packed.maps[0])
    np.testing.assert_array_equal(index, np.arange(7, 3_000))
    rounding = packed.maps[0]["size"] / 65_535
    np.testing.assert_allclose(x, analysis.points["map_x"][7:], atol=rounding)
    np.testing.assert_allclose(y, analysis.points["map_y"][7:], atol=rounding)
    np.testing.assert_array_equal(np.where(codes == 65_535, -1, codes.astype(int)), analysis.points["class_code"][7:])
    np.testing.assert_array_equal(community, analysis.points["community"][7:])
    given = analysis.points["local_density"][7:]
    np.testing.assert_array_equal(density == 255, np.isnan(given))
    np.testing.assert_allclose(density[density < 255] / 254, given[~np.isnan(given)], atol=0.5 / 254 + 1e-6)


def test_pairs_that_mix_are_those_of_the_matrix():
    shares = np.array([[0.7, 0.3, 0.0], [0.1, 0.8, 0.1], [0.0, 0.0, 0.0]])
    analysis = replace(record(n_classes=3), class_mixing=shares)
    assert describe_mixing(analysis) == {
        "basis": "affinity",
        "own": [0.7, 0.8, 0.0],
        "partner": [1, 0, -1],
        "share": [0.3, 0.1, 0.0],
        "pairs": [[0, 1, 0.3, 0.1], [1, 2, 0.1, 0.0]],
        "n_pairs": 2,
    }
    counts = [[30, 10], [0, 20], [0, 0]]
    older = replace(analysis, class_mixing=None, communities=replace(analysis.communities, class_by_community=counts))
    found = describe_mixing(older)
    assert found["basis"] == "communities"
    assert found["pairs"] == [[0, 1, round(10 / 40 * 20 / 30, 4), round(10 / 30, 4)]]


def test_maps_of_models_are_turned_like_each_other(tmp_path):
    first = record(name="a")
    turned = replace(first.point_map, x=[-y for y in first.point_map.y], y=first.point_map.x)
    second = replace(first, name="b", point_map=turned)
    page = cs.compare({"a": first, "b": second}).report(tmp_path / "page.html").read_text()
    entries = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["points"]
    content = base64.b64decode(page.partition('id="points">')[2].partition("</script>")[0])
    for axis in "xy":
        one, other = (np.frombuffer(content, "<u2", entry["n"], entry[axis]).astype(int) for entry in entries)
        np.testing.assert_allclose(one, other, atol=3)


@pytest.mark.browser
def test_points_beside_the_page_are_read_and_missed(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MOST_IN_PAGE", 1_000)
    page = write_report(with_all_points(), tmp_path / "a page.html")
    beside = tmp_path / "a page_points.js"
    assert sorted(tmp_path.iterdir()) == [page, beside]
    console, requests = opened(browser, page)
    assert (console, requests) == ([], [])
    label = browser.find_element("css selector", "canvas").get_attribute("aria-label")
    assert "2,993 points" in label
    beside.unlink()
    browser.get(page.as_uri())
    assert is_drawn(browser)
    assert "100 points" in browser.find_element("css selector", "canvas").get_attribute("aria-label")
    assert "a page_points.js" in browser.find_element("id", "map").text


@pytest.mark.browser
def test_no_other_script_runs(browser, tmp_path):
    page = write_report(record(), tmp_path / "report.html")
    page.write_text(page.read_text().replace("<main", "<script>document.title = 'planted'</script><main", 1))
    browser.get_log("browser")
    browser.get(page.as_uri())
    assert browser.title == "model · clorg-scale"
    assert "Content Security Policy" in browser.get_log("browser")[0]["message"]


@pytest.mark.browser
def test_lasso_selects_what_it_surrounds(browser, downloads, tmp_path):
    from selenium.webdriver import ActionChains

    analysis = with_all_points()
    opened(browser, write_report(analysis, tmp_path / "report.html"))
    browser.find_element("css selector", "[data-tool=lasso]").click()
    canvas = browser.find_element("css selector", "canvas")
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", canvas)
    wide, high = canvas.rect["width"], canvas.rect["height"]
    drag = ActionChains(browser, duration=20).move_to_element(canvas).move_by_offset(-wide / 2 + 5, -high / 2 + 5)
    drag.click_and_hold()
    for dx, dy in ((wide / 2 - 5, 0), (0, high - 10), (-wide / 2 + 5, 0)):  # the left half
        drag.move_by_offset(dx, dy)
    drag.release().perform()
    x = analysis.points["map_x"]
    middle = (np.nanmin(x) + np.nanmax(x)) / 2
    expected = set(np.flatnonzero(x < middle))
    saved = downloaded(browser, downloads, "[data-selection=csv]", "*.csv")
    rows = {int(line.split(",")[0]) for line in saved.read_text().splitlines()[1:]}
    near = np.abs(x - middle) < 0.01 * (np.nanmax(x) - np.nanmin(x))
    assert not (rows ^ expected) - set(np.flatnonzero(near))
    assert f"{len(rows):,} points selected" in browser.find_element("css selector", ".selection").text


@pytest.mark.browser
def test_search_finds_classes_and_rows(browser, tmp_path):
    analysis = with_all_points()
    opened(browser, write_report(analysis, tmp_path / "report.html"))
    search = browser.find_element("css selector", "[data-controls=map] input")
    for wanted, answer in (
        ("row 1234", "row 1,234"),
        ("3", "Row 3 is not on the map"),
        ("nonsense", "No class is called"),
    ):
        search.clear()
        search.send_keys(wanted + "\n")
        assert answer in browser.find_element("id", "map").text, wanted
    search.clear()
    search.send_keys("class 4\n")
    chosen = browser.find_element("css selector", "[data-legend=map] [aria-pressed=true]")
    assert chosen.text == "class 4"
    table = browser.find_element("css selector", "#classes tr[data-class='7'] button")
    browser.execute_script("arguments[0].click()", table)
    chosen = browser.find_elements("css selector", "[data-legend=map] [aria-pressed=true]")
    assert [button.text for button in chosen] == ["class 4", "class 7"]


FARTHEST = """
const canvas = document.querySelector('#map canvas'), { width, height } = canvas, wide = 60, high = 36;
const { data } = canvas.getContext('2d').getImageData(0, 0, width, height), ground = [...data.slice(0, 3)];
const cells = Array(wide * high).fill(0);
for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
  const cell = (y * high / height | 0) * wide + (x * wide / width | 0), at = 4 * (y * width + x);
  for (let c = 0; c < 3; c++) cells[cell] = Math.max(cells[cell], Math.abs(data[at + c] - ground[c]));
}
return cells;
"""


@contextmanager
def without_webgl(browser):
    """Let pages that are opened have no WebGL, as in browsers that lack it."""
    lacking = """const asked = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
      return kind.startsWith("webgl") ? null : asked.call(this, kind, ...rest);
    };"""
    add, remove = "Page.addScriptToEvaluateOnNewDocument", "Page.removeScriptToEvaluateOnNewDocument"
    script = browser.execute_cdp_cmd(add, {"source": lacking})
    yield
    browser.execute_cdp_cmd(remove, script)


@pytest.mark.browser
def test_points_are_drawn_with_webgl_and_where_there_is_none(browser, tmp_path):
    page = write_report(with_all_points(), tmp_path / "report.html")
    farthest = {}
    for webgl in (True, False):
        with nullcontext() if webgl else without_webgl(browser):
            console, requests = opened(browser, page)
        assert (console, requests) == ([], [])
        assert ("Drawn without WebGL" in browser.find_element("id", "map").text) != webgl
        browser.find_element("css selector", "[data-tool=names]").click()
        script = f"const f = () => {{{FARTHEST}}}; setTimeout(() => arguments[0](f()), 500)"
        farthest[webgl] = np.array(browser.execute_async_script(script)).reshape(36, 60)
    for some in farthest:  # the same places, within a pixel that may lie in the next cell
        shown = farthest[not some] > 2
        near = np.any([np.roll(shown, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
        drawn = farthest[some] > 12
        assert 0.02 < drawn.mean() < 0.7
        assert not (drawn & ~near).any()


def marked(browser):
    """Whether each map shows a ring around a point."""
    return browser.execute_script(
        "return [...document.querySelectorAll('canvas.overlay')].map(c => !c.hidden &&"
        " c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0))"
    )


@pytest.mark.browser
def test_a_point_is_marked_on_the_maps_of_all_models(browser, tmp_path):
    """Under the pointer on one of them, or in a table."""
    from selenium.webdriver import ActionChains

    first = record(name="a", n_map=1)
    row = first.point_map.index[0]
    first = replace(first, suspects=[replace(first.suspects[0], index=row), first.suspects[1]])
    opened(browser, cs.compare({"a": first, "b": replace(first, name="b")}).report(tmp_path / "page.html"))
    assert marked(browser) == [False, False]
    ActionChains(browser).move_to_element(browser.find_element("css selector", "canvas")).perform()
    assert marked(browser) == [True, True]
    ActionChains(browser).move_to_element(browser.find_element("css selector", "h1")).perform()
    assert marked(browser) == [False, False]
    ActionChains(browser).move_to_element(browser.find_element("css selector", f"[data-row='{row}'] td")).perform()
    assert marked(browser) == [True, True]


def planted(value, scripts):
    """The same plain data, with a script in the place of each text (not of those that name something of ours)."""
    if isinstance(value, str):
        return next(scripts)
    if isinstance(value, list):
        return [planted(item, scripts) for item in value]
    if isinstance(value, dict):
        kept = {"local_density_temperature"}
        return {key: item if key in kept else planted(item, scripts) for key, item in value.items()}
    return value


@pytest.mark.browser
def test_scripts_in_every_text_do_not_run(browser, tmp_path):
    from itertools import count

    from clorg_scale.analysis import Analysis

    numbers = count()
    scripts = (SCRIPTS[i % len(SCRIPTS)] + str(i) for i in numbers)

    def hostile(**settings):
        path = record(n_map=200, **settings).to_json(tmp_path / "analysis.json")
        document = json.loads(path.read_text())
        for key in [key for key in document if key not in ("format", "arrays")]:
            document[key] = planted(document[key], scripts)
        for table in ("settings", "versions"):
            document[table] = {next(scripts): value for value in SCRIPTS} | document[table]
        path.write_text(json.dumps(document))
        return Analysis.from_json(path)

    one, four = hostile(n_classes=60), {next(scripts): hostile(seed=i) for i in range(4)}
    shared = next(iter(four.values())).classes
    same = {name: replace(analysis, classes=shared) for name, analysis in four.items()}
    look_alikes = [
        {"model": name, "index": 1, "other": 2, "distance": 0.1, "ranks": {name: 3}}
        | {"label": next(scripts), "other_label": next(scripts)}
        for name in same
    ]
    pages = [
        write_report(one, tmp_path / "one.html"),
        write_comparison(same, tmp_path / "four.html", look_alikes=look_alikes),
        write_trajectory(same, [1, 2, 3, 4], tmp_path / "steps.html"),
    ]
    for page in pages:
        opens_and_runs_none(browser, page)
    assert next(numbers) > 600  # texts that a script stood in
