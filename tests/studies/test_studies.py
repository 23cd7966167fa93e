"""Studies: each a table and a plot, from the command line."""

import csv
import json
import re
import zipfile

import numpy as np
import pytest
from command_line import assert_one_sentence, run

import clorg_scale as cs
from clorg_scale.datasets import compact_mixture, load_images, locally_dense_mixture
from clorg_scale.studies.measures import measure
from clorg_scale.studies.sentences import HOW_TO_GET, embed_sentences, has_sentence_model
from clorg_scale.studies.table import read_rows, write_study

pytest.importorskip("torch", reason="torch is not installed")
from clorg_scale.studies.trainings import Setting, study_trainings, summarize


def read(folder):
    """Rows of both tables, which must agree, and the panels of the page."""
    rows = json.loads((folder / "table.json").read_text())
    with (folder / "table.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(rows) == len(listed)
    for row, line in zip(rows, listed, strict=True):
        assert list(row) == list(line)
        for name, value in row.items():
            assert line[name] == (f"{value:.6g}" if isinstance(value, float) else str(value))
    (data,) = re.findall(r'id="data">(.*?)</script>', (folder / "plot.html").read_text())
    return rows, json.loads(data)["panels"]


def succeeds(*arguments):
    outcome = run(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


def test_temperature_of_embeddings_of_ones_own(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        points, labels = locally_dense_mixture(300, 8, seed=seed)
        cs.save_embeddings(tmp_path / name, points, labels, {})
    text = succeeds("study", "temperature", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out")
    rows, (panel,) = read(tmp_path / "out")
    temperatures = [row["T"] for row in rows]
    np.testing.assert_allclose(temperatures, np.geomspace(2, 0.02, 24))
    alone = cs.rld(*locally_dense_mixture(300, 8, seed=1), temperatures=temperatures)
    np.testing.assert_allclose([row["b"] for row in rows], alone.values, rtol=1e-6)
    np.testing.assert_allclose([row["b, shuffled"] for row in rows], alone.null_mean, rtol=1e-6)
    assert len(text.splitlines()) == 1 + 24 + 1
    assert panel["xs"] == temperatures
    assert panel["curves"] == {name: [row[name] for row in rows] for name in ("a", "b")}


def test_a_study_of_nothing(tmp_path):
    assert_one_sentence(run("study", "temperature", tmp_path / "none.npy", "--out", tmp_path / "out"), "none.npy")
    outcome = run("study", "augmentation", "--strengths", "1,x", "--out", tmp_path / "out")
    assert_one_sentence(outcome, "--strengths must be numbers")
    assert not (tmp_path / "out").exists()


def test_modality(tmp_path):
    text = succeeds("study", "modality", "--out", tmp_path / "out")
    rows, _ = read(tmp_path / "out")
    assert [row["data"].split(",")[0] for row in rows[:4]] == ["digits", "wines", "cells", "documentation"]
    assert len(rows) == (5 if has_sentence_model() else 4)
    assert ("No sentence model is installed" in text) == (not has_sentence_model())
    digits = rows[0]
    points = np.asarray(_digits()[0] - _digits()[0].mean(axis=0), dtype=np.float32)
    np.testing.assert_allclose(digits["RLD 0.1"], cs.rld(points, _digits()[1]).values[3], rtol=1e-5)
    # Texts of one module have something in common: far from chance, a twelfth.
    assert rows[3]["k-NN accuracy"] > 0.5
    assert "documentation" in text


@pytest.mark.skipif(not has_sentence_model(), reason="needs a sentence model: " + HOW_TO_GET)
def test_a_sentence_model_knows_what_sentences_mean():
    texts = ["A cat sits on the mat.", "The kitten lies on a rug.", "Interest rates rose by one percent."]
    points = embed_sentences(texts, device="cpu")
    assert points.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    assert points[0] @ points[1] > 0.5 > 0.3 > points[0] @ points[2]


def test_weights_that_somebody_changed_are_not_used(tmp_path, monkeypatch):
    (tmp_path / "all_minilm_l6_v2").mkdir()
    (tmp_path / "all_minilm_l6_v2" / "__init__.py").write_text("raise AssertionError('never imported')")
    with zipfile.ZipFile(tmp_path / "all_minilm_l6_v2" / "model.zip", "w") as packed:
        packed.writestr("model.safetensors", b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(cs.InputError, match="does not hold the weights"):
        embed_sentences(["text"], device="cpu")


def _digits():
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def test_measures_are_those_of_the_functions():
    points, labels = compact_mixture(400, 8)
    found = measure(points, labels, device="cpu")
    table = cs.knn(points, 100, metric="cosine")
    assert found["CHI 10"] == pytest.approx(cs.class_homogeneity(table, labels, ks=[10])[10])
    assert found["Calinski-Harabasz"] == pytest.approx(cs.calinski_harabasz(points, labels))
    assert 0.5 < found["k-NN accuracy"] <= 1


def test_trainings_are_measured_once(tmp_path, monkeypatch):
    settings = [
        Setting(width=8, stem="strided", epochs=1, batch_size=64, n_images=256, method="supervised", seed=seed)
        for seed in (0, 1)
    ]
    try:
        rows = study_trainings(settings, vary="seed", out=tmp_path, device="cpu")
    except cs.InputError as error:
        pytest.skip(str(error))
    stored, _ = read(tmp_path)
    assert [row["seed"] for row in stored] == [0, 1]
    assert rows[0]["RLD 0.1"] != rows[1]["RLD 0.1"]
    mean, deviation = summarize(rows)["RLD 0.1"]
    assert mean == pytest.approx((rows[0]["RLD 0.1"] + rows[1]["RLD 0.1"]) / 2)
    assert deviation == pytest.approx(abs(rows[0]["RLD 0.1"] - rows[1]["RLD 0.1"]) / np.sqrt(2))
    monkeypatch.setattr("clorg_scale.backbones.train", None)  # would be called if a row were not found
    assert study_trainings(settings, vary="seed", out=tmp_path, device="cpu") == stored
    with pytest.raises(cs.InputError, match="at least two"):
        summarize(rows[:1])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"backbone": "imaginary"}, "imaginary"), ({"strength": 3}, "strength"), ({"method": "magic"}, "magic")],
)
def test_a_setting_that_cannot_be_trained_is_refused_before_any_is(wrong, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr("clorg_scale.backbones.train", None)
    settings = [Setting(width=8, n_images=256), Setting(n_images=256, **wrong)]
    try:
        load_images("fashion-mnist")
    except cs.InputError as error:
        pytest.skip(str(error))
    with pytest.raises((cs.InputError, cs.MissingDependencyError), match=sentence):
        study_trainings(settings, vary="backbone", out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()
    assert_one_sentence(run("study", "seeds", "--seeds", 1, "--out", tmp_path / "out"), "--seeds must be at least 2")


def test_a_table_that_is_none_is_not_read(tmp_path):
    write_study(tmp_path, [{"a": 1, "b": 0.5}])
    assert read_rows(tmp_path) == [{"a": 1, "b": 0.5}]
    (tmp_path / "table.json").write_text("{")
    assert read_rows(tmp_path) == []
