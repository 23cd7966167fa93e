"""`track`: checkpoints in their order, maps turned like each other, and only new ones computed."""

import json
import os
import shutil
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_one_sentence, run, tree
from records import record

import clorg_scale as cs
from clorg_scale.analysis.aligned_maps import aligned_map, turned
from clorg_scale.analysis.order import natural_key, steps_of
from clorg_scale.errors import InputError

N = 60
LABELS = np.arange(N) % 3
rng = np.random.default_rng(0)
NOISE = rng.normal(size=(N, 6)).astype(np.float32)
MEANS = (4 * np.eye(6)[LABELS]).astype(np.float32)


def at(share):
    """Points whose classes lie apart by this share."""
    return NOISE + share * MEANS


CHECKPOINTS = {"epoch 1": at(0.0), "epoch 5": at(0.5), "epoch 10": at(1.0)}

QUICK = {"k": 5, "probes": ["knn"], "map_points": 40, "temperatures": (1.0, 0.1)}


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["epoch-001", "epoch-020", "epoch-003"], [1, 20, 3]),
        (["v2 step 1.5", "v2 step 10"], [1.5, 10]),
        (["1", "2"], [1, 2]),
        (["contrastive", "supervised"], None),
        (["resnet18 a", "resnet50 b"], None),
        (["epoch 1", "last"], None),
        (["epoch 1", "epoch 01"], None),
        (["epoch 1"], None),
    ],
)
def test_steps_in_names(names, steps):
    assert steps_of(names) == steps


def test_names_are_ordered_by_their_numbers():
    names = ["e10", "e9", "e1.5", "a", "10", "9", ""]
    assert sorted(names, key=natural_key) == ["", "9", "10", "a", "e1.5", "e9", "e10"]


@pytest.mark.parametrize("normalize", [False, True])
def test_maps_of_a_training_that_collapsed(normalize):
    """Equal points have one position; the map after these begins anew."""
    rows, before = np.arange(N), rng.normal(size=(N, 2))
    scale = 1 + np.arange(N)[:, None] * normalize  # of equal direction, their lengths rounded differently
    collapsed = np.full((N, 6), 0.3, np.float32) * scale
    equal = aligned_map.function(collapsed.astype(np.float32), rows, before, seed=0, normalize=normalize)
    assert np.ptp(equal.xy, axis=0).max() == 0
    np.testing.assert_allclose(equal.xy[0], before.mean(axis=0))
    assert "single position" in equal.how
    after = aligned_map.function(at(1.0), rows, equal.xy, seed=0, normalize=normalize)
    assert np.isfinite(after.xy).all()
    assert np.ptp(after.xy, axis=0).min() > 1


def test_no_package_is_imported_that_the_map_does_not_use(monkeypatch):
    """openTSNE's own search imports PyNNDescent, whose code takes half a minute to compile, and may not use it."""
    monkeypatch.setattr("openTSNE.affinity.get_knn_index", pytest.fail)
    start = rng.normal(size=(N, 2))
    assert aligned_map.function(at(1.0), np.arange(N), start, seed=0, normalize=False).xy.shape == (N, 2)


