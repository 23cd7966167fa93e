"""The report as a reader sees it: in a headless browser, offline, with hostile names."""

import base64
import gzip
import json
import re
from dataclasses import replace

import pytest
from browsing import opened
from records import HOSTILE, record

from clorg_scale.report import write_comparison, write_report
from clorg_scale.report.findings import (
    comparison_findings,
    comparison_headline,
    comparison_title,
    findings,
    headline,
    homogeneity_basis,
    trajectory_headline,
)


@pytest.mark.browser
def test_opens_offline_without_a_complaint_and_shows_every_panel(browser, pages):
    analysis = record()
    console, requests = opened(browser, pages["one"])
    assert console == []
    assert requests == []
    assert browser.title == "model · clorg-scale"
    assert browser.find_element("css selector", ".lead").text == headline(analysis)
    for panel in ("rld", "chi", "probes", "density", "communities"):
        assert browser.find_elements("css selector", f"[data-chart={panel}] svg text"), panel
    assert len(browser.find_elements("css selector", "[data-chart=rld] svg .marks > *")) == 3
    assert len(browser.find_elements("css selector", "[data-chart=classes] tbody tr")) == 10
    assert (
        len(browser.find_elements("css selector", "[data-chart=density] svg .marks > *")) == 9
    )  # one class has no purity
    assert len(browser.find_elements("css selector", ".suspects tbody tr")) == 30
    assert "0.8643" in browser.find_element("id", "numbers").get_attribute("textContent")
    painted = (
        "const c=document.querySelector('canvas');const p=c.getContext('2d').getImageData(0,0,c.width,c.height).data;"
    )
    other = "const w=new Uint32Array(p.buffer);return w.reduce((n,v)=>n+(v!==w[0]),0)"  # than the ground
    assert 1000 < browser.execute_script(painted + other) < 200_000


@pytest.mark.browser
def test_hostile_names_stay_text(browser, tmp_path):
    opened(browser, write_report(record(name=HOSTILE), tmp_path / "report.html"))
    assert browser.find_element("css selector", "h1").text == HOSTILE
    assert browser.title.startswith("<script>")
    cells = [cell.get_attribute("textContent") for cell in browser.find_elements("css selector", ".suspects td")]
    assert HOSTILE in cells
    assert len(browser.find_elements("css selector", "script")) == 3


@pytest.mark.browser
def test_map_colors_singles_out_and_tells_of_points(browser, tmp_path):
    analysis = record(n_map=1)
    opened(browser, write_report(analysis, tmp_path / "report.html"))
    canvas = browser.find_element("css selector", "canvas")
    assert drawn(browser) == "density:"
    browser.find_element("css selector", "[data-by=community]").click()
    assert drawn(browser) == "community:"
    browser.find_element("css selector", "[data-by=class]").click()
    assert drawn(browser) == "class:"
    names = browser.find_elements("css selector", "[data-legend=map] button")
    assert names[1].text == "class 1"
    names[1].click()
    assert drawn(browser) == "class:1"
    browser.find_elements("css selector", "[data-legend=map] button")[1].click()
    assert drawn(browser) == "class:"
    from selenium.webdriver import ActionChains

    ActionChains(browser).move_to_element(canvas).perform()  # the only point lies in the middle
    tip = browser.find_element("id", "tip").text
    assert f"row {analysis.point_map.index[0]:,}" in tip
    assert f"community {analysis.point_map.community[0]}" in tip


def drawn(browser):
    """What the first map shows, once it is drawn."""
    script = (
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() =>"
        " done(document.querySelector('canvas').dataset.drawn)))"
    )
    return browser.execute_async_script(script)


@pytest.mark.browser
def test_tables_sort_search_and_unfold(browser, tmp_path):
    opened(browser, write_report(record(n_classes=80), tmp_path / "report.html"))
    head = browser.find_element("css selector", ".suspects th:nth-child(4)")
    for order in ("ascending", "descending"):
        head.click()
        assert head.get_attribute("aria-sort") == order
        cells = browser.find_elements("css selector", ".suspects td:nth-child(4)")
        values = [float(cell.get_attribute("textContent")) for cell in cells]
        assert values == sorted(values, reverse=order == "descending")
    heads = browser.find_elements("css selector", "#classes thead th")
    heads[1].click(), heads[1].click()
    sizes = record(n_classes=80).class_sizes
    shown = browser.find_elements("css selector", "#classes tbody tr:not([hidden])")
    assert len(shown) == 25
    assert f"{max(sizes):,}" in shown[0].text
    browser.find_element("css selector", "#classes .unfold button").click()
    assert len(browser.find_elements("css selector", "#classes tbody tr:not([hidden])")) == 80
    browser.find_element("css selector", "#classes input[type=search]").send_keys("class 7")
    names = [n.text for n in browser.find_elements("css selector", "#classes tbody tr:not([hidden]) th")]
    assert sorted(names) == sorted(f"class {n}" for n in (7, *range(70, 80)))


