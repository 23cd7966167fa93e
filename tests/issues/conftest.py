"""Digits with planted wrong labels, and their issues."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import clorg_scale as cs


@dataclass
class Planted:
    X: Any
    right: Any
    given: Any
    wrong: Any
    issues: Any


@pytest.fixture(scope="session")
def planted():
    """900 digits: 60 with a wrong label, 30 without one, two copied, one inverted; classes have names."""
    digits = load_digits()
    X, right = digits.data[:900].astype(np.float32), digits.target[:900].copy()
    X[700] = X[3]
    right[700] = right[3]
    X[701], right[701] = X[3] + 1e-3, right[3]
    X[850] = 16 - X[850]
    rng = np.random.default_rng(1)
    order = rng.permutation(np.setdiff1d(np.arange(900), [3, 700, 701, 850]))
    wrong, unknown = np.sort(order[:60]), np.sort(order[60:90])
    given = right.copy()
    given[wrong] = (given[wrong] + rng.integers(1, 10, 60)) % 10
    given[unknown] = -1
    names = [f"digit {label}" for label in range(10)]
    return Planted(X, right, given, wrong, cs.find_issues(X, given, class_names=names, k=10, seed=2))
