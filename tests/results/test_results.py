"""Every result: one line, a data frame, a table for notebooks, a file and back."""

import csv
import inspect
import json
import math
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from records import HOSTILE, record

import clorg_scale as cs
from clorg_scale.errors import InputError, MissingDependencyError
from clorg_scale.probes import ProbeResult, StudyRow
from clorg_scale.results.result import Result

pandas = pytest.importorskip("pandas", reason="pandas is not installed")

N, K = 60, 5
rng = np.random.default_rng(0)
LABELS = np.repeat(["a", "b", "c"], N // 3)
POINTS = (rng.normal(size=(N, 4)) + 2.5 * np.eye(4)[np.repeat(np.arange(3), N // 3)]).astype(np.float32)


@pytest.fixture(scope="module")
def results():
    """One of each kind."""
    table = cs.knn(POINTS, K)
    graph = cs.affinity_graph(table)
    probe = ProbeResult("knn", 0.75, (0.5, 1.0), 0, 1.5, {"k": 5})
    given = np.where(np.arange(N) == 4, "b", LABELS)
    given[7] = "-1"
    return {
        "RLDResult": cs.rld(POINTS, LABELS, temperatures=(1.0, 0.1)),
        "SubsetRLD": cs.rld_of_subsets(POINTS, LABELS, sizes=[20, 30], n_subsets=2, temperatures=(1.0,)),
        "KNN": table,
        "AffinityGraph": graph,
        "Communities": cs.communities(graph),
        "Issues": cs.find_issues(
            POINTS, given, k=K, unlabelled="-1", test_embeddings=POINTS[:3] + 1e-4, test_labels=given[:3]
        ),
        "Spectrum": cs.spectrum(graph, 4, labels=LABELS),
        "ProbeResult": probe,
        "StudyRow": StudyRow(0.1, 5, None, probe),
        "Analysis": record(),
        "Comparison": cs.compare({"one": record(), "two": record(name="two", seed=1)}),
    }


KINDS = (
    "RLDResult",
    "SubsetRLD",
    "KNN",
    "AffinityGraph",
    "Communities",
    "Issues",
    "Spectrum",
    "ProbeResult",
    "StudyRow",
    "Analysis",
    "Comparison",
)


def _subclasses(kind):
    return {kind} | {found for child in kind.__subclasses__() for found in _subclasses(child)}


def test_these_are_all_kinds():
    """Each public dataclass is a result, and each kind of result is tested here."""
    values = [getattr(module, name) for module in (cs, cs.probes) for name in module.__all__]
    public = {value for value in values if inspect.isclass(value) and is_dataclass(value)}
    assert {kind.__name__ for kind in public if not issubclass(kind, Result)} == set()
    bases = {"Result", "AnalysisRecord"}
    assert {kind.__name__ for kind in _subclasses(Result)} - bases == set(KINDS)


def assert_same(ours, theirs):
    """Equal in every field, arrays in dtype too."""
    assert type(ours) is type(theirs)
    if isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key, value in ours.items():
            assert_same(value, theirs[key])
    elif hasattr(ours, "__dataclass_fields__"):
        for field in fields(ours):
            assert_same(getattr(ours, field.name), getattr(theirs, field.name))
    else:
        assert ours == theirs


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_and_back(results, kind, tmp_path):
    result = results[kind]
    assert type(result).__name__ == kind
    path = result.to_json(tmp_path / "result.json")
    assert_same(type(result).from_json(path), result)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert "PK" not in path.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_refused(results, kind, tmp_path):
    other = results["KNN" if kind != "KNN" else "Communities"].to_json(tmp_path / "other.json")
    with pytest.raises(InputError, match=r"not an? "):
        type(results[kind]).from_json(other)
    with pytest.raises(InputError, match="There is no"):
        type(results[kind]).from_json(tmp_path / "nowhere.json")


@pytest.mark.parametrize("kind", KINDS)
def test_one_short_line(results, kind):
    line = repr(results[kind])
    assert "\n" not in line
    assert "array" not in line
    assert len(line) < 200
    assert line.startswith(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_dictionaries_are_plain(results, kind):
    document = results[kind].to_dict()
    assert json.loads(json.dumps(document, allow_nan=False))


@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_notebooks(results, kind):
    frame = results[kind].to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame)
    page = results[kind]._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 1
    assert page.count("<tr>") <= 13
    with pytest.raises(InputError, match="no table 'nothing' here; choose from"):
        results[kind].to_frame("nothing")


def test_frames_hold_the_numbers(results):
    found = results["RLDResult"]
    np.testing.assert_array_equal(found.to_frame()["rld"], found.values)
    assert found.to_frame("classes")["contribution"].sum() == pytest.approx(found.values.sum())
    np.testing.assert_array_equal(found.to_frame("points")["local_density, T = 0.1"], found.local_density[1])
    table = results["KNN"].to_frame()
    np.testing.assert_array_equal(table["distance"].to_numpy().reshape(N, K), results["KNN"].distances)
    assert (table["point"] != table["neighbor"]).all()
    edges, graph = results["AffinityGraph"].to_frame(), results["AffinityGraph"]
    assert len(edges) == graph.n_edges
    dense = graph.to_scipy().toarray()
    np.testing.assert_array_equal(dense[edges["source"], edges["target"]], edges["weight"])
    sizes = results["Communities"].to_frame("points").value_counts("community")
    assert sizes.sort_index().tolist() == results["Communities"].sizes.tolist()
    assert results["Spectrum"].to_frame()["gap"].isna().tolist() == [False] * 3 + [True]
    analysis = results["Analysis"]
    assert analysis.to_frame("classes")["size"].tolist() == analysis.class_sizes
    assert analysis.to_frame("map")["row"].tolist() == analysis.point_map.index
    assert analysis.to_frame("probes")["accuracy"].tolist() == [probe.accuracy for probe in analysis.probes]
    assert analysis.to_frame().set_index("quantity")["value"]["CHI, k = 10"] == 0.85
    frame = results["Comparison"].to_frame()
    assert frame.columns.tolist() == ["quantity", "one", "two"]
    assert frame.to_dict("records") == results["Comparison"].table()


def test_hostile_names_stay_text_in_notebooks():
    page = record(name=HOSTILE)._repr_html_() + cs.compare({HOSTILE: record(), "b": record()})._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_without_pandas(results, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match=r"pandas.*pip install"):
        results["KNN"].to_frame()


def test_a_comparison_as_csv_and_latex(results, tmp_path):
    comparison = results["Comparison"]
    comparison = cs.compare({"50 % & more_": comparison.analyses["one"], "two": comparison.analyses["two"]})
    lacking = replace(comparison.analyses["two"], probes=[])
    comparison = cs.compare(comparison.analyses | {"two": lacking})
    with comparison.to_csv(tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, expected in zip(rows, comparison.table(), strict=True):
        for name, value in expected.items():
            assert row[name] == ("" if value is None else str(value))
            if isinstance(value, float):
                assert math.isclose(float(row[name]), value, rel_tol=0)
    text = comparison.to_latex(tmp_path / "table.tex")
    assert (tmp_path / "table.tex").read_text() == text
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[2] == r" & 50 \% \& more\_ & two \\"
    assert r"accuracy, gcn & 0.8774 & -- \\" in lines
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    for path in ("table.txt", "table.pdf"):
        with pytest.raises(InputError, match="cannot be written as"):
            comparison.to_csv(tmp_path / path)
