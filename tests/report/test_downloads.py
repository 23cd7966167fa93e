"""Downloads of each card, and the page of a training, as a reader sees them in a headless browser."""

import csv
import io
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from browsing import opened, saved
from records import HOSTILE, record

import clorg_scale as cs
from clorg_scale.report import write_comparison, write_report
from clorg_scale.report.mixing import describe_mixing

pytestmark = pytest.mark.browser

PICTURES = {"rld", "chi", "probes", "density", "classes", "pairs", "study", "map", "communities"}


WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait


def rows_of(contents):
    return list(csv.DictReader(io.StringIO(contents.decode(), newline="")))


def test_every_card_offers_its_pictures_and_numbers(browser, downloads, pages):
    analysis = record()
    console, requests = opened(browser, pages["one"])
    assert (console, requests) == ([], [])
    offered = {
        card.get_attribute("id"): [button.text for button in card.find_elements("css selector", "[data-format]")]
        for card in browser.find_elements("css selector", "section.card")
    }
    assert {card for card, forms in offered.items() if forms == ["SVG", "PNG", "CSV"]} == PICTURES
    assert all(forms[-1] == "CSV" for forms in offered.values())
    for card in sorted(PICTURES):
        drawn = ElementTree.fromstring(saved(browser, downloads, card, "svg"))
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
        assert texts or card == "map", card
        assert "var(" not in ElementTree.tostring(drawn, encoding="unicode")  # it needs no style sheet
    circles = ElementTree.fromstring(saved(browser, downloads, "map", "svg"))
    assert len(list(circles.iter("{http://www.w3.org/2000/svg}circle"))) == len(analysis.point_map.index)
    rld = rows_of(saved(browser, downloads, "rld", "csv"))
    assert [(float(row["temperature"]), float(row["rld"])) for row in rld] == list(
        zip(analysis.rld.temperatures, analysis.rld.values, strict=True)
    )
    classes = rows_of(saved(browser, downloads, "classes", "csv"))
    assert classes[0]["class"] == HOSTILE
    assert len(classes) == 10 * 3
    points = rows_of(saved(browser, downloads, "map", "csv"))
    assert [int(row["row"]) for row in points] == analysis.point_map.index
    numbers = rows_of(saved(browser, downloads, "numbers", "csv"))
    assert numbers[0] == {"quantity": "RLD, T = 1", "model": f"{analysis.rld.values[0]:.6f} ± 0.002000"}


def test_pictures_stand_alone(browser, downloads, pages, tmp_path):
    """Each SVG opens without the page, in its colors; each PNG shows the same and is not empty."""
    image = pytest.importorskip("PIL.Image")
    opened(browser, pages["one"])
    vectors = {card: saved(browser, downloads, card, "svg") for card in PICTURES}
    kinds = ("rld", "classes", "map", "communities")  # curves, a table of bars, points, a matrix
    pixels = {card: saved(browser, downloads, card, "png") for card in kinds}
    for card, vector in vectors.items():
        path = tmp_path / f"{card}.svg"
        path.write_bytes(vector)
        browser.get(path.as_uri())
        WebDriverWait(browser, 10).until(lambda page: page.execute_script("return document.rootElement !== null"))
        wide, fills = browser.execute_script(
            "return [document.rootElement.width.baseVal.value,"
            " [...document.querySelectorAll('text')].map(t => getComputedStyle(t).fill)]"
        )
        assert "rgb(0, 0, 0)" not in fills, card  # what a text without a style is
        if card in kinds:
            with image.open(io.BytesIO(pixels[card])) as picture:
                assert picture.width >= wide, card
                colors = picture.reduce(4).convert("RGB").getcolors(1 << 24)
            assert len(colors) > 20, card
            assert max(colors)[0] < 0.995 * sum(count for count, _ in colors), card


def test_tables_hold_the_numbers_of_the_record(browser, downloads, pages):
    analysis = record()
    opened(browser, pages["one"])
    rows = {
        card: rows_of(saved(browser, downloads, card, "csv"))
        for card in ("chi", "probes", "classes", "density", "communities", "pairs", "study")
    }
    found = {int(row["k"]): (float(row["chi"]), float(row["stderr"])) for row in rows["chi"]}
    assert found == {k: (v, analysis.class_homogeneity_stderr[k]) for k, v in analysis.class_homogeneity.items()}
    found = [(row["probe"], float(row["accuracy"]), (float(row["low"]), float(row["high"]))) for row in rows["probes"]]
    assert found == [(p.name, p.accuracy, p.accuracy_interval) for p in analysis.probes]
    purity = [[math.nan if v is None else v for v in at] for at in analysis.rld.purity]
    found = [float(row["purity"] or "nan") for row in rows["classes"]]
    assert found == pytest.approx([v for c in zip(*purity, strict=True) for v in c], abs=0, nan_ok=True)
    found = [float(row[key] or "nan") for row in rows["density"] for key in ("local_purity", "global_purity")]
    assert found == pytest.approx([v for c in range(10) for v in (purity[-1][c], purity[0][c])], abs=0, nan_ok=True)
    found = [int(row["points"]) for row in rows["communities"]]
    assert found == [count for counts in analysis.communities.class_by_community for count in counts]
    mixing = describe_mixing(analysis)["pairs"]
    found = [(row["class"], row["other_class"], float(row["share_in_other"])) for row in rows["pairs"]]
    assert found == [(analysis.classes[a], analysis.classes[b], share) for a, b, share, _ in mixing]
    assert [float(row["accuracy"]) for row in rows["study"]] == [row.result.accuracy for row in analysis.probe_study]


