"""Parameters of graph probes, read and set as those of scikit-learn's estimators, without importing scikit-learn."""

from __future__ import annotations

import inspect
from typing import Any, Self

from clorg_scale.errors import InputError

__all__ = ["Parameters", "check_fitted"]


class Parameters:
    """Base class whose parameters are those of `__init__`; `sklearn.base.clone` takes it for an estimator."""

    def get_params(self, *, deep: bool = True) -> dict[str, Any]:
        """Values by name; `deep` has no effect, as no parameter is an estimator."""
        del deep
        return {name: getattr(self, name) for name in _defaults(type(self))}

    def set_params(self, **parameters: Any) -> Self:
        """Set values by name.

        Raises
        ------
        InputError
            If there is no parameter of a name.
        """
        known = _defaults(type(self))
        for name, value in parameters.items():
            if name not in known:
                raise InputError(f"{type(self).__name__} has no parameter {name!r}; choose from {', '.join(known)}.")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """Name the parameters that are not at their defaults."""
        defaults = _defaults(type(self))
        changed = (f"{name}={value!r}" for name, value in self.get_params().items() if value is not defaults[name])
        return f"{type(self).__name__}({', '.join(changed)})"


def _defaults(kind: type) -> dict[str, Any]:
    """Parameters of `__init__` and their defaults, sorted by name."""
    parameters = inspect.signature(kind).parameters
    return {name: parameters[name].default for name in sorted(parameters)}


def check_fitted(probe: Any, attribute: str) -> None:
    """Check that a probe has been fitted.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If it has not.
    """
    if not hasattr(probe, attribute):
        from sklearn.exceptions import NotFittedError

        raise NotFittedError(f"This {type(probe).__name__} is not fitted yet; call fit first.")
