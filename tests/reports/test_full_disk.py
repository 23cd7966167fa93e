"""A disk that is full between the files of one result: the earlier result stays as a whole."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_one_sentence, run, tree
from records import record

import clorg_scale as cs
from clorg_scale.store.atomic import write_together, write_whole
from clorg_scale.studies.table import write_study


class FullDisk:
    """`os.fsync` that finds the disk full from the nth file on."""

    def __init__(self, monkeypatch, n):
        self.left, self.real = n, os.fsync
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, descriptor):
        if Path(f"/proc/self/fd/{descriptor}").is_file():
            if self.left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left -= 1
        self.real(descriptor)


def assert_all_or_nothing(folder, write, old, new, monkeypatch, n_files):
    """Full at the first, the second, ... file: the old result; not full: the new one."""
    write(old)
    before = tree(folder)
    assert len(before) == n_files
    for n in range(n_files):
        with monkeypatch.context() as patched:
            FullDisk(patched, n)
            with pytest.raises(cs.InputError, match="the disk is full"):
                write(new)
        assert tree(folder) == before
    write(new)
    assert tree(folder) != before
    assert tree(folder).keys() == before.keys()


def test_together(tmp_path, monkeypatch):
    def write(text):
        with write_together():
            for name in "abc":
                with write_whole(tmp_path / name, "w") as file:
                    file.write(text)

    assert_all_or_nothing(tmp_path, write, "old", "new", monkeypatch, 3)


def test_an_error_between_two_files(tmp_path):
    def write():
        with write_together():
            with write_whole(tmp_path / "a", "w") as file:
                file.write("new")
            assert not (tmp_path / "a").exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert tree(tmp_path) == {}


def test_within_another(tmp_path):
    with write_together():
        with write_together(), write_whole(tmp_path / "a", "w") as file:
            file.write("new")
        assert not (tmp_path / "a").exists()
    assert tree(tmp_path) == {"a": b"new"}


def test_a_study(tmp_path, monkeypatch):
    def write(value):
        write_study(tmp_path, [{"T": value}], f"<svg>{value}</svg>")

    assert_all_or_nothing(tmp_path, write, 1.0, 2.0, monkeypatch, 3)


def test_a_study_that_fails_leaves_no_folder(tmp_path, monkeypatch):
    FullDisk(monkeypatch, 1)
    with pytest.raises(cs.InputError, match="the disk is full"):
        write_study(tmp_path / "new", [{"T": 1.0}], "<svg/>")
    assert tree(tmp_path) == {}


@pytest.mark.slow
def test_an_analysis(tmp_path, monkeypatch):
    """Its stages are there already; only the last two files are written."""
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(60, 4)), np.arange(60) % 3

    def analyze(name):
        cs.analyze(points, labels, name=name, probes=[], map_points=0, device="cpu", output=tmp_path / "out")

    analyze("old")
    before = tree(tmp_path)
    for n in range(3):
        with monkeypatch.context() as patched:
            FullDisk(patched, n)
            with pytest.raises(cs.InputError, match="the disk is full"):
                analyze("new")
        assert tree(tmp_path) == before
    analyze("new")
    assert {name for name, contents in tree(tmp_path).items() if contents != before[name]} == {
        "out/analysis.json",
        "out/report.html",
    }


def test_a_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(name).mkdir()
        record(name=name).to_json(f"{name}/analysis.json")
    command = ("compare", "a", "b", "--out", "c")
    assert run(*command).code == 0
    record(name="other").to_json("b/analysis.json")
    before = tree(tmp_path)
    for n in range(4):
        with monkeypatch.context() as patched:
            FullDisk(patched, n)
            assert_one_sentence(run(*command), "the disk is full")
        assert tree(tmp_path) == before


@pytest.mark.slow
def test_a_checkpoint_and_its_log(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from clorg_scale import backbones
    from clorg_scale.datasets.images import Images

    pixels = np.random.default_rng(0).integers(0, 255, (50, 1, 8, 8), dtype=np.uint8)
    images = Images(pixels, np.arange(50) % 2, ["a", "b"], "noise")
    network = backbones.build("resnet18", n_channels=1, image_size=8, width=2, stem="cifar")
    recorder = backbones.Recorder(images, out=tmp_path, every=1)
    seen = []

    def on_epoch(trained, epoch):
        seen.append(tree(tmp_path))
        if epoch.epoch == 2:
            FullDisk(monkeypatch, 1)

    with pytest.raises(cs.InputError, match="the disk is full"):
        backbones.train(
            images, network, method="supervised", epochs=3, batch_size=25, out=tmp_path, on_epoch=on_epoch, device="cpu"
        )
    assert set(seen[1]) == {"checkpoint.pt", "log.csv"}
    assert tree(tmp_path) == seen[1]
    FullDisk(monkeypatch, 1)
    with pytest.raises(cs.InputError, match="the disk is full"):
        recorder(network, backbones.training.Epoch(1, 1.0, 1e-3, 1.0, 0.1, 1.0))
    assert tree(tmp_path) == seen[1]
