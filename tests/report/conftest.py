"""One browser for all tests of the pages, which are written once."""

from dataclasses import replace

import pytest
from browsing import chromium
from records import record

import clorg_scale as cs
from clorg_scale.report import write_comparison, write_report


@pytest.fixture(scope="session")
def downloads(tmp_path_factory):
    """Folder in which the browser saves."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def chromium_of_the_session(tmp_path_factory, downloads):
    driver = chromium(tmp_path_factory.mktemp("profile"), downloads=downloads)
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium_of_the_session):
    """The browser, as wide and as light as it is by default."""
    driver = chromium_of_the_session
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    return driver


def checkpoints(n=8, **settings):
    return cs.compare({f"epoch {10 * i}": record(name=f"epoch {10 * i}", seed=i, **settings) for i in range(1, n + 1)})


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """A page of each kind: of `record()`, of many classes, of three and of eight models, of eight checkpoints."""
    folder = tmp_path_factory.mktemp("pages")
    names = ("SimCLR", "MoCo v3", "DINO", "BYOL", "supervised", "CLIP", "MAE", "Barlow Twins")
    eight = {name: record(name=name, seed=seed) for seed, name in enumerate(names)}
    for analysis in eight.values():
        analysis.probes.append(replace(analysis.probes[1], name="label_propagation"))
    three = {name: eight[name] for name in names[:3]}
    return {
        "one": write_report(record(), folder / "one.html"),
        "many classes": write_report(record(n_classes=60, n_communities=30), folder / "many.html"),
        "three": write_comparison(three, folder / "three.html"),
        "eight": write_comparison(eight, folder / "eight.html"),
        "track": checkpoints().report(folder / "track.html"),
    }
