from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.preprocessing import StandardScaler

from clorg_scale.errors import InputError
from clorg_scale.probes import LinearProbe, fitting
from clorg_scale.probes.discriminant import class_moments, discriminant_weights
from clorg_scale.probes.regularization import penalty_path
from clorg_scale.probes.softmax import LabeledBlocks, SoftmaxLoss, _errors_parallel, _errors_reference, _errors_serial
from clorg_scale.probes.splits import stratified_hold_out, stratified_share
from clorg_scale.probes.standardize import StandardizedReader, standardization


class _Given:
    """A covariance estimator for scikit-learn that is given its result, to be shrunk as ours."""

    def __init__(self, covariance, shrinkage):
        d = len(covariance)
        self.covariance_ = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / d * np.eye(d)

    def fit(self, X):
        return self


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)


@pytest.fixture(scope="module")
def probe(digits):
    X, _, y, _ = digits
    return LinearProbe().fit(X, y)


def test_accuracy_near_scikit_learn(digits, probe):
    X, X_test, y, y_test = digits
    scaler = StandardScaler().fit(X)
    reference = LogisticRegression(max_iter=2000).fit(scaler.transform(X), y)
    # Both err on about 3 % of 540 test points; where they disagree at random, the difference has a standard
    # deviation of at most sqrt(2 * .03 * .97 / 540) = .0104.
    assert abs(probe.score(X_test, y_test) - reference.score(scaler.transform(X_test), y_test)) < 0.021


def blocks_of(X, codes, rows=None, block_rows=7, cached=False):
    reader = StandardizedReader(X, standardization(X, np.ones(len(X), dtype=bool)), np)
    rows = np.arange(len(X)) if rows is None else rows
    return LabeledBlocks(reader, codes, rows, block_rows=block_rows, cached=cached)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_gradient_are_those_of_the_definition(smoothing):
    rng = np.random.default_rng(1)
    X, y, weights = rng.normal(size=(20, 4)), rng.integers(0, 3, 20), rng.normal(size=(5, 3))
    x = (X - X.mean(axis=0)) / X.std(axis=0)
    targets = (1 - smoothing) * np.eye(3)[y] + smoothing / 3

    def definition(w):
        logits = x @ w[:-1] + w[-1]
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - (targets * logits).sum(axis=1))

    loss = SoftmaxLoss(np, smoothing)
    value, gradient = loss.gradient(weights, blocks_of(X, y))
    assert value == pytest.approx(definition(weights), rel=1e-6)
    for cell in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[cell] = 1e-6
        slope = (definition(weights + step) - definition(weights - step)) / 2e-6
        assert gradient[cell] == pytest.approx(slope, abs=1e-6)
    smoothing, targets = 0.0, np.eye(3)[y]
    assert loss.value(weights, blocks_of(X, y, cached=True)) == pytest.approx(definition(weights), rel=1e-6)


@pytest.mark.parametrize("kernel", [_errors_serial, _errors_parallel])
def test_compiled_errors_equal_the_reference(kernel):
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=30, size=(50, 17)).astype(np.float32)
    codes, losses = rng.integers(0, 17, 50), np.empty(50, dtype=np.float32)
    expected = logits.astype(np.float64)
    total = _errors_reference(expected, codes, 0.1, np)
    kernel(logits, codes, np.float32(0.1), losses)
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert losses.sum(dtype=np.float64) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
def test_equals_scikit_learn_at_the_same_penalty(digits, C):
    X, X_test, y, _ = digits
    scaler = StandardScaler().fit(X)
    oracle = LogisticRegression(C=C, max_iter=5000, tol=1e-8).fit(scaler.transform(X), y)
    probe = LinearProbe(weight_decay=1 / (C * len(X))).fit(X, y)
    assert probe.weight_decay_ == 1 / (C * len(X))
    # Near the minimum of float32 losses of about 0.1, which are known to 1e-7 of that.
    np.testing.assert_allclose(probe.predict_proba(X_test), oracle.predict_proba(scaler.transform(X_test)), atol=0.01)