@pytest.mark.browser
@pytest.mark.parametrize(
    "change",
    [
        {"n_classes": 1000, "n_communities": 300},
        {"n_classes": 2, "n_communities": 1, "temperatures": (0.1,)},
        {"n_map": 0, "n_suspects": 0},
    ],
)
def test_many_and_few_of_everything(browser, tmp_path, change):
    console, _ = opened(browser, write_report(record(**change), tmp_path / "report.html"))
    assert console == []
    text = browser.find_element("css selector", "body").text
    assert "1 communities" not in text
    # Rows of a table of communities, which stands in the place of the matrix, do not sum to 1.
    assert ("Each row of a matrix" in text) == (change.get("n_classes") != 1000)


@pytest.mark.browser
def test_no_probes(browser, tmp_path):
    console, _ = opened(browser, write_report(replace(record(), probes=[]), tmp_path / "report.html"))
    assert console == []
    assert "No probe was run" in browser.find_element("id", "probes").text


@pytest.mark.browser
def test_study_of_the_probes(browser, pages, tmp_path):
    opened(browser, pages["one"])
    charts = browser.find_elements("css selector", "[data-chart=study] svg")
    # Labels: two points of the linear probe and of the GCN, one of k-NN; the others dotted where they do not depend.
    assert [len(chart.find_elements("css selector", ".reach > *")) for chart in charts] == [5, 3, 2]
    assert [len(chart.find_elements("css selector", "[stroke-dasharray='2 4'] path")) for chart in charts] == [0, 1, 2]
    assert len(browser.find_elements("css selector", "#study tbody tr")) == 7
    console, _ = opened(browser, write_report(replace(record(), probe_study=[]), tmp_path / "report.html"))
    assert console == []
    assert not browser.find_elements("id", "study")


def of_a_sample(size, **settings):
    """A record whose class homogeneity is of so many points; None for all."""
    analysis = record(**settings)
    if size is None:
        errors = dict.fromkeys(analysis.class_homogeneity, 0.0)
        return replace(analysis, class_homogeneity_points=sum(analysis.class_sizes), class_homogeneity_stderr=errors)
    return replace(analysis, class_homogeneity_points=size)


@pytest.mark.browser
def test_class_homogeneity_with_its_sample_error_and_metric(browser, tmp_path):
    console, _ = opened(browser, write_report(of_a_sample(5_000), tmp_path / "report.html"))
    assert console == []
    tiles = [tile.text for tile in browser.find_elements("css selector", ".tile")]
    assert "0.870 ± 0.004\nCHI, k = 1, cosine, 5,000 points" in tiles
    n_labeled = sum(record().class_sizes)
    note = browser.find_element("css selector", "#chi .note").text
    assert (
        f"neighbors (cosine) that have the point's class, mean over a random sample of 5,000 of the {n_labeled:,}"
        in note
    )
    assert "± is one standard error" in note
    numbers = browser.find_element("id", "numbers").get_attribute("textContent")
    assert "CHI, k = 1 (cosine)0.8700 ± 0.0040, 5,000 points" in numbers
    models = {"a": of_a_sample(5_000), "b": of_a_sample(None, seed=1)}
    opened(browser, write_comparison(models, tmp_path / "comparison.html"))
    note = browser.find_element("css selector", "#chi .note").text
    assert "“a”: mean over a random sample of 5,000" in note
    assert "“b”: mean over all" in note
    rows = [row.text for row in browser.find_elements("css selector", ".tile-row")]
    assert ["± 0.004" in row for row in rows] == [True, False]


