"""Images of the points in a report: folders, idx and Parquet files, and what is refused."""

import base64
import gzip
import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from browsing import opened
from records import record

from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN
from clorg_scale.report import thumbnails as module
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


def as_parquet(folder):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": encoded(row), "path": None} for row in range(N)]
    path = folder.with_name("images.parquet")
    table = pyarrow.table({"image": rows, "label": list(range(N))})
    parquet.write_table(table, path, row_group_size=50)
    return path


@pytest.mark.parametrize("write", [as_folders, as_one_folder, as_idx, as_parquet])
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
    shown = describe_images(analysis, open_images(as_idx(tmp_path / "x"), N))
    suspect = shown["suspects"][4]
    assert suspect["row"] == analysis.suspects[4].index == 4
    assert suspect["neighbors"] == [[row, analysis.classes[row % 10]] for row in (5, 6, 7)]
    assert [entry["rows"][0][0] for entry in shown["pairs"]] == [p.index for p in analysis.issues.look_alikes[:24]]
    for entry in shown["communities"]:
        members = set(np.flatnonzero(analysis.points["community"] == entry["community"]).tolist())
        assert {row for row, _ in entry["rows"]} <= members
        assert len(entry["rows"]) == min(8, len(members))
    for row, url in shown["thumbnails"].items():
        picture = image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        assert np.asarray(picture).reshape(-1)[0] == 2 * row


def test_thumbnails_shrink_until_they_fit(tmp_path, monkeypatch):
    analysis, source = with_neighbors(), open_images(as_one_folder(tmp_path / "images"), N)
    assert describe_images(analysis, source)["side"] == 96
    monkeypatch.setattr(module, "MOST_CHARACTERS", 30_000)
    smaller = describe_images(analysis, source)
    assert smaller["side"] < 96
    assert sum(map(len, smaller["thumbnails"].values())) <= 30_000


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


@pytest.mark.browser
def test_the_page_shows_them(browser, tmp_path):
    page = write_report(with_neighbors(), tmp_path / "report.html", images=as_idx(tmp_path / "x"))
    console, requests = opened(browser, page)
    assert (console, requests) == ([], [])
    assert browser.execute_async_script(
        "const done = arguments[0], all = [...document.images];"
        "Promise.all(all.map(i => i.decode())).then(() => done(all.every(i => i.naturalWidth === 28 && i.alt)))"
    )
    first = browser.find_element("css selector", ".suspect")
    assert "suggested" in first.text
    assert len(first.find_elements("css selector", "img")) == 4
    assert browser.find_elements("css selector", "#images [data-format=csv]")
