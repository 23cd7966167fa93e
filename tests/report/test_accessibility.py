"""The page for every eye and hand: axe-core's rules, the keyboard, the wheel, fingers, and small screens."""

from dataclasses import replace
from pathlib import Path

import pytest
from browsing import opened
from records import record

from clorg_scale.report import write_comparison

pytestmark = pytest.mark.browser

AXE = Path(__file__).parent / "axe-core" / "axe.min.js"
"""axe-core 4.14.1 of Deque Systems, MPL-2.0 (its LICENSE stands beside it)."""


def emulate(browser, *, width=1280, dark=False, touch=False):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


@pytest.mark.parametrize(
    ("page", "width", "dark"),
    [
        ("one", 390, True),
        ("three", 1400, False),
        *(
            pytest.param(*other, marks=pytest.mark.slow)
            for other in (
                ("many classes", 1400, True),
                ("track", 390, False),
                ("eight", 1400, True),
                ("eight", 390, False),
            )
        ),
    ],
)
def test_axe_finds_nothing_serious(browser, pages, page, width, dark):
    emulate(browser, width=width, dark=dark)
    opened(browser, pages[page])
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run(document, { resultTypes: ['violations'] }).then(r => done(r.violations.map("
        "v => [v.id, v.impact, v.nodes.length, v.nodes[0].html.slice(0, 200), v.nodes[0].failureSummary])))"
    )
    assert [entry for entry in found if entry[1] in ("serious", "critical")] == []


def test_text_is_legible_and_nothing_sticks_out_on_a_phone(browser, pages):
    emulate(browser, width=390)
    opened(browser, pages["three"])
    sizes, sticking = browser.execute_script(
        """const sizes = [...document.querySelectorAll("svg:not(.key) text")].map(t => {
             const svg = t.ownerSVGElement, scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
             return parseFloat(getComputedStyle(t).fontSize) * scale;
           });
           return [sizes, document.documentElement.scrollWidth - innerWidth];"""
    )
    assert min(sizes) > 10.5
    assert sticking == 0


@pytest.mark.parametrize(("page", "width"), [("three", 1400), ("three", 390), ("eight", 390)])
def test_no_text_of_a_chart_is_cut_and_charts_of_a_row_are_level(browser, pages, page, width):
    emulate(browser, width=width)
    opened(browser, pages[page])
    cut, tops, scrolled = browser.execute_script(
        """const cut = [...document.querySelectorAll("figure svg text, .chart svg text")].filter(node => {
             const box = node.getBoundingClientRect(), frame = node.ownerSVGElement.getBoundingClientRect();
             return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1);
           });
           const topOf = id => document.querySelector(`#${id} svg`).getBoundingClientRect().top;
           return [cut.map(node => node.textContent), [topOf("rld"), topOf("chi"), topOf("probes"), topOf("density")],
                   [...document.querySelectorAll(".table-frame")].filter(f => f.scrollWidth > f.clientWidth).length];"""
    )
    assert cut == []
    if width == 1400:
        assert tops[0] == pytest.approx(tops[1], abs=1)
        assert tops[2] == pytest.approx(tops[3], abs=1)
        assert scrolled == 0  # every column of every table is in sight


def test_the_names_of_rows_stay_in_sight_in_a_wide_table(browser, pages):
    """On a phone, and leave more than half of the width to the numbers."""
    emulate(browser, width=390)
    opened(browser, pages["track"])
    wide = browser.execute_script(
        """const wide = [...document.querySelectorAll(".table-frame")].filter(
             f => f.offsetParent && f.scrollWidth > f.clientWidth + 60);
           return wide.map(frame => {
             frame.scrollLeft = 60;
             const left = frame.getBoundingClientRect().left, cells = [...frame.querySelectorAll("tr > :first-child")];
             const boxes = cells.filter(cell => cell.offsetParent).map(cell => cell.getBoundingClientRect());
             return [Math.max(...boxes.map(b => Math.abs(b.left - left))), boxes[0].width / frame.clientWidth];
           });"""
    )
    assert wide
    for shift, share in wide:
        assert shift < 1
        assert share < 0.5


def test_a_long_name_without_a_space_leaves_the_numbers_in_sight(browser, tmp_path):
    """Of a class and of a model, on a phone: the column that stays in sight keeps to less than half of the width."""
    emulate(browser, width=390)
    long = "Pneumonoultramicroscopicsilicovolcanosis"
    analyses = {
        name: replace(a, name=name, classes=[f"{long}{c}" for c in range(10)])
        for name, a in ((f"{long}_{i}", record(seed=i)) for i in range(2))
    }
    opened(browser, write_comparison(analyses, tmp_path / "long.html"))
    shares = browser.execute_script(
        """for (const closed of document.querySelectorAll("details")) closed.open = true;
           return [...document.querySelectorAll(".table-frame")].filter(f => f.offsetParent).map(frame => {
             const boxes = [...frame.querySelectorAll("tr > :first-child")].map(cell => cell.getBoundingClientRect());
             const widest = Math.max(...boxes.map(b => b.width));
             return [frame.querySelector("caption").textContent, widest / frame.clientWidth];
           });"""
    )
    assert len(shares) > 5
    assert [(caption, share) for caption, share in shares if share > 0.5] == []
    opened(
        browser, write_comparison({n: record(name=n) for n in ("contrastive", "supervised")}, tmp_path / "short.html")
    )
    (height,) = browser.execute_script("return [document.querySelector('#pairs tbody td').getClientRects()[0].height]")
    assert height < 60  # a name of usual length is not broken


def test_nothing_sticks_out_on_paper(browser, pages):
    size = {"width": 794, "height": 1123, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    opened(browser, pages["three"])
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") == 0
    controls = browser.find_elements("css selector", ".controls, .downloads")
    assert controls
    assert not any(node.is_displayed() for node in controls)


def test_charts_are_no_larger_on_paper_than_on_the_screen(browser, pages):
    """So that two fit on a page; and a dark page is white on paper."""
    emulate(browser, dark=True)
    opened(browser, pages["three"])
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [dark]})
    size = {"width": 794, "height": 1123, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scales, grounds = browser.execute_script(
        """const charts = [...document.querySelectorAll(".chart > svg")], cards = document.querySelectorAll(".card");
           return [charts.map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width),
                   [document.body, ...cards].map(n => getComputedStyle(n).backgroundColor)];"""
    )
    assert len(scales) >= 4
    assert max(scales) <= 1.01
    assert set(grounds) == {"rgb(255, 255, 255)"}


def middle_of_map(browser):
    """Middle of the first map, brought to the middle of the window."""
    return browser.execute_script(
        "const frame = document.querySelector('.frame'); frame.scrollIntoView({ block: 'center' });"
        "const b = frame.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]"
    )


def view_of(browser):
    """What the first map shows, as its pixels."""
    return browser.execute_async_script(
        "const done = arguments[0]; setTimeout(() => done(document.querySelector('canvas').toDataURL()), 400)"
    )


def test_the_wheel_scrolls_the_page_and_with_ctrl_zooms_the_map(browser, pages):
    emulate(browser)
    opened(browser, pages["one"])
    x, y = middle_of_map(browser)
    before, top = view_of(browser), browser.execute_script("return scrollY")
    wheel = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": -120}
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", wheel)
    assert view_of(browser) == before
    assert browser.execute_script("return scrollY") == top - 120
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", wheel | {"modifiers": 2})
    assert view_of(browser) != before
    assert browser.execute_script("return scrollY") == top - 120


def test_one_finger_scrolls_the_page_and_two_zoom_the_map(browser, pages):
    emulate(browser, width=390, touch=True)
    opened(browser, pages["one"])
    x, y = middle_of_map(browser)
    before, top = view_of(browser), browser.execute_script("return scrollY")
    for kind, up in (("touchStart", 0), *(("touchMove", 25 * step) for step in range(1, 9)), ("touchEnd", None)):
        points = [] if up is None else [{"x": x, "y": y - up, "id": 0}]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert view_of(browser) == before
    assert browser.execute_script("return scrollY") > top + 100
    x, y = middle_of_map(browser)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 100), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert view_of(browser) != before
    assert browser.execute_script("return visualViewport.scale") == 1
    emulate(browser)


def test_the_keyboard_reaches_every_plot(browser, pages):
    from selenium.webdriver import Keys

    emulate(browser)
    opened(browser, pages["one"])
    for panel in ("rld", "chi", "probes", "density", "communities"):
        chart = browser.find_element("css selector", f"[data-chart={panel}] svg")
        assert chart.get_attribute("tabindex") == "0", panel
        chart.send_keys(Keys.ARROW_RIGHT)
        first = browser.find_element("id", "tip").text
        chart.send_keys(Keys.ARROW_RIGHT)
        assert first
        assert browser.find_element("id", "tip").text != first, panel
    canvas, before = browser.find_element("css selector", "canvas"), view_of(browser)
    canvas.send_keys("+")
    zoomed = view_of(browser)
    assert zoomed != before
    canvas.send_keys(Keys.ARROW_LEFT)
    assert view_of(browser) != zoomed
    canvas.send_keys("0")
    assert view_of(browser) == before
    browser.find_element("css selector", "body").send_keys(Keys.HOME)
    browser.find_element("css selector", ".term").send_keys(Keys.ENTER)
    assert browser.find_element("css selector", ".definition:popover-open").text.startswith("RLD")