@pytest.mark.parametrize(
    ("sizes", "basis"),
    [
        ((None,), "mean over all 9,867 labeled points"),
        ((None, None), "mean over all 9,867 labeled points"),
        (
            (50,),
            "mean over a random sample of 50 of the 9,867 labeled points; ± is one standard error, "
            "bars are 95 % intervals",
        ),
    ],
)
def test_basis_of_class_homogeneity(sizes, basis):
    assert homogeneity_basis({str(i): of_a_sample(size) for i, size in enumerate(sizes)}) == basis
    assert homogeneity_basis({"old": record(), "new": of_a_sample(50)}) == ""


@pytest.mark.browser
def test_comparison_shows_every_model_and_links_the_maps(browser, tmp_path):
    models = {name: record(name=name, seed=seed) for seed, name in enumerate(("contrastive", "supervised", HOSTILE))}
    console, requests = opened(browser, write_comparison(models, tmp_path / "comparison.html"))
    assert console == []
    assert requests == []
    canvases = browser.find_elements("css selector", "canvas:not(.overlay)")
    assert len(canvases) == 3
    assert len(browser.find_elements("css selector", "[data-chart=rld] svg .curve path")) == 3 + 1
    browser.find_element("css selector", "[data-by=class]").click()
    browser.find_elements("css selector", "[data-legend=map] button")[2].click()
    drawn(browser)
    assert {canvas.get_attribute("data-drawn") for canvas in canvases} == {"class:2"}
    names = [name.text for name in browser.find_elements("css selector", ".tile-row .model")]
    assert names == list(models)


def test_the_data_in_the_page_is_the_analysis(tmp_path):
    analysis = record(name=HOSTILE)
    page = write_report(analysis, tmp_path / "report.html").read_text()
    embedded = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(embedded)["analyses"][0] == json.loads(json.dumps(analysis.to_dict()))
    assert "<script>document.title" not in page
    assert set(re.findall(r"https?://[^/\"]+", page)) <= {"http://www.w3.org"}  # names of kinds of documents


@pytest.mark.browser
def test_much_data_is_compressed_and_whole(browser, tmp_path):
    models = {name: record(name=name, n_classes=300, n_communities=200, seed=i) for i, name in enumerate("abcd")}
    path = write_comparison(models, tmp_path / "report.html")
    page = path.read_text()
    packed = page.partition('type="application/gzip" id="data">')[2].partition("</script>")[0]
    data = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert data["analyses"] == json.loads(json.dumps([analysis.to_dict() for analysis in models.values()]))
    assert len(packed) < 0.6 * len(json.dumps(data))
    console, requests = opened(browser, path)
    assert (console, requests) == ([], [])
    for model in range(4):  # each model's values are there, all but that of the class without a purity
        box = browser.find_element("css selector", "#density select")
        browser.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))", box, model
        )
        assert len(browser.find_elements("css selector", "[data-chart=density] svg .marks > *")) == 299


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = write_report(record(), tmp_path / "report.html")
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ValueError, match="disk is full"):
        write_report(record(name="other"), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def with_rld(values, temperatures=(1.0, 0.05)):
    analysis = record(temperatures=temperatures)
    return replace(analysis, rld=replace(analysis.rld, values=list(values)))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.06, 0.80), "dense locally but hardly globally"),
        ((0.30, 0.80), "denser locally than globally"),
        ((0.70, 0.80), "dense at every scale"),
        ((0.01, 0.02), "hardly denser than their surroundings"),
    ],
)
def test_the_headline_says_what_the_numbers_say(values, words):
    sentence = headline(with_rld(values))
    assert words in sentence
    assert f"{values[0]:.2f}" in sentence
    assert f"{values[1]:.2f}" in sentence


def test_findings_are_computed():
    sentences = " ".join(findings(record()))
    assert "87 %" in sentences
    assert "53 %" in sentences
    assert "The most accurate probe is the GCN (0.877)" in sentences
    assert "the linear probe scores 0.864 with 5,130, and their 95 % intervals overlap" in sentences
    text = comparison_headline({"a": with_rld((0.06, 0.8)), "b": with_rld((0.5, 0.7))})
    assert "densest in “b”" in text
    assert "near neighbors (T = 0.05) in “a”" in text
    assert "is 0.0012 for “a”, 0.0013 for “b”; " in comparison_headline(
        {"a": with_rld((0.0012, 0.8)), "b": with_rld((0.0013, 0.9))}
    )
    assert "both globally and locally" in comparison_headline({"a": with_rld((0.6, 0.8)), "b": with_rld((0.5, 0.7))})


