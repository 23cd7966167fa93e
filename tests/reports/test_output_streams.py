"""Whoever reads the output may leave: the work goes on, and the exit code tells nothing that is not so."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import CONSOLE_SCRIPT, run, run_process


def with_closed_output(*arguments, closed=("stdout",)):
    """Exit code, and what came out of the pipe that is still read."""
    process = subprocess.Popen(
        [*CONSOLE_SCRIPT, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for name in closed:
        getattr(process, name).close()
    read = {name: getattr(process, name).read() for name in ("stdout", "stderr") if name not in closed}
    return process.wait(timeout=120), read


@pytest.mark.slow
@pytest.mark.parametrize("closed", [("stdout",), ("stdout", "stderr")])
def test_a_training_whose_reader_leaves_does_all_epochs(tmp_path, closed):
    torch = pytest.importorskip("torch")
    pytest.importorskip("lightly")
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(8):
                Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    out = tmp_path / "training"
    network = ("--width=4", "--stem=strided", "--image-size=16", "--batch-size=8", "--epochs=4")
    where = ("--device=cpu", "--data", tmp_path / "images", "--out", out)
    code, _ = with_closed_output("train", *network, "--measure-every=0", *where, closed=closed)
    assert code == 0
    assert len(torch.load(out / "checkpoint.pt", weights_only=True)["log"]) == 4


def test_results_are_written_though_nobody_reads(here):
    code, read = with_closed_output("rld", "x.npy", "--labels", "y.npy", "--out", "rld.json")
    assert (code, read) == (0, {"stderr": ""})
    assert Path("rld.json").exists()


def test_results_are_written_though_the_output_is_on_a_full_disk(here):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*CONSOLE_SCRIPT, "rld", "x.npy", "--labels", "y.npy", "--out", "rld.json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, "error: The output cannot be written: No space left on device.\n")
    assert Path("rld.json").exists()


def test_streams_that_were_never_open(here):
    """A service closes them; files that are opened later must not get their numbers."""
    script = f"exec '{sys.executable}' -c '{CONSOLE_SCRIPT[-1]}' rld x.npy --labels y.npy --out rld.json <&- >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", script], check=False).returncode == 0
    assert Path("rld.json").read_text().startswith("{")


LOST = "error: The connection to another process was lost ({}); run the same command again to continue.\n"


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (SystemExit(3), 3, ""),
        (SystemExit(), 0, ""),
        (ConnectionResetError(104, "Connection reset by peer"), 2, LOST.format("Connection reset by peer")),
        (EOFError(), 2, "error: A file or a connection to another process ended unexpectedly.\n"),
    ],
    ids=repr,
)
def test_what_is_raised_is_no_success(here, monkeypatch, raised, code, sentence):
    """Out of a library below any command: a lost worker, an exit."""

    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(sys.modules["clorg_scale.rld"], "rld", fail)
    outcome = run("rld", "x.npy", "--labels", "y.npy")
    assert (outcome.code, outcome.err, outcome.out) == (code, sentence, "")


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        ("SystemExit('enough')", 1, "enough\n"),
        ("BrokenPipeError(32, 'Broken pipe')", 2, LOST.format("Broken pipe")),
        ("KeyboardInterrupt()", 130, "Interrupted; completed work is kept, run the same command again to continue.\n"),
    ],
)
def test_what_is_raised_is_no_success_of_the_process(here, raised, code, sentence):
    """What Typer takes for the end of its own output, and for Ctrl-C, on the streams of a real process."""
    script = (
        "import sys, clorg_scale\n"
        f"def rld(*_, **__): raise {raised}\n"
        "sys.modules['clorg_scale.rld'].rld = rld\n"
        "from clorg_scale.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "rld", "x.npy", "--labels", "y.npy"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (code, sentence, "")


def test_names_beyond_the_terminals_encoding(here):
    Path("x.npy").rename("x\u0394.npy")
    done = run_process("rld", "x\u0394.npy", env={"PYTHONIOENCODING": "ascii", "PATH": "/bin", "PYTHONUTF8": "0"})
    assert done.code == 2
    assert "x\\u0394.npy holds no labels" in done.err