def test_turned_maps_are_as_near_as_they_can_be():
    """Against SciPy, which also scales."""
    from scipy.linalg import orthogonal_procrustes

    start = rng.normal(size=(30, 2)) + np.array([5, -3])
    angle = np.array([[0.6, -0.8], [-0.8, -0.6]])  # a reflection
    np.testing.assert_allclose(turned(start @ angle + [7, 7], start), start, atol=1e-12)
    other = rng.normal(size=(30, 2))
    rotation, _ = orthogonal_procrustes(other - other.mean(0), start - start.mean(0))
    np.testing.assert_allclose(turned(other, start), (other - other.mean(0)) @ rotation + start.mean(0), atol=1e-12)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An image of each point."""
    path = tmp_path_factory.mktemp("images") / "images-idx3-ubyte"
    path.write_bytes(
        b"\0\0\x08\x03"
        + struct.pack(">III", N, 8, 8)
        + np.repeat(np.uint8(4) * np.arange(N, dtype=np.uint8), 64).tobytes()
    )
    return path


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("track")
    return folder, cs.track(CHECKPOINTS, LABELS, output=folder, images=images, **QUICK)


def images_of(page):
    """What the page says of images, of each model."""
    return json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])["images"]


def test_pages_show_images_of_the_points(tracked, images, tmp_path):
    folder, comparison = tracked
    shown = images_of(folder / "comparison.html")
    assert len(shown["models"]) == 3
    for name, model in zip(CHECKPOINTS, shown["models"], strict=True):
        assert images_of(folder / name / "report.html")["models"] == [model]
        suspects = comparison.analyses[name].suspects
        assert [suspect["row"] for suspect in model["suspects"]] == [suspect.index for suspect in suspects]
        table = cs.knn(CHECKPOINTS[name], 3)
        for suspect in model["suspects"]:
            assert [row for row, _ in suspect["neighbors"]] == list(table.indices[suspect["row"]])
            assert str(suspect["row"]) in shown["thumbnails"]
    assert shown["models"][0]["suspects"]
    both = [folder / "epoch 1", folder / "epoch 5"]
    assert run("compare", *both, "--out", tmp_path / "out", "--images", images).code == 0
    assert images_of(tmp_path / "out" / "comparison.html")["models"] == shown["models"][:2]
    other = tmp_path / "other-idx3-ubyte"
    other.write_bytes(b"\0\0\x08\x03" + struct.pack(">III", 2, 8, 8) + bytes(128))
    outcome = run("compare", *both, "--out", tmp_path / "none", "--images", other)
    assert_one_sentence(outcome, "holds 2 images, but there are 60 points")
    assert not (tmp_path / "none").exists()


def test_every_checkpoint_has_the_numbers_of_an_analysis(tracked):
    _, comparison = tracked
    assert comparison.steps == [1, 5, 10]
    for name, points in CHECKPOINTS.items():
        found = comparison.analyses[name]
        np.testing.assert_allclose(found.rld.values, cs.rld(points, LABELS, temperatures=(1.0, 0.1)).values, rtol=1e-5)
    values = [analysis.rld.values[0] for analysis in comparison.analyses.values()]
    assert values == sorted(values)


def test_maps_show_the_same_points_and_are_aligned(tracked):
    _, comparison = tracked
    maps = [analysis.point_map for analysis in comparison.analyses.values()]
    assert [len(points.index) for points in maps] == [40] * 3
    assert maps[0].index == maps[1].index == maps[2].index
    positions = [np.column_stack([points.x, points.y]) for points in maps]
    for before, after in pairwise(positions):
        np.testing.assert_allclose(turned(after, before), after, atol=1e-3)  # no turn brings them nearer
    for name, points in zip(comparison.analyses, maps, strict=True):
        assert points.class_code == LABELS[points.index].tolist()
        placed = np.column_stack([comparison.analyses[name].points[column] for column in ("map_x", "map_y")])
        np.testing.assert_allclose(placed[points.index], np.column_stack([points.x, points.y]), atol=1e-3)
        assert points.community == comparison.analyses[name].points["community"][points.index].tolist()
    # The classes are apart at the end: the nearest point on the map is of the own class.
    distances = ((positions[2][:, None] - positions[2][None]) ** 2).sum(-1) + np.diag(np.full(40, np.inf))
    assert (LABELS[maps[2].index][distances.argmin(1)] == LABELS[maps[2].index]).mean() > 0.9


def test_a_checkpoint_more_is_the_only_one_computed(tracked, tmp_path):
    before, _ = tracked
    folder = tmp_path / "track"
    shutil.copytree(before, folder)
    for path in folder.rglob("*.npz"):
        os.utime(path, (1e9, 1e9))
    more = cs.track(CHECKPOINTS | {"epoch 20": at(1.2)}, LABELS, output=folder, **QUICK)
    assert more.steps == [1, 5, 10, 20]
    stages = [path for path in folder.rglob("*-*.npz") if "arrays" not in path.name]
    computed = {path.parent.name for path in stages if path.stat().st_mtime > 1e9}
    assert computed == {"epoch 20"}
    assert any(path.name.startswith("aligned-map") for path in stages)
    kept = cs.Analysis.from_json(folder / "epoch 5")
    assert kept.point_map == more.analyses["epoch 5"].point_map
    assert cs.Comparison.from_json(folder / "analyses.json").steps == [1, 5, 10, 20]


def test_comparisons_of_checkpoints_are_put_in_order():
    names = ["epoch 30", "epoch 4", "epoch 200"]
    analyses = {name: record(name=name) for name in names}
    assert list(cs.compare(analyses).analyses) == ["epoch 4", "epoch 30", "epoch 200"]
    two = cs.compare({name: analyses[name] for name in names[:2]})
    assert (list(two.analyses), two.steps) == (names[:2], None)
    others = cs.compare(dict(zip("cab", analyses.values(), strict=True)))
    assert (list(others.analyses), others.steps) == (["c", "a", "b"], None)


def test_what_cannot_be_tracked(tmp_path):
    with pytest.raises(InputError, match="at least 2 checkpoints, not 1"):
        cs.track({"a": at(1)}, LABELS)
    with pytest.raises(InputError, match="name of a folder"):
        cs.track({"a/b": at(1), "b": at(1)}, LABELS, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ---- the command -----------------------------------------------------------------------------------------------------

OPTIONS = ("--k", "5", "--probes", "knn", "--map-points", "20")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_of_a_training(here):
    for epoch, share in ((9, 0.5), (10, 1.0), (1, 0.0)):
        cs.save_embeddings(f"run/embeddings/epoch-{epoch:04d}", at(share), LABELS, {"class_names": ["a", "b", "c"]})
    Path("run/checkpoint.pt").write_bytes(b"weights")
    outcome = run("track", "run", *OPTIONS)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0].split() == ["epoch-0001", "epoch-0009", "epoch-0010"]
    assert outcome.out.endswith("Open run/track/comparison.html in a browser.\n")
    table = json.loads(Path("run/track/comparison.json").read_text())
    assert list(table[0]) == ["quantity", "epoch-0001", "epoch-0009", "epoch-0010"]
    assert cs.Analysis.from_json("run/track/epoch-0009").classes == ["a", "b", "c"]
    assert "trajectory" in Path("run/track/comparison.html").read_text()
    assert json.loads(run("track", "run", *OPTIONS, "--json").out) == table


def test_files_in_any_order(here):
    for step, share in ((20, 1.0), (3, 0.2)):
        np.save(f"step{step}.npy", at(share))
    np.save("y.npy", LABELS)
    command = ("track", "step20.npy", "step3.npy", "--labels", "y.npy", *OPTIONS)
    assert_one_sentence(run(*command), "--out")
    assert run(*command, "--out", "out").out.splitlines()[0].split() == ["step3", "step20"]
    command = ("track", ".", "--labels", "y.npy", "--out", "out", *OPTIONS)
    assert run(*command).out.splitlines()[0].split() == ["step3", "step20"]  # and not y.npy


def test_mistakes(here):
    Path("run").mkdir()
    Path("run/checkpoint.pt").write_bytes(b"")
    Path("analyzed").mkdir()
    Path("analyzed/analysis.json").touch()
    before = tree(here)
    assert_one_sentence(run("track", "run"), "embeddings of 0 checkpoints", "--keep-embeddings")
    assert_one_sentence(run("track", "nowhere"), "nowhere is not a folder")
    assert_one_sentence(run("track", "analyzed"), "analyzed is an analysis of one model")
    assert_one_sentence(run("track", "a.npy", "a.npy", "--out", "out"), "given twice")
    assert tree(here) == before