def test_discriminant_equals_scikit_learn():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rng = np.random.default_rng(6)
    y = np.sort(rng.integers(0, 4, 200))
    X = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=(4, 5))[y]
    moments = class_moments(blocks_of(X, y), 4)
    weights = discriminant_weights(moments, shrinkage=0.1, scale=1.0)
    x = (X - X.mean(axis=0)) / X.std(axis=0)
    covariance = sum(np.cov(x[y == c].T, bias=True) * np.mean(y == c) for c in range(4))
    oracle = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=_Given(covariance, 0.1)).fit(x, y)
    ours = x @ weights[:-1] + weights[-1]
    theirs = oracle.decision_function(x)
    np.testing.assert_allclose(ours - ours[:, :1], theirs - theirs[:, :1], atol=1e-3)


def test_growing_samples_reach_the_loss_of_the_whole_path(monkeypatch):
    """Classes of several modes, which no linear discriminant finds at once."""
    rng = np.random.default_rng(7)
    modes, y = rng.normal(size=(10, 3, 20)), rng.integers(0, 10, 12_000)
    X = modes[y, rng.integers(0, 3, len(y))] + rng.normal(scale=0.7, size=(len(y), 20))
    X, X_test, y, y_test = X[:10_000], X[10_000:], y[:10_000], y[10_000:]
    whole = LinearProbe().fit(X, y)
    monkeypatch.setattr(fitting, "CHEAP_PASS", 500 * 20 * 10)
    grown = LinearProbe().fit(X, y)
    assert grown.n_epochs_ < 20 < whole.n_epochs_

    def loss(probe):
        return -np.log(probe.predict_proba(X_test)[np.arange(len(y_test)), y_test]).mean()

    # 2,000 test points; losses of equally good probes differ by much less than their spread of about 1 / sqrt(2,000).
    assert loss(grown) < loss(whole) + 0.01


def test_label_smoothing_makes_modest_predictions(digits):
    X, X_test, y, y_test = digits
    plain, smooth = (LinearProbe(label_smoothing=share, weight_decay=1e-4).fit(X, y) for share in (0.0, 0.3))
    assert smooth.score(X_test, y_test) > 0.92
    assert plain.predict_proba(X_test).max(axis=1).mean() > smooth.predict_proba(X_test).max(axis=1).mean() + 0.1


def test_learning_rate_of_the_former_training_is_accepted(digits):
    X, _, y, _ = digits
    with pytest.warns(UserWarning, match="learning_rate has no effect"):
        LinearProbe(learning_rate=1e-3, max_epochs=1).fit(X[:200], y[:200])


def test_progress_comes_to_the_whole(digits, monkeypatch):
    X, _, y, _ = digits
    reported = []

    @contextmanager
    def bar(description, total, **_):
        reported.append([total])
        yield reported[-1].append

    monkeypatch.setattr(fitting, "progress_bar", bar)
    LinearProbe(progress=True).fit(X, y)
    monkeypatch.setattr(fitting, "CHEAP_PASS", 250 * 64 * 10)
    LinearProbe(progress=True).fit(X, y)
    for total, *steps in reported:
        assert min(steps) >= 0
        assert sum(steps) == pytest.approx(total)


def test_estimator_manners(digits, probe):
    X, X_test, y, _ = digits
    copy = clone(probe)
    assert copy.get_params() == probe.get_params()
    assert not hasattr(copy, "coef_")
    assert list(probe.classes_) == list(range(10))
    assert probe.n_parameters == 10 * 65
    np.testing.assert_allclose(probe.predict_proba(X_test).sum(axis=1), 1, atol=1e-6)
    folded = X_test @ probe.coef_.T + probe.intercept_
    np.testing.assert_allclose(folded, probe.decision_function(X_test), atol=1e-3)
    assert cross_val_score(LinearProbe(max_epochs=20), X, y, cv=2).min() > 0.8
    assert probe.predict(X_test[:1]).shape == (1,)


