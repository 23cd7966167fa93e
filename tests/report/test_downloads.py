"""Downloads of each card, and the page of a training, as a reader sees them in a headless browser."""

import csv
import io
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from browsing import opened, saved
from records import HOSTILE, record

import clorg_scale as cs
from clorg_scale.report import write_comparison, write_report

pytestmark = pytest.mark.browser

PICTURES = {"rld", "chi", "probes", "density", "classes", "pairs", "study", "map", "communities"}


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
    for card in ("rld", "map"):
        assert saved(browser, downloads, card, "png").startswith(b"\x89PNG")
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
    time.sleep(0.3)
    canvases = browser.find_elements("css selector", "canvas:not(.overlay)")
    drawn = {canvas.get_attribute("data-drawn") for canvas in canvases}
    assert drawn == {"class:1"}
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


def test_eight_models_that_are_no_training(browser, tmp_path):
    models = {f"{name} network": record(name=name, seed=i) for i, name in enumerate("abcdefgh")}
    console, _ = opened(browser, write_comparison(models, tmp_path / "page.html"))
    assert console == []
    assert browser.find_element("css selector", "h1").text == "8 models compared"
    assert browser.execute_script("return document.documentElement.scrollHeight") < 13_000
    assert len(browser.find_elements("css selector", "[data-chart=study] svg")) == 3  # of one model at a time
    box = browser.find_element("css selector", "#communities select")
    browser.execute_script("arguments[0].value = 7; arguments[0].dispatchEvent(new Event('change'))", box)
    assert browser.find_element("css selector", "#communities figcaption").text == "h network"
    assert len(browser.find_elements("css selector", "#method details")) == 8
