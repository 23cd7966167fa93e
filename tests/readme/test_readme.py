"""README.md and CONTRIBUTING.md: their code and commands run or parse, their links lead somewhere, their numbers hold.

Every command is either in `RUN`, and runs on a few hundred of the shipped embeddings, or in `NOT_RUN` with the reason.
Both kinds are parsed: a command, option, extra or make target that does not exist fails here.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import inspect
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer
from command_line import run

import clorg_scale as cs
from clorg_scale.datasets import load_fashion_mnist_embeddings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

HAS_TORCH = importlib.util.find_spec("torch") is not None

RUN = (
    "clorg-scale doctor",
    "clorg-scale analyze embeddings.npy --labels labels.npy --out results",
    "clorg-scale analyze train.npy --labels y.npy --test-embeddings test.npy --test-labels y_test.npy --out results",
    "clorg-scale compare results-contrastive results-supervised --out comparison",
)

NOT_RUN = {
    "make demo": "minutes; tests/cli runs the command in it",
    "make test": "runs this test",
    "pip install .": "installs packages",
    "pip install '.[train]'": "installs packages",
    "pip install '.[interop]'": "installs packages",
    "pip install '.[dask]'": "installs packages",
    "pip install -c constraints-cuda13.txt '.[cuda13]'": "installs packages",
    "pip install -c constraints-cuda13.txt '.[rapids13]'": "installs packages",
    "pip install -c constraints-cuda13.txt -e '.[cuda13,test-core]'": "installs packages",
    "clorg-scale train --method simclr --backbone resnet18 --data cifar10 --download --out simclr": "hours, a download",
    "clorg-scale train --method supervised --backbone resnet18 --data cifar10 --out supervised": "hours, a download",
    "clorg-scale embed --checkpoint simclr --data cifar10 --split test --out simclr-test": "needs the training above",
    "dask scheduler": "runs until it is stopped; tests/dask_cluster starts a cluster",
    "dask worker tcp://HOST:8786": "needs the scheduler",
    "clorg-scale analyze embeddings.npy --labels y.npy --out results --dask tcp://HOST:8786": "needs the scheduler",
    "clorg-scale study temperature --out temperature": "minutes; tests/studies runs it on fewer points",
    "python -m pytest -m gpu tests/gpu": "needs a GPU",
    "python bench/gpu_check.py": "needs a GPU",
}

SIZE = 300
"""Points in each of the files that commands read: enough for 15 neighbors and ten classes."""


# ---- what stands in the README ---------------------------------------------------------------------------------------


def blocks(language: str, text: str = README) -> list[str]:
    """Contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def shell_commands() -> list[str]:
    """Lines of the shell blocks without comments and without the space before them."""
    lines = "".join(blocks("sh")).splitlines()
    return [command for line in lines if (command := re.sub(r"\s+#.*", "", line).strip())]


def spans() -> list[str]:
    """Inline code, with line breaks as spaces."""
    text = re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def inline_commands() -> list[str]:
    """Inline code that is a command."""
    starts = ("clorg-scale ", "python ", "make ", "pip ", "dask ")
    return sorted({span for span in spans() if span.startswith(starts)})


# ---- does a command parse? -------------------------------------------------------------------------------------------


def check(command: str) -> None:
    """Fail with AssertionError unless the program, its options and what they name exist."""
    words = [word for word in shlex.split(command) if word not in ("...", "NAME")]
    for start, parse in PARSERS.items():
        if tuple(words[: len(start)]) == start:
            return parse(words[len(start) :], complete="..." not in command)
    raise AssertionError(f"nothing here knows how to check {command!r}")


def find_command(words: list[str]) -> tuple[typer.core.TyperCommand, list[str]]:
    """The subcommand that the first words name, and the words that follow."""
    from clorg_scale.cli import commands, stages, studies, training  # noqa: F401  registers them
    from clorg_scale.cli.app import app

    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def check_clorg_scale(words: list[str], *, complete: bool) -> None:
    command, rest = find_command(words)
    try:
        command.make_parser(command.context_class(command)).parse_args(list(rest))
        if complete and rest:  # required options and types, too
            command.make_context(command.name, list(rest))
    except Exception as error:  # Click's own errors come from Click or from Typer's copy of it
        if not hasattr(error, "format_message"):
            raise
        raise AssertionError(error.format_message()) from error