def test_equal_seeds_give_equal_weights(digits):
    X, _, y, _ = digits
    first, second, other = (LinearProbe(max_epochs=3, seed=seed).fit(X, y).coef_ for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_memory_map_with_offset_and_string_labels(digits, tmp_path, probe):
    X, X_test, y, _ = digits
    np.save(tmp_path / "x.npy", (X + 1e6).astype(">f8"))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    names = np.array([f"class {label}" for label in y])
    shifted = LinearProbe().fit(mapped, names)
    np.testing.assert_allclose(shifted.decision_function(mapped), probe.decision_function(X), atol=0.05)
    assert set(shifted.predict(X_test + 1e6)) <= set(names)


def test_constant_feature_unlabelled_points_and_tiny_classes():
    rng = np.random.default_rng(3)
    X = np.concatenate([rng.normal(size=(60, 3)), np.full((60, 1), 7.0)], axis=1)
    y = (X[:, 0] > 0).astype(int)
    y[0] = 5  # a class of one point
    X[1, 0], y[1] = 1e3, -1  # must not be trained on
    probe = LinearProbe().fit(X, y)
    assert list(probe.classes_) == [0, 1, 5]
    assert np.isfinite(probe.coef_).all()
    assert (probe.coef_[:, 3] == 0).all()
    assert probe.score(X[2:], y[2:]) > 0.9


def test_held_out_share_is_stratified():
    codes = np.repeat([-1, 0, 1, 2], [10, 100, 1, 50])
    kept, held_out = stratified_hold_out(codes, 0.1, np.random.default_rng(0))
    assert np.bincount(codes[held_out], minlength=3).tolist() == [10, 0, 5]
    assert np.array_equal(np.sort(np.concatenate([kept, held_out])), np.flatnonzero(codes >= 0))
    share = stratified_share(codes, 0.02, np.random.default_rng(0))
    assert np.bincount(codes[share]).tolist() == [2, 1, 1]


def test_where_there_is_nothing_to_learn_the_path_ends_early():
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(12_000, 50)), rng.integers(0, 2, 12_000)  # it can only overfit
    probe = LinearProbe(patience=3).fit(X, y)
    losses = probe.validation_loss_
    assert len(losses) <= int(np.argmin(losses)) + 1 + 3
    assert len(losses) < len(penalty_path(len(X), 2)) / 2
    assert min(losses) > np.log(2) - 0.01
    assert LinearProbe(validation_fraction=0).fit(X[:100], y[:100]).validation_loss_ == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"X": np.array([[1.0, np.nan]] * 4)}, "NaN"),
        ({"X": np.ones(4)}, "two dimensions"),
        ({"y": [0, 1, 0]}, "one label per row"),
        ({"y": [1, 1, 1, 1]}, "at least two classes"),
        ({"y": [0.5, 1, 0, 1]}, "whole numbers"),
    ],
)
def test_bad_input(change, sentence):
    arguments = {"X": np.arange(8.0).reshape(4, 2), "y": [0, 1, 0, 1]} | change
    with pytest.raises(InputError, match=sentence):
        LinearProbe().fit(**arguments)


def test_bad_settings_and_bad_points_to_predict(probe):
    X, y = np.arange(8.0).reshape(4, 2), [0, 1, 0, 1]
    for setting in ({"validation_fraction": 1.0}, {"batch_size": 0}, {"learning_rate": 0.0}):
        with pytest.raises(InputError, match=next(iter(setting))):
            LinearProbe(**setting).fit(X, y)
    with pytest.raises(InputError, match="X has 5 features, but LinearProbe is expecting 64"):
        probe.predict(np.ones((3, 5)))
    with pytest.raises(InputError, match="row 1"):
        probe.predict(np.array([[0.0] * 64, [np.nan] * 64, [0.0] * 64]))
