"""README.md and CONTRIBUTING.md: options and names exist, links lead somewhere, the numbers hold."""

import inspect
import re

import pytest
import typer
from readme_text import HAS_TORCH, README, ROOT, spans

import clorg_scale as cs
from clorg_scale.datasets import load_fashion_mnist_embeddings

# ---- does it exist? --------------------------------------------------------------------------------------------------


def test_options_in_the_text_exist():
    """`--option` or `--option value` alone belongs to some command."""
    from clorg_scale.cli import bench, commands, figures, issues, stages, studies, track, training  # noqa: F401  registers them
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
    owners = {
        "cs": cs,
        "probes": cs.probes,
        "KNN": cs.KNN,
        "table": cs.KNN,
        "AffinityGraph": cs.AffinityGraph,
        "graph": cs.AffinityGraph,
    }
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


# ---- do the numbers hold? --------------------------------------------------------------------------------------------


def row(start: str) -> list[list[str]]:
    """The cells after the first of the row of the table of both networks that starts so; each split at its slashes."""
    table = README[README.index("| | contrastive | supervised |") :]
    line = re.search(rf"^\| {re.escape(start)}.*$", table, flags=re.M)[0]
    return [cell.strip().split(" / ") for cell in line.strip("|").split("|")[1:]]


def rounded(values) -> list[str]:
    return [f"{value:.3f}".removeprefix("0") for value in values]


@pytest.mark.slow
@pytest.mark.parametrize("column", [0, 1])
def test_shipped_networks_have_the_numbers_in_the_table(column):
    """As `make demo` computes them; trainings differ by a few images from machine to machine."""
    train, test = (load_fashion_mnist_embeddings(("contrastive", "supervised")[column], s) for s in ("train", "test"))
    analysis = cs.analyze(
        train.embeddings,
        train.labels,
        test_embeddings=test.embeddings,
        test_labels=test.labels,
        temperatures=(1, 0.2, 0.05),
        probes=("linear", "label_propagation", "gcn") if HAS_TORCH else ("linear", "label_propagation"),
        map_points=0,
    )
    assert rounded(analysis.rld.values) == row("RLD, T = 1 / 0.2 / 0.05")[column]
    assert [f"{analysis.calinski_harabasz:,.0f}"] == row("Calinski-Harabasz")[column]
    homogeneity = [analysis.class_homogeneity[k] for k in (1, 100, 1_000)]
    assert rounded(homogeneity) == row("CHI, k = 1 / 100 / 1,000")[column]
    accuracy = {score.name: score.accuracy for score in analysis.probes}
    # The linear probe converges; the GCN's training differs from machine to machine.
    stated = {"linear": float(row("accuracy: linear")[column][0]), "gcn": float(row("accuracy: GCN")[column][0])}
    assert accuracy["linear"] == pytest.approx(stated["linear"], abs=0.002)
    if HAS_TORCH:
        assert accuracy["gcn"] == pytest.approx(stated["gcn"], abs=0.006)
    if column == 0:
        said = re.search(r"label propagation \((\.\d+)\) stay\s+(\.\d+) to (\.\d+) below it", README)
        assert accuracy["label_propagation"] == pytest.approx(float(said[1]), abs=0.002)
        below = sorted(stated["linear"] - other for other in (float(said[1]), stated["gcn"]))
        assert below == pytest.approx([float(said[2]), float(said[3])], abs=0.0006)
