"""A page in a headless browser."""

import json
import shutil
import time

import pytest


def chromium(profile, *, downloads=None):
    """A browser that logs its console and its requests, and saves what is downloaded in a folder."""
    webdriver = pytest.importorskip("selenium.webdriver")
    driver_path = shutil.which("chromedriver")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if driver_path is None or browser is None:
        pytest.skip("Chromium and its driver are not installed (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    flags = "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
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
    """Whether the page is drawn, in the end."""
    for _ in range(100):
        if browser.execute_script("return document.documentElement.dataset.ready") == "true":
            return True
        time.sleep(0.1)
    return False


def opened(browser, path):
    """The page, drawn, with its console and its requests since the last one (the browser's own pages left out)."""
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(path.as_uri())
    assert is_drawn(browser)
    console = browser.get_log("browser")
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return console, [url for url in requests if not url.startswith(("file:", "data:", "blob:", "chrome:"))]


def saved(browser, downloads, card, form):
    """Bytes of a file, once it is there."""
    time.sleep(0.15)  # Chromium drops, without a word, the eleventh download that a page asks for within a second
    for old in downloads.iterdir():
        old.unlink()
    (button,) = browser.find_elements("css selector", f"#{card} [data-format={form}]")
    browser.execute_script("arguments[0].click()", button)
    path = downloads / f"{card}.{form}"
    for _ in range(200):
        if path.exists():
            return path.read_bytes()
        time.sleep(0.1)
    raise AssertionError(f"{path.name} was not downloaded")
