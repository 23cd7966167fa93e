"""Probes as scikit-learn estimators: its own checks, its tools, its conventions."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from clorg_scale.errors import InputError
from clorg_scale.probes import KNNProbe, LinearProbe

PROBES = [LinearProbe, KNNProbe]


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:400], y[:400]


@pytest.fixture(scope="module")
def two(digits):
    X, y = digits
    chosen = np.isin(y, [3, 8])
    return X[chosen], y[chosen]


def test_scorers_that_need_a_decision(two):
    X, y = two
    assert cross_val_score(LinearProbe(max_epochs=10), X, y == 8, scoring="roc_auc", cv=2).min() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("probe", PROBES)
def test_checks_of_scikit_learn(probe):
    """Every check of scikit-learn, as a third party's estimator is checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(probe(), on_fail=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed == {}
    assert len(results) > 50


def test_in_a_pipeline_a_grid_search_and_cross_validation(digits):
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), KNNProbe())
    oracle = cross_val_score(make_pipeline(StandardScaler(), KNeighborsClassifier(15)), X, y, cv=2)
    # Equally distant neighbors may be chosen differently.
    np.testing.assert_allclose(cross_val_score(pipeline, X, y, cv=2), oracle, atol=0.01)
    search = GridSearchCV(pipeline, {"knnprobe__k": [1, 100], "knnprobe__weights": ["uniform", "distance"]}, cv=2)
    assert search.fit(X, y).best_params_["knnprobe__k"] == 1
    decays = GridSearchCV(LinearProbe(max_epochs=10), {"weight_decay": [1e-2, 1e3]}, cv=2).fit(X, y)
    assert decays.best_params_ == {"weight_decay": 1e-2}
    assert decays.predict(X[:5]).shape == (5,)


@pytest.mark.parametrize("names", [np.array([0, 1]), np.array(["three", "eight"]), np.array([-1, 1])])
def test_two_classes_have_one_decision(two, names):
    X, y = two
    labels = names[(y == 8).astype(int)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        probe = LinearProbe(max_epochs=20).fit(X, labels)
    decision = probe.decision_function(X)
    assert decision.shape == (len(X),)
    np.testing.assert_array_equal(probe.classes_[(decision > 0).astype(int)], probe.predict(X))
    np.testing.assert_allclose(X @ probe.coef_[0] + probe.intercept_, decision, atol=1e-3)
    np.testing.assert_allclose(probe.predict_proba(X)[:, 1], 1 / (1 + np.exp(-decision.astype(float))), atol=1e-5)


@pytest.mark.parametrize("probe", [LinearProbe(max_epochs=5), KNNProbe(3)])
def test_signs_are_two_classes_and_a_warning_says_so(two, probe):
    X, y = two
    signs = np.where(y == 8, 1, -1)
    with pytest.warns(UserWarning, match="two classes; pass unlabelled=None to say so"):
        assert probe.fit(X, signs).classes_.tolist() == [-1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet = clone(probe).set_params(unlabelled=None).fit(X, signs)
    np.testing.assert_array_equal(quiet.predict(X), probe.predict(X))


@pytest.mark.parametrize("probe", [LinearProbe(max_epochs=5), KNNProbe(3)])
def test_names_of_features(digits, probe):
    X, y = digits
    frame = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    probe = clone(probe).fit(frame, y)
    assert list(probe.feature_names_in_) == list(frame.columns)
    assert probe.n_features_in_ == 64
    with pytest.raises(InputError, match="feature names should match"):
        probe.predict(frame[frame.columns[::-1]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        probe.predict(X)
    vectors = pd.DataFrame({"embedding": list(X)})
    assert not hasattr(clone(probe).fit(vectors, y), "feature_names_in_")
    assert clone(probe).fit(vectors, y).predict(vectors[:2]).shape == (2,)


def test_fewer_points_than_voters():
    X, y = np.arange(14.0).reshape(7, 2), [0, 0, 0, 5, 5, 5, 9]
    assert KNNProbe(unlabelled=9).fit(X, y).k_ == 6
    assert KNNProbe().fit(np.repeat(X, 3, axis=0), np.repeat(y, 3)).k_ == 15
    with pytest.raises(InputError, match="k must be a whole number from 1 to 6"):
        KNNProbe(7, unlabelled=9).fit(X, y)


@pytest.mark.parametrize("probe", [LinearProbe(max_epochs=5), KNNProbe(3)])
def test_labels_of_other_shapes_and_kinds(digits, probe):
    X, y = digits
    with pytest.warns(DataConversionWarning, match="column-vector"):
        probe.fit(X, y[:, None])
    names = pd.Series(np.array([f"n{label}" for label in y])).astype("category")
    named = clone(probe).fit(X, names)
    assert set(named.classes_) == set(names)
    assert named.score(X, names) == probe.score(X, pd.Series(y, dtype="Int64"))
    half = np.arange(len(y)) < 200
    assert probe.score(X, y, sample_weight=half) == probe.score(X[half], y[half])
    with pytest.raises(InputError, match="continuous"):
        probe.fit(X, y + 0.5)
    with pytest.raises(InputError, match="requires y"):
        probe.fit(X, None)
    with pytest.raises(TypeError, match="hold Python objects that are no numbers"):
        probe.fit(np.where(np.arange(64) == 3, {}, X.astype(object)), y)


@pytest.mark.parametrize("probe", [LinearProbe(max_epochs=5), KNNProbe(3)])
def test_a_pickled_probe_predicts_the_same(digits, probe):
    X, y = digits
    fitted = clone(probe).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
