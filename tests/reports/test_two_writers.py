"""Two runs that write to one folder: the second gets a sentence, the first its whole result."""

import errno
import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import CONSOLE_SCRIPT, assert_one_sentence, run, tree
from records import record

import clorg_scale as cs
from clorg_scale.demo import run_demo
from clorg_scale.store import EmbeddingsWriter
from clorg_scale.store.locks import FolderLock, lock_folder, releasing_locks

WAITING = "Another process is writing to"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.arange(60) % 3
    np.save("x.npy", (np.random.default_rng(0).normal(size=(60, 4)) + labels[:, None]).astype(np.float32))
    np.save("y.npy", labels)
    return tmp_path


def in_another_process(folder, work="time.sleep(60)"):
    """A process that holds the folder; started when it does."""
    code = (
        "import sys, time\n"
        "from clorg_scale.store.locks import FolderLock\n"
        f"lock = FolderLock({str(folder)!r}); print('locked', flush=True); {work}"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_writer_of_a_store_is_refused_and_the_first_one_finishes(tmp_path):
    rows = np.ones((10, 4), np.float32)
    first = EmbeddingsWriter(tmp_path / "s", 4)
    first.append(rows)
    before = tree(tmp_path)
    for resume in (True, False):
        with pytest.raises(cs.InputError, match=WAITING):
            EmbeddingsWriter(tmp_path / "s", 4, resume=resume)
    with pytest.raises(cs.InputError, match=WAITING):
        cs.save_embeddings(tmp_path / "s", 0 * rows)
    assert tree(tmp_path) == before
    first.append(rows)
    first.finish()
    np.testing.assert_array_equal(cs.load_embeddings(tmp_path / "s").embeddings, np.ones((20, 4)))
    cs.save_embeddings(tmp_path / "s", 0 * rows)  # once it is finished
    assert not cs.load_embeddings(tmp_path / "s").embeddings.any()


@pytest.mark.parametrize("end", ["close", "discard", "delete"])
def test_a_writer_that_ends_lets_the_next_one_write(tmp_path, end):
    first = EmbeddingsWriter(tmp_path / "s", 4)
    first.append(np.ones((10, 4), np.float32))
    if end == "delete":
        first.close()
        del first
    else:
        getattr(first, end)()
    with EmbeddingsWriter(tmp_path / "s", 4) as second:
        assert second.rows == (0 if end == "discard" else 10)


def test_a_killed_writer_holds_nothing(tmp_path):
    process = in_another_process(tmp_path)
    with pytest.raises(cs.InputError, match=WAITING):
        FolderLock(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_analyze_waits_for_nobody(here):
    Path("out").mkdir()
    process = in_another_process("out")
    try:
        before = tree(here)
        command = ("analyze", "x.npy", "--labels", "y.npy", "--probes", "none", "--map-points", 0, "--out", "out")
        assert_one_sentence(run(*command), WAITING, "out", "choose another folder")
        assert tree(here) == before
    finally:
        process.kill()
        process.wait()
    assert run(*command).code == 0


def test_a_failed_analysis_lets_the_next_one_write(here, monkeypatch):
    from clorg_scale.analysis import computation

    def fails(table, *, temperature, mean_distance):
        return 1 / 0

    points, labels = np.load("x.npy"), np.load("y.npy")
    settings = {"probes": [], "map_points": 0, "output": "out", "device": "cpu"}
    with monkeypatch.context() as patched:
        patched.setattr(computation, "affinity_graph", fails)
        with pytest.raises(ZeroDivisionError) as kept:
            cs.analyze(points, labels, **settings)
    cs.analyze(points, labels, **settings)
    assert kept  # an error that is still at hand, as in a notebook


COMMANDS = {
    "compare": ("compare", "a", "b"),
    "demo": ("demo",),
    "temperature": ("study", "temperature", "store"),
    "modality": ("study", "modality"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_comparisons_studies_and_the_demo_wait_for_nobody(here, command):
    """Nothing is computed or written while somebody else writes to the folder."""
    for name in "ab":
        Path(name).mkdir()
        record(name=name).to_json(f"{name}/analysis.json")
    cs.save_embeddings("store", np.load("x.npy"), np.load("y.npy"))
    Path("out").mkdir()
    (Path("out") / "table.csv").write_text("earlier")
    before = tree(here)
    lock = FolderLock("out")
    assert_one_sentence(run(*command, "--out", "out"), WAITING, "out", "choose another folder")
    assert tree(here) == before
    lock.release()
    if command[0] == "compare":
        assert run(*command, "--out", "out").code == 0
        FolderLock("out").release()


def test_a_comparison_and_a_study_let_the_next_one_write(here, monkeypatch):
    from clorg_scale.studies import temperature

    sets = {"noise": (np.load("x.npy"), np.load("y.npy"))}
    with monkeypatch.context() as patched:
        patched.setattr(temperature, "rld", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError) as kept:
            temperature.study_temperature(sets, out="out")
    assert not Path("out").exists()
    temperature.study_temperature(sets, out="out", device="cpu")
    assert kept  # an error that is still at hand, as in a notebook
    comparison = cs.compare({name: record(name=name) for name in "ab"})
    for _ in range(2):
        comparison.write("out")
    assert set(tree(here / "out")) == {
        "analyses.json",
        "analyses_arrays.npz",
        "comparison.html",
        "comparison.json",
        "plot.html",
        "table.csv",
        "table.json",
    }
    lock = FolderLock("out")
    with pytest.raises(cs.InputError, match=WAITING):
        comparison.write("out")
    with pytest.raises(cs.InputError, match=WAITING):
        run_demo("out")
    lock.release()


@pytest.mark.slow
def test_two_trainings_in_one_folder(tmp_path):
    pytest.importorskip("torch")
    from clorg_scale import backbones
    from clorg_scale.datasets.images import Images

    pixels = np.random.default_rng(0).integers(0, 255, (16, 1, 8, 8), dtype=np.uint8)
    images = Images(pixels, np.arange(16) % 2, ["a", "b"], "noise")
    network = backbones.build("resnet18", n_channels=1, image_size=8, width=2, stem="cifar")
    settings = {"method": "supervised", "batch_size": 8, "out": tmp_path / "t", "device": "cpu"}

    def second(*_):
        with pytest.raises(cs.InputError, match=WAITING):
            backbones.train(images, network, epochs=1, **settings)

    backbones.train(images, network, epochs=1, on_epoch=second, **settings)
    assert set(tree(tmp_path / "t")) == {"checkpoint.pt", "log.csv"}
    backbones.train(images, network, epochs=1, **settings)


def test_locks_end_with_the_function_that_took_them(tmp_path):
    @releasing_locks
    def work(fails):
        lock_folder(tmp_path)
        with pytest.raises(cs.InputError, match=WAITING):
            FolderLock(tmp_path)
        return 1 / (not fails)

    assert work(fails=False) == 1
    with pytest.raises(ZeroDivisionError):
        work(fails=True)
    FolderLock(tmp_path).release()


def test_folders_that_cannot_be_locked_but_whose_files_can(tmp_path, monkeypatch):
    """NFS locks what is open for writing."""
    real = fcntl.flock

    def flock(descriptor, operation):
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with EmbeddingsWriter(tmp_path / "s", 4) as first:
        first.append(np.ones((10, 4), np.float32))
        with pytest.raises(cs.InputError, match=WAITING):
            EmbeddingsWriter(tmp_path / "s", 4)
        first.finish()
    cs.save_embeddings(tmp_path / "s", np.zeros((5, 4), np.float32))


@pytest.mark.slow
def test_two_commands_at_once(here):
    """Whichever comes first, the result is that of one run."""
    command = [*CONSOLE_SCRIPT, "analyze", "x.npy", "--labels", "y.npy", "--probes", "none", "--map-points", "0"]
    both = [
        subprocess.Popen([*command, "--out", "out"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    ends = sorted((process.wait(), process.stderr.read()) for process in both)
    assert ends[0] == (0, "")
    assert ends[1] == (0, "") or (ends[1][0] == 2 and WAITING in ends[1][1])
    assert {"analysis.json", "report.html"} <= set(tree(here / "out"))
