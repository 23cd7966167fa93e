"""Pages of curves alone: those of a training, or of a study."""

import csv
import io
import itertools
import json
from xml.etree import ElementTree

import pytest
from browsing import SCRIPTS, opened, opens_and_runs_none, saved
from records import HOSTILE

from clorg_scale.report.curves import Panel, render_curves

XS = [1.0, 2.0, 4.0]


def page_of(folder, *, panels, **settings):
    path = folder / "page.html"
    facts = {"title": HOSTILE, "x_title": HOSTILE, "kind": "study", "facts": HOSTILE}
    path.write_text(render_curves(XS, panels, **facts, **settings), encoding="utf-8")
    return path


@pytest.mark.browser
@pytest.mark.parametrize("logarithmic", [False, True])
def test_each_curve_is_where_its_numbers_are(browser, downloads, tmp_path, logarithmic):
    panels = [Panel("first", {HOSTILE: [0.0, 0.5, 1.0], "b": [1.0, 1.0, 0.0]}), Panel("second", {"": [5e3, 7e3, 6e3]})]
    console, requests = opened(browser, page_of(tmp_path, panels=panels, logarithmic=logarithmic))
    assert (console, requests) == ([], [])
    assert browser.find_element("css selector", "h1").text == HOSTILE
    places = browser.execute_script(
        "return [...document.querySelectorAll('#panel-0 .reach circle')].map(c => [c, c].map((n, i) =>"
        " Number(n.getAttribute(['cx', 'cy'][i]))))"
    )
    xs, ys = zip(*places, strict=True)
    middle = 1 / 2 if logarithmic else 1 / 3
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(middle, abs=0.01)
    assert (ys[0] - ys[1]) / (ys[0] - ys[2]) == pytest.approx(0.5, abs=0.01)
    assert (ys[3], ys[5]) == pytest.approx((ys[2], ys[0]), abs=0.1)
    names = [text.text for text in browser.find_elements("css selector", "#panel-0 .strong text")]
    assert names[1] == "b"
    assert names[0].startswith("<script>")
    assert not browser.find_elements("css selector", "#panel-1 .strong text")
    rows = list(csv.DictReader(io.StringIO(saved(browser, downloads, "panel-0", "csv").decode(), newline="")))
    assert [float(row["b"]) for row in rows] == panels[0].curves["b"]
    drawn = ElementTree.fromstring(saved(browser, downloads, "panel-1", "svg"))
    assert "7,000" in [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.browser
def test_scripts_in_titles_and_names_do_not_run(browser, tmp_path):
    panels = [Panel(f"{text} {i}", {text: [0.1, 0.2, 0.3], "b": [0.3, 0.2, 0.1]}) for i, text in enumerate(SCRIPTS)]
    path = tmp_path / "page.html"
    facts = {"title": SCRIPTS[0], "x_title": SCRIPTS[1], "kind": SCRIPTS[2], "facts": SCRIPTS[3]}
    path.write_text(render_curves(XS, panels, **facts), encoding="utf-8")
    opens_and_runs_none(browser, path)
    titles = [node.text for node in browser.find_elements("css selector", "section.card h2")]
    assert [title.split() for title in titles[: len(panels)]] == [panel.title.split() for panel in panels]


@pytest.mark.browser
def test_labels_of_an_axis_are_its_ends_and_round_values_that_do_not_meet(browser, tmp_path):
    panels = [
        Panel("small", {"": [1e-7, 3e-7, 2.5e-7]}),
        Panel("negative", {"": [-3.0, 0.2, 12.5]}),
        Panel("equal", {"": [0.2, 0.2, 0.2]}),
        Panel("large", {"": [999.5, 1e6, 3.25e6]}),
    ]
    opened(browser, page_of(tmp_path, panels=panels))
    for at, panel in enumerate(panels):
        (values,) = panel.curves.values()
        low, high = (min(values), max(values)) if panel.title != "equal" else (0.198, 0.202)
        found = browser.execute_script(
            "const svg = document.querySelector(`#panel-${arguments[0]} svg`), { domain, range } = svg.scale('y');"
            "const labels = [...svg.querySelectorAll('g[text-anchor=end] text')].map(t => ["
            "t.textContent, (range[0] - t.transform.baseVal[0].matrix.f) / (range[0] - range[1])]);"
            "return [domain, labels, range[0] - range[1]]",
            at,
        )
        domain, labels, height = found
        assert domain == pytest.approx((low, high), rel=1e-9)
        heights = sorted(share * height for _, share in labels)
        assert (heights[0], heights[-1]) == pytest.approx((0, height), abs=1)
        assert min(b - a for a, b in itertools.pairwise(heights)) >= 18
        assert 3 <= len({text for text, _ in labels}) == len(labels) <= 9
        for text, share in labels:
            assert float(text.replace(",", "")) == pytest.approx(low + share * (high - low), abs=0.03 * (high - low))


@pytest.mark.browser
def test_one_measurement_alone(browser, tmp_path):
    path = tmp_path / "page.html"
    panels = [Panel("one", {"a": [0.0], "b": [0.0]})]
    path.write_text(render_curves([3.0], panels, title="t", x_title="epoch", kind="training", facts=""))
    console, _ = opened(browser, path)
    assert console == []
    assert len(browser.find_elements("css selector", "#panel-0 .reach > *")) == 2


def test_the_page_loads_nothing_else(tmp_path):
    text = page_of(tmp_path, panels=[Panel("one", {"a": [1.0, 2.0, 3.0]})]).read_text()
    assert "default-src 'none'" in text
    (data,) = text.partition('id="data">')[2].partition("</script>")[:1]
    assert json.loads(data)["x_title"] == HOSTILE
    assert len(text) < 500_000