def test_findings_of_many_models_are_about_all_of_them():
    """Their extremes, in a sentence for each quantity, not a sentence for each model."""
    models = {name: record(name=name, seed=seed) for seed, name in enumerate("abcdefgh")}
    models["c"] = replace(models["c"], class_homogeneity={1: 0.9123, 50: 0.5, 1000: 0.53})
    linear, *others = models["e"].probes
    models["e"] = replace(models["e"], probes=[replace(linear, accuracy=0.95), *others])
    assert comparison_findings(models) == [
        "Class homogeneity among nearest neighbors (k = 1) goes from 0.870 in “a” to 0.912 in “c”.",
        "Class homogeneity among 1,000 nearest neighbors is 0.530 in all models.",
        "The most accurate probe is the GCN on 7 of 8 models, the linear one on 1; "
        "its accuracy goes from 0.877 in “a” to 0.950 in “e”.",
    ]
    without = {
        name: replace(a, probes=[], class_homogeneity={seed: 0.5}) for seed, (name, a) in enumerate(models.items())
    }
    assert comparison_findings(without) == []
    assert comparison_title(list("ab")) == "a against b"
    assert comparison_title(list("abc")) == "a, b and c"
    assert comparison_title(list("abcd")) == "4 models compared"


def test_changes_along_a_training_are_seen_in_their_digits():
    sentence = trajectory_headline({"1": with_rld((0.0512, 0.8)), "2": with_rld((0.0523, 0.8))})
    assert sentence.endswith("goes from 0.80 to 0.80, and across the whole set (T = 1) from 0.051 to 0.052.")


def test_probes_have_their_articles_in_sentences():
    def best(name):
        (probe,) = (p for p in record().probes if p.name == "gcn")
        return findings(replace(record(), probes=[replace(probe, name=name)]))

    for name, words in (("knn", "the k-NN vote"), ("sage", "GraphSAGE"), ("label_propagation", "label propagation")):
        assert f"The most accurate probe is {words} (0.877)." in best(name)


@pytest.mark.browser
def test_all_communities_stand_in_the_matrix(browser, tmp_path):
    """None is summed up with others, and a matrix that is wider than its card scrolls in a frame, not the page."""
    opened(browser, write_report(record(n_communities=60), tmp_path / "report.html"))
    assert len(browser.find_elements("css selector", "#communities .cells > *")) == 10 * 60
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    )
    opened(browser, tmp_path / "report.html")
    wide, shown, page = browser.execute_script(
        "const f = document.querySelector('#communities .wide-frame');"
        " return [f.scrollWidth, f.clientWidth, document.documentElement.scrollWidth]"
    )
    assert wide > 60 * 11
    assert (shown < 390, page) == (True, 390)
    opened(browser, write_report(record(n_communities=130), tmp_path / "report.html"))
    rows = browser.find_elements("css selector", "#communities tbody tr")
    assert len(rows) == 130


@pytest.mark.browser
def test_axes_begin_and_end_at_the_first_and_last_value(browser, pages):
    opened(browser, pages["three"])
    models = [record(name=name, seed=seed) for seed, name in enumerate(("SimCLR", "MoCo v3", "DINO"))]
    highest = {
        "rld": max(v + 1.96 * e for m in models for v, e in zip(m.rld.values, m.rld.stderr, strict=True)),
        "chi": max(
            v + 1.96 * m.class_homogeneity_stderr.get(k, 0.0) for m in models for k, v in m.class_homogeneity.items()
        ),
    }
    purity = {t: [p for m in models for p in m.rld.purity[t] if p is not None] for t in (0, -1)}
    bounds = [bound for m in models for probe in m.probes for bound in probe.accuracy_interval]
    expected = {
        ("rld", "y"): (0.0, highest["rld"]),
        ("rld", "x"): (0.05, 1.0),
        ("chi", "y"): (0.0, highest["chi"]),
        ("density", "x"): (min(purity[0]), max(purity[0])),
        ("density", "y"): (min(purity[-1]), max(purity[-1])),
        ("probes", "x"): (min(bounds), max(bounds)),
    }
    for (panel, axis), ends in expected.items():
        found = browser.execute_script(
            "return document.querySelector(`[data-chart=${arguments[0]}] svg`).scale(arguments[1]).domain", panel, axis
        )
        assert found == pytest.approx(ends, abs=1e-9), (panel, axis)
    labels = [text.text for text in browser.find_elements("css selector", "[data-chart=rld] svg g text")]
    assert f"{highest['rld']:.2f}" in labels
