"""Images of the points in a report: folders, idx and Parquet files, and what is refused."""

import base64
import csv
import gzip
import io
import re
import struct
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from browsing import SCRIPTS, is_drawn, opened, opens_and_runs_none, saved
from records import record

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN
from clorg_scale.report import page as page_module
from clorg_scale.report import write_report
from clorg_scale.report.image_sources import open_images
from clorg_scale.report.thumbnails import describe_images

image = pytest.importorskip("PIL.Image")

N = 120
"""Points; the image of row i is gray with the value 2 i."""


def encoded(row, size=40, form="PNG"):
    content = io.BytesIO()
    image.new("RGB", (size, size), (2 * row,) * 3).save(content, form)
    return content.getvalue()


def as_folders(folder):
    for row in range(N):
        place = folder / f"class-{row // 40}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row:03}.png").write_bytes(encoded(row))
    return folder


def as_one_folder(folder):
    folder.mkdir()
    for row in range(N):
        (folder / f"{row:03}.png").write_bytes(encoded(row))
    return folder


def as_idx(folder, n=N):
    values = np.repeat(2 * np.arange(n, dtype=np.uint8), 28 * 28)
    path = folder.with_name("images-idx3-ubyte.gz")
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", n, 28, 28) + values.tobytes()))
    return path


def as_idx_of_another_name(folder):
    return as_idx(folder).rename(folder.with_name("first_images.gz"))


def as_parquet(folder):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": encoded(row), "path": None} for row in range(N)]
    path = folder.with_name("images.parquet")
    table = pyarrow.table({"image": rows, "label": list(range(N))})
    parquet.write_table(table, path, row_group_size=50)
    return path


@pytest.mark.parametrize("write", [as_folders, as_one_folder, as_idx, as_idx_of_another_name, as_parquet])
def test_images_are_those_of_the_rows(write, tmp_path):
    rows = [0, 3, 49, 50, 101, 119]
    found = open_images(write(tmp_path / "images"), N).read(rows, 32)
    assert [np.asarray(picture).reshape(-1)[0] for picture in found] == [2 * row for row in rows]


def with_neighbors():
    """A record of N points whose nearest neighbors are the rows after them."""
    rng = np.random.default_rng(0)
    community = np.sort(rng.integers(0, 14, N)).astype(np.int32)
    points = {"class_code": (np.arange(N) % 10).astype(np.int32), "community": community}
    points["local_density"] = rng.random(N).astype(np.float32)
    analysis = record(n_map=0)
    sizes = np.bincount(community, minlength=14).tolist()
    analysis = replace(analysis, n_points=N, points=points, communities=replace(analysis.communities, sizes=sizes))
    indices = (np.arange(N)[:, None] + np.arange(1, 6)) % N
    return analysis.with_neighbors(KNN.from_arrays(indices, np.tile(np.arange(1.0, 6.0), (N, 1)), metric="euclidean"))


def test_what_is_shown_is_what_the_record_says(tmp_path):
    analysis = with_neighbors()
    described = describe_images([analysis], open_images(as_idx(tmp_path / "x"), N))
    (shown,) = described["models"]
    suspect = shown["suspects"][4]
    assert suspect["row"] == analysis.suspects[4].index == 4
    assert suspect["neighbors"] == [[row, analysis.classes[row % 10]] for row in (5, 6, 7)]
    assert [entry["rows"][0][0] for entry in shown["pairs"]] == [p.index for p in analysis.issues.look_alikes[:24]]
    for entry in shown["communities"]:
        members = set(np.flatnonzero(analysis.points["community"] == entry["community"]).tolist())
        assert {row for row, _ in entry["rows"]} <= members
        assert len(entry["rows"]) == min(8, len(members))
    for row, url in described["thumbnails"].items():
        picture = image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        assert np.asarray(picture).reshape(-1)[0] == 2 * row


