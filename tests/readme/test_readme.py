"""README.md and CONTRIBUTING.md: options and names exist, links lead somewhere, the demo gives the numbers."""

import inspect
import re
from functools import partial

import pytest
import typer
from command_line import run
from readme_text import HAS_TORCH, README, ROOT, spans

import clorg_scale as cs
from clorg_scale import demo

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
def test_demo(tmp_path, monkeypatch):
    """As it is, but for maps of fewer points and a GraphSAGE of few epochs, which take longer than all the rest.

    Trainings differ by a few images from machine to machine.
    """
    monkeypatch.setattr(demo, "analyze", partial(cs.analyze, map_points=500))
    if HAS_TORCH:
        monkeypatch.setitem(cs.probes.SAGEProbe.__init__.__kwdefaults__, "max_epochs", 10)
    done = run("demo", "--out", tmp_path / "demo")
    assert (done.code, done.err) == (0, "")
    assert done.out.rstrip().endswith("comparison.html in a browser.")
    said = [line.partition(":")[0] for line in done.out.splitlines()]
    assert "Density" in said
    assert any(line.startswith("Class homogeneity (share of") for line in said)
    assert any(line.startswith(("Accuracy of the GCN probe", "GCN against linear")) for line in said)
    assert {path.name for path in (tmp_path / "demo").iterdir()} >= {"comparison.html"}
    contrastive, supervised = (
        cs.Analysis.from_json(tmp_path / "demo" / name / "analysis.json") for name in ("contrastive", "supervised")
    )
    assert contrastive.n_points == supervised.n_points == contrastive.n_test == 10_000
    # What the paper finds: without labels the classes are less dense globally ...
    assert contrastive.rld.values[0] < supervised.rld.values[0] / 2
    assert contrastive.calinski_harabasz < supervised.calinski_harabasz
    # ... but not among near neighbors, and neighborhoods lose their class sooner as they grow.
    assert contrastive.rld.values[4] > supervised.rld.values[4]
    falls = [found.class_homogeneity[1000] / found.class_homogeneity[1] for found in (contrastive, supervised)]
    assert falls[0] < falls[1]
    for column, analysis in enumerate((contrastive, supervised)):
        check_the_table(analysis, column)


def check_the_table(analysis, column):
    """README's table of both networks has the numbers of the demo."""
    of_temperature = dict(zip(analysis.rld.temperatures, analysis.rld.values, strict=True))
    assert rounded(of_temperature[t] for t in (1, 0.2, 0.05)) == row("RLD, T = 1 / 0.2 / 0.05")[column]
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
