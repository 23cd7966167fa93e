import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.preprocessing import StandardScaler

from clorg_scale.errors import InputError
from clorg_scale.probes import LinearProbe
from clorg_scale.probes.linear import _adamw_step, _gradient
from clorg_scale.probes.splits import stratified_hold_out, stratified_share


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


def test_gradient_is_the_derivative_of_cross_entropy():
    rng = np.random.default_rng(1)
    x, y, weights = rng.normal(size=(20, 4)), rng.integers(0, 3, 20), rng.normal(size=(5, 3))

    def loss(w):
        logits = x @ w[:-1] + w[-1]
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20), y])

    gradient = _gradient(weights, x, y, np)
    for cell in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[cell] = 1e-6
        assert gradient[cell] == pytest.approx((loss(weights + step) - loss(weights - step)) / 2e-6, abs=1e-8)


def test_adamw_equals_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    ours = rng.normal(size=(4, 3)).astype(np.float32)
    weight = torch.nn.Parameter(torch.from_numpy(ours[:-1].copy()))
    bias = torch.nn.Parameter(torch.from_numpy(ours[-1].copy()))
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.05)
    first, second = np.zeros_like(ours), np.zeros_like(ours)
    for step in range(1, 6):
        gradient = rng.normal(size=(4, 3)).astype(np.float32)
        weight.grad, bias.grad = torch.from_numpy(gradient[:-1].copy()), torch.from_numpy(gradient[-1].copy())
        optimizer.step()
        _adamw_step(ours, first, second, gradient, step, 0.05, 0.1, np)
    np.testing.assert_allclose(ours[:-1], weight.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(ours[-1], bias.detach().numpy(), atol=1e-6)


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


def test_held_out_part_is_stratified_and_early_stopping_keeps_the_best_epoch():
    codes = np.repeat([-1, 0, 1, 2], [10, 100, 1, 50])
    kept, held_out = stratified_hold_out(codes, 0.1, np.random.default_rng(0))
    assert np.bincount(codes[held_out], minlength=3).tolist() == [10, 0, 5]
    assert np.array_equal(np.sort(np.concatenate([kept, held_out])), np.flatnonzero(codes >= 0))
    share = stratified_share(codes, 0.02, np.random.default_rng(0))
    assert np.bincount(codes[share]).tolist() == [2, 1, 1]

    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(300, 50)), rng.integers(0, 2, 300)  # nothing to learn: it can only overfit
    probe = LinearProbe(learning_rate=0.05, max_epochs=60, patience=4).fit(X, y)
    losses = probe.validation_loss_
    assert len(losses) < 60
    assert len(losses) == int(np.argmin(losses)) + 1 + 4


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
    with pytest.raises(InputError, match="trained on 64"):
        probe.predict(np.ones((3, 5)))
    with pytest.raises(InputError, match="row 1"):
        probe.predict(np.array([[0.0] * 64, [np.nan] * 64, [0.0] * 64]))
