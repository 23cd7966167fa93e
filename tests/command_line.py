"""Running `clorg-scale` as a user does: in this process through its entry point, or as a process of its own."""

import contextlib
import io
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from clorg_scale.cli import main

CONSOLE_SCRIPT = [sys.executable, "-c", "from clorg_scale.cli import main; main()"]
"""What the installed script does, wherever it is installed."""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def run(*arguments) -> Outcome:
    """Run a command in this process; an exception that it lets through passes."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["clorg-scale", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as exit_:
            return Outcome(exit_.code, out.getvalue(), without_progress(err.getvalue()))
    raise AssertionError("main() returned without an exit code")


def run_process(*arguments, timeout=300, **options) -> Outcome:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [*CONSOLE_SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False, **options
    )
    return Outcome(done.returncode, done.stdout, without_progress(done.stderr))


def without_progress(err: str) -> str:
    """Text of stderr without what depends on the machine: lines on long work, and on probes that need PyTorch."""
    err = re.sub(r"^warning: Left out for want of PyTorch, .*\n", "", err, flags=re.M)
    return re.sub(r"^.+: (\d+ %, .*)?\d+ (s|min|h)\b.* so far(, .+ left)?\n", "", err, flags=re.M)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its contents, every folder with None; hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def assert_one_sentence(outcome: Outcome, *words: str) -> None:
    """Exit code 2, nothing on stdout, one sentence on stderr that holds the words, no traceback."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert outcome.err.endswith("\n")
    line = outcome.err[:-1]
    assert "\n" not in line, line
    assert line.startswith("error: "), line
    assert line.endswith("."), line
    assert "Traceback" not in line
    # What a library said stands in brackets.
    plain = re.sub(r"\((?:[^()]|\([^()]*\))*\)", "", line)
    assert not re.search(r"[.!?] [A-Z]", plain), line
    for word in words:
        assert word in line, (word, line)