def check_benchmark(words: list[str], *, complete: bool) -> None:
    """Run a benchmark as far as its options are parsed."""
    del complete
    if not words:
        return
    assert (ROOT / "bench" / f"{words[0].replace('-', '_')}.py").is_file(), f"there is no benchmark {words[0]!r}"
    parse = argparse.ArgumentParser.parse_args

    class Parsed(Exception):
        pass

    def only_parse(parser, arguments=None, namespace=None):
        parser.allow_abbrev = False
        parse(parser, arguments, namespace)
        raise Parsed

    try:
        module = importlib.import_module(f"bench.{words[0].replace('-', '_')}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return  # what needs PyTorch is checked where it is installed
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
        try:
            module.main(words[1:])
        except SystemExit as error:
            raise AssertionError(f"python -m bench {shlex.join(words)}: no such option") from error


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


@pytest.fixture(autouse=True)
def _benchmarks_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


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
        "python -m bench rld-scaling --imagenets",
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


def test_options_in_the_text_exist():
    """`--option` or `--option value` alone belongs to some command."""
    from clorg_scale.cli import commands, stages, studies, training  # noqa: F401  registers them
    from clorg_scale.cli.app import app

    def options(command):
        for parameter in command.params:
            yield from (*parameter.opts, *parameter.secondary_opts)
        for child in getattr(command, "commands", {}).values():
            yield from options(child)

    known = set(options(typer.main.get_command(app)))
    named = {span.split()[0] for span in spans() if span.startswith("--")}
    assert len(named) > 5
    assert named <= known


def test_names_in_the_text_exist():
    """`cs.rld(X, y, client=...)`, `KNN.from_arrays`, `graph.to_pyg()`: attributes, and keywords of calls."""
    owners = {"cs": cs, "probes": cs.probes, "KNN": cs.KNN, "table": cs.KNN, "AffinityGraph": cs.AffinityGraph,
              "graph": cs.AffinityGraph}  # fmt: skip
    pattern = re.compile(r"(\w+)\.(\w+)(\(.*\))?$")
    found = [(owners[m[1]], m[2], m[3]) for span in spans() if (m := pattern.match(span)) and m[1] in owners]
    assert len(found) > 5
    for owner, name, call in found:
        function = getattr(owner, name)
        for keyword in re.findall(r"(\w+)=", call or ""):
            assert keyword in inspect.signature(function).parameters, (name, keyword)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text())
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing


def test_paths_in_contributing_exist():
    text = re.sub(r"^```.*?^```$", "", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M | re.S)
    paths = re.findall(r"`((?:clorg_scale|tests|bench|kernels|docker)/[\w./-]*)`", text)
    assert len(paths) > 10
    assert not [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]


# ---- does it run? ----------------------------------------------------------------------------------------------------


