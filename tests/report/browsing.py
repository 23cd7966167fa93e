"""A page in a headless browser."""

import json
import shutil
import time

import pytest

SCRIPTS = [
    "<script>planted=1</script>",
    "</script><script>planted=1</script>",
    "<img src=x onerror=planted=1>",
    '"><svg onload=planted=1>',
    "' onmouseover='planted=1' x='",
    "javascript:planted=1",
    "<iframe srcdoc='<script>parent.planted=1</script>'>",
    "<!--<script>planted=1//-->",
    "\u2028</title></style><body onload=planted=1>",
    "${planted=1}{{ 7 * 7 }}{% raw %}",
]


def chromium(profile, *, downloads=None):
    """A browser that logs its console and its requests, and saves what is downloaded in a folder."""
    webdriver = pytest.importorskip("selenium.webdriver")
    driver_path = shutil.which("chromedriver")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if driver_path is None or browser is None:
        pytest.skip("Chromium and its driver are not installed (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    flags = "headless=new no-sandbox use-gl=angle use-angle=swiftshader enable-unsafe-swiftshader disable-quic "
    flags += "no-first-run disable-background-networking "
    flags += "disable-component-update disable-sync hide-scrollbars window-size=1280,1000"
    for flag in flags.split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if downloads is not None:
        several = {"profile.default_content_setting_values.automatic_downloads": 1}
        options.add_experimental_option("prefs", several | {"download.default_directory": str(downloads)})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))


def is_drawn(browser):
    """Whether the page is drawn, in the end (a busy machine takes its time)."""
    for _ in range(300):
        if browser.execute_script("return document.documentElement.dataset.ready") == "true":
            return True
        time.sleep(0.1)
    return False


def console_of(browser):
    """What stands in the console since the last call, but for what a driver says of its speed."""
    return [entry for entry in browser.get_log("browser") if "GL Driver Message" not in entry["message"]]


def opened(browser, path, fragment=""):
    """The page, drawn, with its console and its requests since the last one (the browser's own pages left out)."""
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(path.as_uri() + fragment)
    assert is_drawn(browser)
    console = console_of(browser)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return console, [url for url in requests if not url.startswith(("file:", "data:", "blob:", "chrome:"))]


def downloaded(browser, downloads, selector, name):
    """The file of that name (or pattern) that a click on a button downloads, once all of it is there."""
    time.sleep(0.15)  # Chromium drops, without a word, the eleventh download that a page asks for within a second
    for old in downloads.iterdir():
        old.unlink()
    (button,) = browser.find_elements("css selector", selector)
    browser.execute_script("arguments[0].click()", button)
    for _ in range(300):
        # Chromium holds the name with an empty file, writes another, and renames that one in the end.
        found = [file for file in downloads.glob(name) if file.stat().st_size]
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"no {name} was downloaded but {[file.name for file in downloads.iterdir()]}")


def saved(browser, downloads, card, form):
    """Bytes of a card's picture or table."""
    return downloaded(browser, downloads, f"#{card} [data-format={form}]", f"{card}.{form}").read_bytes()


def opens_and_runs_none(browser, page, *, n_images=0):
    """Open a page in whose texts scripts are planted, use it, and see that none ran or became an element."""
    console, requests = opened(browser, page)
    assert (console, requests) == ([], [])
    for selector in (
        "#classes thead button",
        "#classes tbody button",
        "[data-by=class]",
        "[data-by=community]",
        "summary",
    ):
        for node in browser.find_elements("css selector", selector)[:3]:
            browser.execute_script("arguments[0].click()", node)
    browser.execute_script(
        "for (const node of document.querySelectorAll('svg *, td, th, canvas'))"
        " for (const kind of ['pointermove', 'pointerover', 'focusin'])"
        " node.dispatchEvent(new PointerEvent(kind, { bubbles: true }))"
    )
    assert browser.execute_script("return typeof planted") == "undefined"
    assert len(browser.find_elements("css selector", "script")) == 3
    assert not browser.find_elements("css selector", "iframe, [onload], [onerror], [onmouseover]")
    assert len(browser.find_elements("css selector", "img")) == n_images
    assert console_of(browser) == []
