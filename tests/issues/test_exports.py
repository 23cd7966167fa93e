"""Issues as files and in the forms of other programs, and the command that writes them."""

import csv
import json

import numpy as np
import pandas
import pytest
from command_line import run

import clorg_scale as cs
from clorg_scale.errors import InputError


def test_csv_holds_all_points(planted, tmp_path):
    path = planted.issues.to_csv(tmp_path / "issues.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 900
    assert [int(row["index"]) for row in rows] == list(range(900))
    for row, columns in zip(rows, zip(*planted.issues.columns().values(), strict=True), strict=True):
        expected = dict(zip(planted.issues.columns(), columns, strict=True))
        assert row["given_label"] == expected["given_label"]
        assert (row["is_label_issue"] == "true") == expected["is_label_issue"]
        if np.isnan(expected["label_score"]):
            assert row["label_score"] == row["given_label"] == ""
        else:
            assert float(row["label_score"]) == pytest.approx(expected["label_score"], rel=1e-6)
        assert row["near_duplicate_set"] == ("" if expected["near_duplicate_set"] < 0 else "0")


def test_frames_parquet_and_json(planted, tmp_path):
    issues = planted.issues
    frame = issues.to_frame()
    assert list(frame.columns) == list(issues.columns())
    read = pandas.read_parquet(issues.to_parquet(tmp_path / "issues.parquet"))
    assert read["label_score"].isna().sum() == 30
    assert read["given_label"].isna().sum() == 30
    assert read["near_duplicate_set"].notna().sum() == 3
    known = frame["given_label"] != ""
    pandas.testing.assert_series_equal(read["suggested_label"], frame["suggested_label"], check_dtype=False)
    np.testing.assert_array_equal(read["label_score"][known], frame["label_score"][known])
    document = json.loads(issues.to_json(tmp_path / "issues.json").read_text(), parse_constant=pytest.fail)
    assert len(document["label_issues"]) == len(issues.label_issues) == document["counts"]["label_issues"]
    assert document["label_issues"][0]["index"] == issues.label_issues["index"][0]
    assert (tmp_path / "issues_arrays.npz").exists()  # the values of all points
    worst = issues.to_frame("label_issues")
    assert worst["suggested_label"][0] == issues.label_issues["suggested_label"][0]
    with pytest.raises(InputError, match=r"ends in \.parquet"):
        issues.to_parquet(tmp_path / "issues.xlsx")


def test_cleanlabs_form_is_that_of_its_datalab(planted):
    """The columns, their types and the sense of the scores, and the near-duplicates themselves."""
    from cleanlab import Datalab

    known = planted.given >= 0
    X, given = planted.X[known], planted.given[known]
    lab = Datalab(data={"y": [f"digit {label}" for label in given]}, label_name="y", verbosity=0)
    p = np.full((len(given), 10), 0.01)
    p[np.arange(len(given)), planted.right[known]] = 0.91
    lab.find_issues(features=X, pred_probs=p, issue_types={"label": {}, "outlier": {}, "near_duplicate": {}})
    names = [f"digit {label}" for label in range(10)]
    ours, theirs = cs.find_issues(X, given, class_names=names, k=10).to_cleanlab(), lab.get_issues()
    assert set(theirs.columns) <= set(ours.columns)
    for column in theirs.columns:
        assert ours[column].dtype.kind == theirs[column].dtype.kind, column
    details = lab.get_issues("near_duplicate")
    for mine, other in zip(ours["near_duplicate_sets"], details["near_duplicate_sets"], strict=True):
        assert set(mine) == set(other)
    assert set(lab.get_issues("label").columns) <= set(ours.columns)


def test_cleanlabs_form(planted):
    frame = planted.issues.to_cleanlab()
    assert list(frame.columns) == [
        "is_label_issue",
        "label_score",
        "given_label",
        "predicted_label",
        "is_outlier_issue",
        "outlier_score",
        "is_near_duplicate_issue",
        "near_duplicate_score",
        "near_duplicate_sets",
    ]
    for name in ("label_score", "outlier_score", "near_duplicate_score"):
        assert frame[name].dropna().between(0, 1).all()
    assert frame["near_duplicate_sets"][3].tolist() == [700, 701]
    assert frame["near_duplicate_score"].nsmallest(3).index.tolist() == [3, 700, 701]
    assert len(frame["near_duplicate_sets"][4]) == 0
    outliers, others = (frame["outlier_score"][frame["is_outlier_issue"] == is_one] for is_one in (True, False))
    assert outliers.mean() < others.mean()


def test_fields_of_fiftyone_are_plain_values(planted):
    fields = planted.issues.to_fiftyone()
    kinds = {
        "label_issue": bool,
        "mistakenness": float,
        "suggested_label": str,
        "suggested_confidence": float,
        "outlier": bool,
        "outlier_factor": float,
        "isolation": float,
        "near_duplicate_set": int,
    }
    assert fields.keys() == kinds.keys()
    for name, values in fields.items():
        assert len(values) == 900
        assert {type(value) for value in values} - {type(None)} == {kinds[name]}, name
    worst = int(np.nanargmin(planted.issues.label_score))
    assert max(value for value in fields["mistakenness"] if value is not None) == fields["mistakenness"][worst]


def test_the_command(planted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", planted.X)
    np.save("y.npy", planted.given)
    np.save("test.npy", planted.X[[5, 8, 20]])
    files = ("--labels=y.npy", "--test-embeddings=test.npy", "--out=issues.csv")
    done = run("issues", "x.npy", *files, "--k=10", "--seed=2")
    assert (done.code, done.err) == (0, "")
    n = len(planted.issues.label_issues)
    assert f"\n{n} label issues" in done.out
    assert "\n6 near-duplicates in 4 sets, with 3 test points\n" in done.out
    assert "3 of 3 test points have a near-duplicate" in done.out
    assert done.out.rstrip().endswith("All points are in issues.csv.")
    scores = np.genfromtxt("issues.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")["label_score"]
    np.testing.assert_allclose(scores, planted.issues.label_score, rtol=1e-5)
    document = json.loads(run("issues", "x.npy", "--labels", "y.npy", "--k", 10, "--json").out)
    assert document["counts"]["label_issues"] == len(document["label_issues"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--out", "issues.xlsx"), "cannot be written as .xlsx"),
        (("--out", "missing/issues.csv"), "does not exist"),
        (("--k", "0"), "k must be a whole number"),
        (("--test-labels", "y.npy"), "without --test-embeddings"),
        (("--test-embeddings", "narrow.npy"), "have 3 features"),
    ],
)
def test_mistakes_on_the_command_line(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).normal(size=(40, 4))
    np.save("x.npy", X)
    np.save("narrow.npy", X[:, :3])
    np.save("y.npy", np.arange(40) % 3)
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run("issues", "x.npy", "--labels", "y.npy", *arguments)
    assert done.code == 2
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