def test_thumbnails_are_small_and_made_once_for_all_models(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for row in range(N):
        (folder / f"{row:03}.png").write_bytes(encoded(row, size=300))
    source, read = open_images(folder, N), []
    counting = SimpleNamespace(read=lambda rows, side: read.extend(rows) or source.read(rows, side))
    described = describe_images([with_neighbors(), with_neighbors()], counting)
    assert described["models"][0] == described["models"][1]
    assert len(read) == len(set(read)) == len(described["thumbnails"])
    picture = image.open(io.BytesIO(base64.b64decode(described["thumbnails"][7].partition(",")[2])))
    assert (picture.size, picture.format) == ((96, 96), "JPEG")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: as_idx(path, 60), "holds 60 images, but there are 120 points"),
        (lambda path: path / "nowhere", "There are no images at"),
        (lambda path: path.with_name("x.txt").write_text("a") and path.with_name("x.txt"), "give one of these"),
        (
            lambda path: path.with_name("x.parquet").write_text("a") and path.with_name("x.parquet"),
            "not a Parquet file",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(spoil, message, tmp_path):
    with pytest.raises(InputError, match=message):
        open_images(spoil(tmp_path / "images"), N)


def test_a_damaged_image_is_named(tmp_path):
    folder = as_one_folder(tmp_path / "images")
    (folder / "004.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"004\.png cannot be read"):
        write_report(with_neighbors(), tmp_path / "report.html", images=folder)
    assert not (tmp_path / "report.html").exists()


def all_decoded(browser):
    """Number of the images on the page, once all are decoded; each has its true size and a text."""
    return browser.execute_async_script(
        "const done = arguments[0], all = [...document.images]; Promise.all(all.map(i => i.decode())).then(() =>"
        " done(all.every(i => i.naturalWidth === 28 && i.alt) ? all.length : -1))"
    )


def number_shown(analysis):
    """Images that the page begins with: suspects with three neighbors, pairs, members of communities."""
    return 12 * 4 + 12 * 2 + sum(min(8, size) for size in analysis.communities.sizes[:12])


@pytest.mark.browser
def test_the_page_shows_them(browser, tmp_path):
    page = write_report(with_neighbors(), tmp_path / "report.html", images=as_idx(tmp_path / "x"))
    console, requests = opened(browser, page)
    assert (console, requests) == ([], [])
    assert all_decoded(browser) == number_shown(with_neighbors())
    first = browser.find_element("css selector", ".suspect")
    assert "suggested" in first.text
    assert len(first.find_elements("css selector", "img")) == 4
    assert browser.find_elements("css selector", "#images [data-format=csv]")
    more = browser.find_element("css selector", "#images .unfold button")
    for text, n in (("Show the first 12", 30), ("Show all 30", 12)):
        browser.execute_script("arguments[0].click()", more)
        assert (more.text, len(browser.find_elements("css selector", ".suspect"))) == (text, n)


@pytest.mark.browser
def test_models_and_checkpoints_show_theirs(browser, downloads, tmp_path):
    first, second = with_neighbors(), replace(with_neighbors(), suspects=with_neighbors().suspects[3:5])
    second = second.with_neighbors(first.neighbor_table())
    images = as_idx(tmp_path / "x")
    console, _ = opened(browser, cs.compare({"a": first, "b": second}).report(tmp_path / "two.html", images=images))
    assert console == []
    assert len(browser.find_elements("css selector", ".suspect")) == 6 + 2
    assert all_decoded(browser) > 0
    titles = [title.text for title in browser.find_elements("css selector", "#images h3")]
    assert titles[0] == "Points that disagree with their neighbors · a"
    assert titles[3] == "Points that disagree with their neighbors · b"
    rows = csv.DictReader(io.StringIO(saved(browser, downloads, "images", "csv").decode(), newline=""))
    assert [row["row"] for row in rows if row["model"] == "b"] == ["3", "4"]
    steps = {f"epoch {i}": first for i in range(1, 4)} | {"epoch 4": second}
    console, _ = opened(browser, cs.compare(steps).report(tmp_path / "steps.html", images=images))
    assert console == []
    shown = browser.find_elements("css selector", ".suspect")  # of the last checkpoint, until another is chosen
    assert len(shown) == 2
    assert len(shown[0].find_elements("css selector", "img")) == 4


@pytest.mark.browser
def test_many_stand_beside_the_page(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "MOST_IMAGES_IN_PAGE", 1_000)
    page = write_report(with_neighbors(), tmp_path / "a page.html", images=as_idx(tmp_path / "x"))
    beside = tmp_path / "a page_images.js"
    assert not re.search("data:image/(jpeg|png|webp)", page.read_text())
    console, requests = opened(browser, page)
    assert (console, requests) == ([], [])
    assert all_decoded(browser) == number_shown(with_neighbors())
    beside.unlink()
    browser.get(page.as_uri())
    assert is_drawn(browser)
    assert "The file a page_images.js" in browser.find_element("id", "images").text


@pytest.mark.browser
def test_scripts_in_paths_and_labels_of_images_do_not_run(browser, tmp_path):
    """Folders, files, the image folder itself and the classes are called after scripts."""
    names = [text.replace("/", "\u2044") for text in SCRIPTS]
    folder = tmp_path / f"{names[2]}"
    for row in range(N):
        place = folder / f"{row // 40} {names[row % len(names)]}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row:03} {names[row % len(names)]}.png").write_bytes(encoded(row))
    analysis = replace(with_neighbors(), name=SCRIPTS[0], classes=[*SCRIPTS])
    page = write_report(analysis, tmp_path / "report.html", images=folder)
    opened(browser, page)
    n_images = len(browser.find_elements("css selector", "#images img"))
    assert n_images > 20
    opens_and_runs_none(browser, page, n_images=n_images)
    shown = browser.find_element("id", "images").text
    assert sum(text.split()[0][:12] in shown for text in SCRIPTS) > 5