def images(network: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The first `SIZE` shipped embeddings of a network, and their classes."""
    stored = load_fashion_mnist_embeddings(network, split)
    return np.asarray(stored.embeddings[:SIZE], dtype=np.float32), stored.labels[:SIZE]


@pytest.mark.parametrize(
    "probes", [pytest.param("knn", id="quick"), pytest.param(None, id="as written", marks=pytest.mark.slow)]
)
def test_commands_run(tmp_path, monkeypatch, probes):
    """In the order of the README, in one folder; `compare` gets copies of the two analyses.

    Graph networks train half a minute, so the quick variant leaves them out.
    """
    monkeypatch.chdir(tmp_path)
    for file, labels, network, split in (
        ("embeddings", "labels", "contrastive", "train"),
        ("train", "y", "supervised", "train"),
        ("test", "y_test", "supervised", "test"),
    ):
        X, y = images(network, split)
        np.save(f"{file}.npy", X)
        np.save(f"{labels}.npy", y)
    names = iter(("results-contrastive", "results-supervised"))
    for command in [command for command in shell_commands() if command in RUN]:
        added = ("--probes", probes) if probes and "analyze" in command else ()
        outcome = run(*shlex.split(command)[1:], *added)
        assert outcome.code == 0, (command, outcome.err)
        assert outcome.out
        if "analyze" in command:
            shutil.copytree("results", next(names))
    for file in ("results-contrastive/analysis.json", "results-supervised/report.html", "comparison/comparison.html"):
        assert Path(file).stat().st_size > 5_000


@pytest.mark.parametrize(
    "quick", [pytest.param(True, id="quick"), pytest.param(False, id="as written", marks=pytest.mark.slow)]
)
def test_python_runs(tmp_path, monkeypatch, quick):
    """Line by line as it stands; the quick variant trains no graph network, which takes half a minute."""
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    if quick or not HAS_TORCH:
        code = "\n".join(line for line in code.splitlines() if "GCNProbe" not in line)
    if quick:
        assert 'output="results")' in code
        code = code.replace('output="results")', 'output="results", probes=("knn",), map_points=0)')
    embeddings, labels = images("contrastive", "train")
    X, y = images("supervised", "train")
    X_test, y_test = images("supervised", "test")
    train_mask = np.arange(SIZE) % 5 > 0
    a, b = (cs.analyze(*data, probes=(), map_points=0) for data in ((embeddings, labels), (X, y)))
    names = {"embeddings": embeddings, "labels": labels, "X": X, "y": y, "X_test": X_test, "y_test": y_test,
             "train_mask": train_mask, "test_mask": ~train_mask, "a": a, "b": b}  # fmt: skip
    exec(compile(code, "README.md", "exec"), names)
    assert Path("comparison.html").stat().st_size > 5_000
    assert isinstance(names["result"], cs.RLDResult)
    for name in re.findall(r"(\w+)[, ]", re.search(r"RLDResult: ([\w, ]+)", code)[1]):
        assert hasattr(names["result"], name), name


# ---- do the numbers hold? --------------------------------------------------------------------------------------------


def row(start: str) -> list[list[str]]:
    """The cells after the first of the table row that starts so; each split at its slashes."""
    line = re.search(rf"^\| {re.escape(start)}.*$", README, flags=re.M)[0]
    return [cell.strip().split(" / ") for cell in line.strip("|").split("|")[1:]]


def rounded(values) -> list[str]:
    return [f"{value:.3f}".removeprefix("0") for value in values]


@pytest.mark.parametrize("column", [0, 1])
def test_shipped_networks_have_the_rld_in_the_table(column):
    stored = load_fashion_mnist_embeddings(("contrastive", "supervised")[column], "train")
    values = cs.rld(stored.embeddings, stored.labels, method="exact", temperatures=(1, 0.2, 0.05)).values
    assert rounded(values) == row("RLD, T = 1 / 0.2 / 0.05")[column]
    (stated,) = row("Calinski-Harabasz")[column]
    assert f"{cs.calinski_harabasz(stored.embeddings, stored.labels):,.0f}" == stated


@pytest.mark.slow
@pytest.mark.parametrize("column", [0, 1])
def test_shipped_networks_have_the_homogeneity_and_accuracy_in_the_table(column):
    """As `make demo` computes them; trainings differ by a few images from machine to machine."""
    train, test = (load_fashion_mnist_embeddings(("contrastive", "supervised")[column], s) for s in ("train", "test"))
    probes = ("linear", "gcn") if HAS_TORCH else ("linear",)
    analysis = cs.analyze(
        train.embeddings, train.labels, test_embeddings=test.embeddings, test_labels=test.labels, probes=probes,
        map_points=0,
    )  # fmt: skip
    homogeneity = [analysis.class_homogeneity[k] for k in (1, 100, 1_000)]
    assert rounded(homogeneity) == row("CHI, k = 1 / 100 / 1,000")[column]
    for score, start in zip(analysis.probes, ("accuracy: linear", "accuracy: GCN"), strict=False):
        (stated,) = row(start)[column]
        assert score.accuracy == pytest.approx(float(stated), abs=0.006)