def test_texts_that_a_spreadsheet_would_compute(browser, downloads, tmp_path):
    analysis = record()
    analysis = replace(analysis, classes=["=1+1", '"quoted", and\nbroken', *analysis.classes[2:]])
    opened(browser, write_report(analysis, tmp_path / "report.html"))
    rows = rows_of(saved(browser, downloads, "classes", "csv"))
    assert [row["class"] for row in rows[::3]][:2] == ["'=1+1", '"quoted", and\nbroken']


# ---- several models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1400, 390])
def test_a_training_stays_on_a_page_that_can_be_read(browser, pages, width):
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    console, requests = opened(browser, pages["track"])
    assert (console, requests) == ([], [])
    height, wide, title = browser.execute_script(
        "const e = document.documentElement; return [e.scrollHeight, e.scrollWidth,"
        " document.querySelector('h1').getBoundingClientRect().height]"
    )
    assert height < 6_000
    assert wide == width
    assert title < 120


def test_a_training_is_drawn_along_its_steps(browser, downloads, pages):
    names = [f"epoch {10 * i}" for i in range(1, 9)]
    opened(browser, pages["track"])
    curves = browser.find_elements("css selector", "[data-chart=rld] svg .curve path")
    assert len(curves) == 3  # a temperature each
    assert len(browser.find_elements("css selector", "[data-chart=rld] svg .reach > *")) == 3 * 8
    assert len(browser.find_elements("css selector", "[data-chart=classes] svg")) == 10
    assert [f.text for f in browser.find_elements("css selector", "#map figcaption")] == names
    heads = [cell.text for cell in browser.find_elements("css selector", "#numbers th")]
    assert heads == ["quantity", *(str(10 * i) for i in range(1, 9))]
    browser.find_element("css selector", "[data-by=class]").click()
    browser.find_element("css selector", "[data-legend=map] button:nth-child(2)").click()
    WebDriverWait(browser, 20).until(
        lambda page: (
            {c.get_attribute("data-drawn") for c in page.find_elements("css selector", "canvas:not(.overlay)")}
            == {"class:1"}
        )
    )
    rows = rows_of(saved(browser, downloads, "rld", "csv"))
    assert [row["model"] for row in rows[::3]] == names
    for card in ("rld", "classes", "map"):
        ElementTree.fromstring(saved(browser, downloads, card, "svg"))


def test_many_classes_and_no_probes_along_a_training(browser, tmp_path):
    comparison = cs.compare({f"epoch {i}": record(seed=i, n_classes=120, n_map=0) for i in (1, 2, 3)})
    bare = cs.compare({name: replace(a, probes=[]) for name, a in comparison.analyses.items()})
    console, _ = opened(browser, bare.report(tmp_path / "page.html"))
    assert console == []
    assert "60 least pure of 120 classes" in browser.find_element("id", "classes").text


def test_a_scatter_of_many_classes_shows_one_model_at_a_time(browser, downloads, tmp_path):
    models = {name: record(name=name, seed=i, n_classes=120, n_map=20) for i, name in enumerate("abcd")}
    opened(browser, write_comparison(models, tmp_path / "page.html"))
    marks = (
        "return [...document.querySelectorAll('#density .marks > *')].map(m => m.explanation.split('\\n').slice(0, 2))"
    )
    assert {model for _, model in browser.execute_script(marks)} == {"a"}
    box = browser.find_element("css selector", "#density select")
    browser.execute_script("arguments[0].value = 3; arguments[0].dispatchEvent(new Event('change'))", box)
    assert browser.execute_script(marks) == [[name, "d"] for c, name in enumerate(models["d"].classes) if c != 1]
    assert ">d</text>" in saved(browser, downloads, "density", "svg").decode()
    assert {row["model"] for row in rows_of(saved(browser, downloads, "density", "csv"))} == set("abcd")


def test_eight_models_that_are_no_training(browser, downloads, tmp_path):
    models = {f"{name}_network_with_a_long_name": record(name=name, seed=i) for i, name in enumerate("abcdefgh")}
    size = {"width": 1400, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    console, _ = opened(browser, write_comparison(models, tmp_path / "page.html"))
    assert console == []
    assert browser.find_element("css selector", "h1").text == "8 models compared"
    assert browser.execute_script("return document.documentElement.scrollHeight") < 13_000
    assert len(browser.find_elements("css selector", "[data-chart=study] svg")) == 3  # of one model at a time
    box = browser.find_element("css selector", "#communities select")
    browser.execute_script("arguments[0].value = 7; arguments[0].dispatchEvent(new Event('change'))", box)
    assert browser.find_element("css selector", "#communities figcaption").text == "h_network_with_a_long_name"
    scrolled = "return [...document.querySelectorAll('.table-frame')].filter(f => f.scrollWidth > f.clientWidth).length"
    assert browser.execute_script(scrolled) == 0
    heads = [cell.text for cell in browser.find_elements("css selector", "#suspects th")]
    assert heads[0] == "model"
    suspects = browser.find_elements("css selector", "#suspects tbody tr")
    assert len(suspects) == 8 * 30
    assert [row.text.split()[0] for row in suspects[:8]] == list(models)
    assert {row["model"] for row in rows_of(saved(browser, downloads, "pairs", "csv"))} == set(models)
    box = browser.find_element("css selector", "#pairs select")
    browser.execute_script("arguments[0].value = 3; arguments[0].dispatchEvent(new Event('change'))", box)
    a, b, *_ = describe_mixing(models["d_network_with_a_long_name"])["pairs"][0]
    first = browser.find_element("css selector", "#pairs tbody tr").text
    assert browser.find_element("css selector", "#pairs h3").text == "d_network_with_a_long_name"
    assert "d_network_with_a_long_name" in saved(browser, downloads, "pairs", "svg").decode()
    assert all(models["d_network_with_a_long_name"].classes[c][:20] in first for c in (a, b))
    assert len(browser.find_elements("css selector", "#method details")) == 8
