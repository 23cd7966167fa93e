"""Scorers by name in scikit-learn's tools."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import calinski_harabasz_score
from sklearn.model_selection import GridSearchCV, LeaveOneOut, cross_val_predict, cross_val_score, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

import clorg_scale as cs
from clorg_scale.errors import InputError


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300] + np.random.default_rng(0).normal(scale=0.1, size=(300, 64)), y[:300]


def test_scores_are_the_measures_of_transformed_points(digits):
    X, y = digits
    pca = PCA(8, random_state=0).fit(X)
    Z = pca.transform(X)
    of_points = cs.knn(Z, 15, metric="cosine")
    expected = {
        "rld": cs.rld(Z, y, temperatures=(0.1,)).values[0],
        "rld_T0.5": cs.rld(Z, y, temperatures=(0.5,)).values[0],
        "class_homogeneity": cs.class_homogeneity(of_points, y, ks=[15])[15],
        "class_homogeneity_k3": cs.class_homogeneity(of_points, y, ks=[3])[3],
        "calinski_harabasz": calinski_harabasz_score(Z, y),
        "knn_accuracy_k5": np.mean(cross_val_predict(KNeighborsClassifier(5), Z, y, cv=LeaveOneOut()) == y),
    }
    for name, value in expected.items():
        assert cs.scorers[name](pca, X, y) == pytest.approx(value, rel=1e-5), name
        assert cs.scorers[name](None, Z, y) == pytest.approx(value, rel=1e-5), name


def test_in_scikit_learn_s_tools(digits):
    X, y = digits
    scores = cross_val_score(PCA(8, random_state=0), X, y, scoring=cs.scorers["rld"], cv=2)
    assert ((0.2 < scores) & (scores < 0.9)).all()
    several = {name: cs.scorers[name] for name in ("rld_T1", "knn_accuracy", "calinski_harabasz")}
    found = cross_validate(make_pipeline(PCA(8), KNeighborsClassifier()), X, y, scoring=several, cv=2)
    assert set(found) >= {f"test_{name}" for name in several}
    assert (found["test_knn_accuracy"] > 0.7).all()
    search = GridSearchCV(PCA(random_state=0), {"n_components": [1, 10]}, scoring=cs.scorers["knn_accuracy_k1"], cv=2)
    assert search.fit(X, y).best_params_ == {"n_components": 10}


def test_names(digits):
    X, y = digits
    assert set(cs.scorers) >= {"rld", "class_homogeneity", "calinski_harabasz", "knn_accuracy"}
    assert "rld_T0.05" in repr(cs.scorers)
    for name, scorer in cs.scorers.items():
        assert pickle.loads(pickle.dumps(scorer)) == scorer, name
    assert cs.scorers["rld_T0.25"].temperature == 0.25
    assert cs.scorers["knn_accuracy_k7"].k == 7
    for unknown in ("accuracy", "rld_T-1", "rld_Tnan", "rld_5", "knn_accuracy_k0", "class_homogeneity_kten", ""):
        with pytest.raises(KeyError, match="is not a scorer; there are rld"):
            cs.scorers[unknown]
    hidden = np.where(np.arange(300) < 100, -1, y)
    some = cs.scorers["knn_accuracy_k5"](None, X, hidden)
    assert some == pytest.approx(cs.scorers["knn_accuracy_k5"](None, X[100:], y[100:]))
    with pytest.raises(InputError, match="does not transform points"):
        cs.scorers["rld"](KNeighborsClassifier().fit(X, y), X, y)
    with pytest.raises(InputError, match="needs the classes"):
        cs.scorers["rld"](None, X, None)
