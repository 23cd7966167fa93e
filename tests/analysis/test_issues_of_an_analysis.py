"""What an analysis and a comparison say of issues: suspects, leakage, look-alikes and their ranks elsewhere."""

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

import clorg_scale as cs
from clorg_scale.analysis.suspects import find_suspects
from clorg_scale.datasets import load_digits

QUICK = {"k": 6, "probes": [], "map_points": 0, "temperatures": (0.1,)}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of 300 digits, pixels and four pixels of each row; test points 0 and 1 are points 8 and 9."""
    X, y = load_digits()
    out = tmp_path_factory.mktemp("models")
    embedded = {"pixels": X[:300], "parts": X[:300, ::2]}
    others = {"pixels": X[400:420], "parts": X[400:420, ::2]}
    tested = {name: np.concatenate([points[8:10], others[name]]) for name, points in embedded.items()}
    labels = np.concatenate([y[8:10], y[400:420]])
    analyses = {}
    for name, points in embedded.items():
        test = {"test_embeddings": tested[name], "test_labels": labels}
        analyses[name] = cs.analyze(points, y[:300], name=name, output=out / name, **test, **QUICK)
    return embedded, y[:300], analyses, out


def test_leakage_and_counts(models):
    embedded, _, analyses, _ = models
    found = analyses["pixels"].issues
    assert found.n_test_in_train == 2
    assert {(leak.test_index, leak.index) for leak in found.leaks} == {(0, 8), (1, 9)}
    assert all(leak.label == leak.test_label for leak in found.leaks)
    rows = {row["quantity"]: row for row in cs.compare(analyses).table()}
    leaks = "test points among the points"
    assert rows[leaks] == {"quantity": leaks, "pixels": 2, "parts": 2}
    alone = cs.analyze(embedded["pixels"], models[1], **QUICK).issues
    assert alone.n_test_in_train is None
    assert alone.leaks == []


def test_look_alikes_and_their_rank_under_the_other_model(models):
    embedded, y, analyses, out = models
    comparison = cs.compare(analyses)
    rows = comparison.look_alikes()
    assert len(rows) == 20
    D = {name: pairwise_distances(points) for name, points in embedded.items()}
    for row in rows:
        model, i, j = row["model"], row["index"], row["other"]
        (other,) = row["ranks"]
        assert other != model
        assert y[i] != y[j]
        mean = D[model].sum() / (300 * 299)
        assert row["distance"] == pytest.approx(D[model][i, j] / mean, rel=0.01)
        closer = min((D[other][a] < D[other][a, b] * (1 - 1e-6)).sum() for a, b in ((i, j), (j, i)))
        if row["ranks"][other]:
            assert closer <= row["ranks"][other] <= 6  # the point itself is one of the closer ones
        else:
            assert closer >= 6
    # The same from the folders; without their tables nothing is said.
    read = {name: cs.Analysis.from_json(out / name) for name in analyses}
    assert cs.compare(read).look_alikes() == rows
    for file in (out / "parts").glob("nearest-neighbors-*.npz"):
        file.unlink()
    again = cs.compare({name: cs.Analysis.from_json(out / name) for name in analyses}).look_alikes()
    assert {row["ranks"].get("parts", 0) for row in again} == {None, 0}
    page = comparison.report(out / "comparison.html").read_text(encoding="utf-8")
    assert "rank, parts" in page
    assert "beyond 6" in page or ">1</td>" in page


def test_all_suspects_are_found():
    """All points of low density with another majority around them, by the dense definition: far more than a hundred."""
    rng = np.random.default_rng(0)
    right = np.repeat(np.arange(4), 300)
    X = rng.normal(size=(1200, 8)) + 6 * np.eye(8)[right]
    wrong = np.sort(rng.choice(1200, 240, replace=False))
    given = right.copy()
    given[wrong] = (given[wrong] + 1) % 4
    given[::97] = -1
    density = cs.rld(X, given, temperatures=(0.1,)).local_density[0]
    graph = cs.affinity_graph(cs.knn(X, 15), temperature=0.1)
    found = find_suspects(graph, given, list("abcd"), density)
    votes = graph.to_scipy().toarray().astype(float) @ np.eye(5)[given][:, :4]
    majority = votes.argmax(axis=1)
    expected = np.flatnonzero((given >= 0) & (density < 0.5) & (majority != given))
    assert {suspect.index for suspect in found} == set(expected.tolist())
    assert all(suspect.suggested_label == "abcd"[majority[suspect.index]] for suspect in found)
    assert [suspect.local_density for suspect in found] == sorted(suspect.local_density for suspect in found)
    # A fifth of the neighbors is wrong too, so that a few wrong labels have a majority of their own around them.
    assert np.isin(wrong[given[wrong] >= 0], expected).mean() > 0.85
    assert find_suspects(graph, given, list("abcd"), density, n_most=100) == found[:100]
