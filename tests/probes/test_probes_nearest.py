import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from clorg_scale.errors import InputError
from clorg_scale.probes import KNNProbe


@pytest.fixture(scope="module")
def points():
    X, y = load_digits(return_X_y=True)
    X = X + np.random.default_rng(0).normal(scale=0.1, size=X.shape)  # no ties in distance
    return train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_equals_scikit_learn(points, weights, metric):
    X, X_test, y, _ = points
    ours = KNNProbe(7, weights=weights, metric=metric).fit(X, y).predict_proba(X_test)
    oracle = KNeighborsClassifier(7, weights=weights, metric=metric).fit(X, y).predict_proba(X_test)
    np.testing.assert_allclose(ours, oracle, atol=1e-5)


def test_coincident_points_alone_vote_by_distance():
    X = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.1, 0.0], [1.2, 0.0]])
    probe = KNNProbe(5, weights="distance").fit(X, [0, 1, 1, 1, 1])
    np.testing.assert_array_equal(probe.predict_proba(np.zeros((3, 2))), [[0.5, 0.5]] * 3)


def test_estimator_manners_and_unlabelled_points(points):
    X, X_test, y, y_test = points
    probe = KNNProbe(5)
    assert clone(probe).get_params() == probe.get_params()
    assert probe.n_parameters == 0
    hidden = y.copy()
    hidden[::2] = -1
    some = probe.fit(X, hidden).predict_proba(X_test)
    np.testing.assert_array_equal(some, KNNProbe(5).fit(X[1::2], y[1::2]).predict_proba(X_test))
    assert probe.score(X_test, y_test) > 0.95
    np.testing.assert_array_equal(probe.predict_proba(X_test[:1]), some[:1])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k": 0}, "k must be"),
        ({"k": 10**6}, "k must be"),
        ({"weights": "softmax"}, "weights must be"),
        ({"metric": "manhattan"}, "metric must be"),
        ({"metric": "inner_product", "weights": "distance"}, "not a distance"),
    ],
)
def test_bad_settings(points, settings, sentence):
    X, _, y, _ = points
    with pytest.raises(InputError, match=sentence):
        KNNProbe(**settings).fit(X, y)
    with pytest.raises(InputError, match="NaN"):
        KNNProbe().fit(np.where(np.arange(64) == 3, np.nan, X), y)
