"""Every command of README.md parses: program, options, extras, make targets and files exist."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import shlex
import shutil
import subprocess
import tomllib

import pytest
import typer
from clorg_scale.bench.harness.registry import MODULES
from readme_text import NOT_RUN, ROOT, RUN, inline_commands, shell_commands

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def check(command: str) -> None:
    """Fail with AssertionError unless the program, its options and what they name exist."""
    words = [word for word in shlex.split(command) if word not in ("...", "NAME")]
    for start, parse in PARSERS.items():
        if tuple(words[: len(start)]) == start:
            return parse(words[len(start) :], complete="..." not in command)
    raise AssertionError(f"nothing here knows how to check {command!r}")


def find_command(words: list[str]) -> tuple[typer.core.TyperCommand, list[str]]:
    """The subcommand that the first words name, and the words that follow."""
    from clorg_scale.cli import bench, commands, figures, issues, stages, studies, track, training  # noqa: F401  registers them
    from clorg_scale.cli.app import app

    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def check_clorg_scale(words: list[str], *, complete: bool) -> None:
    command, rest = find_command(words)
    if words[:2] == ["bench", "run"]:
        assert words[2] in MODULES, f"there is no benchmark {words[2]!r}"
    try:
        command.make_parser(command.context_class(command)).parse_args(list(rest))
        if complete and rest:  # required options and types, too
            command.make_context(command.name, list(rest))
    except Exception as error:  # Click's own errors come from Click or from Typer's copy of it
        if not hasattr(error, "format_message"):
            raise
        raise AssertionError(error.format_message()) from error


def check_benchmark(words: list[str], *, complete: bool) -> None:
    """As `clorg-scale bench`; a script with a `main` of its own is run as far as its options are parsed."""
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Parsed):
        patch.syspath_prepend(str(ROOT))
        script = importlib.import_module("bench.__main__").script(words[0])
        if script is None:
            check_clorg_scale(["bench", *words], complete=complete)
            return
        patch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
        try:
            importlib.import_module(script).main(words[1:])
        except SystemExit as error:
            raise AssertionError(f"python -m bench {shlex.join(words)}: no such option") from error


class Parsed(Exception):
    """Ends a script when its options are parsed."""


PARSE = argparse.ArgumentParser.parse_args


def only_parse(parser, arguments=None, namespace=None):
    parser.allow_abbrev = False
    PARSE(parser, arguments, namespace)
    raise Parsed


def check_make(words: list[str], *, complete: bool) -> None:
    del complete
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    settings = [word.partition("=") for word in words if "=" in word]
    for variable, _, value in settings:
        assert f"$({variable})" in (ROOT / "Makefile").read_text(), f"the Makefile has no variable {variable}"
        if variable == "EXTRA":
            check_extras(value)


def check_extras(names: str) -> None:
    for name in names.split(","):
        assert name in PROJECT["project"]["optional-dependencies"], f"there is no extra {name!r}"


def check_pip(words: list[str], *, complete: bool) -> None:
    del complete
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("-c")
    parser.add_argument("-e", action="store_true")
    parser.add_argument("what")
    options = parser.parse_args(words)
    assert options.c is None or (ROOT / options.c).is_file(), f"{options.c} does not exist"
    where, _, extras = options.what.rstrip("]").partition("[")
    assert where == "."
    if extras:
        check_extras(extras)


def check_dask(words: list[str], *, complete: bool) -> None:
    del complete
    pytest.importorskip("distributed", reason="Dask is not installed")
    assert words[0] in ("scheduler", "worker")
    command = importlib.import_module(f"distributed.cli.dask_{words[0]}").main
    command.make_context(words[0], words[1:])


def check_pytest(words: list[str], *, complete: bool) -> None:
    del complete
    markers = [line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    assert words[:2] == ["-m", "gpu"]
    assert "gpu" in markers
    assert all((ROOT / folder).is_dir() for folder in words[2:]), words


def check_gpu_benchmark(words: list[str], *, complete: bool) -> None:
    del complete
    text = (ROOT / "bench" / "gpu_check.py").read_text()
    for option in (word for word in words if word.startswith("--")):
        assert f'"{option}"' in text, f"bench/gpu_check.py has no option {option}"


PARSERS = {
    ("clorg-scale",): check_clorg_scale,
    ("python", "-m", "bench"): check_benchmark,
    ("python", "-m", "pytest"): check_pytest,
    ("python", "bench/gpu_check.py"): check_gpu_benchmark,
    ("make",): check_make,
    ("pip", "install"): check_pip,
    ("dask",): check_dask,
}


def test_every_command_is_run_or_says_why_not():
    assert set(shell_commands()) == {*RUN, *NOT_RUN}


@pytest.mark.parametrize("command", [*shell_commands(), *inline_commands()])
def test_commands_parse(command):
    check(command)


@pytest.mark.parametrize(
    "command",
    [
        "clorg-scale analyse embeddings.npy --out results",
        "clorg-scale analyze embeddings.npy --label labels.npy --out results",
        "clorg-scale analyze embeddings.npy --labels labels.npy",
        "clorg-scale analyze ... --probe-studies",
        "clorg-scale study temperatures --out results",
        "python -m bench nothing",
        "python -m bench run nothing",
        "python -m bench rapids-example --no-such-option",
        "clorg-scale bench run rld-scaling --imagenets",
        "python bench/gpu_check.py --no-such-option",
        "python -m pytest -m gpu tests/no-such-folder",
        "make nothing",
        "make test EXTRAS=test-core",
        "make test EXTRA=no-such-extra",
        "pip install '.[no-such-extra]'",
        "pip install -c no-such-file.txt .",
        "cp a b",
    ],
)
def test_commands_that_are_wrong_are_noticed(command):
    with pytest.raises(AssertionError):
        check(command)
