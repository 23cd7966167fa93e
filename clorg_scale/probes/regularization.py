"""Softmax regression along a path of penalties, from strong to weak, chosen by the loss on held-out points.

    F(W) = mean cross-entropy + penalty / 2 |W|^2        (penalty = 1 / (C n) in scikit-learn's terms)

is minimized by L-BFGS in the coordinates U, W = W_0 + R U, with R = V (e h + penalty)^-1/2 for the eigenvectors V and
eigenvalues e of the correlation matrix of the features and h = 1 / n_classes: there the Hessian at equal probabilities
is nearly the identity (Böhning 1992), and the first step from W = 0 is the closed-form ridge solution. Each penalty
starts from the solution of the stronger one, so that the path costs little more than its last member.

Where a pass over all points is expensive, the path is walked on a sample, and its choice goes on to samples four times
as large and to all points (Byrd, Chin, Nocedal, Wu, Sample size selection in optimization methods for machine learning,
2012), stopped early by the held-out loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from clorg_scale.probes.softmax import LabeledBlocks, SoftmaxLoss
from clorg_scale.progress import Advance

__all__ = [
    "CAREFUL",
    "COARSE",
    "CONVERGED",
    "FINAL",
    "QUICK",
    "QUICK_FINAL",
    "Effort",
    "Path",
    "Solver",
    "penalty_path",
]

Floats = npt.NDArray[np.float64]

STEP = 10**-0.5
"""Ratio of a penalty to the stronger one before it."""

WEAKEST = 1e-2
"""Weakest penalty of the sum of losses (1 / C) that a path comes to."""

GAIN = 1e-3
"""Relative decrease of the held-out loss that counts as one."""


class Effort(NamedTuple):
    """Solution of L-BFGS at one penalty."""

    precision: float
    """Relative decrease of the objective in one iteration."""
    iterations: int


CAREFUL, COARSE = Effort(1e-4, 20), Effort(1e-3, 8)
"""On a path over all points, and over a sample."""

QUICK, QUICK_FINAL = Effort(1e-3, 6), Effort(1e-4, 12)
"""On a path over all points and at its end, where a pass takes tenths of a second."""

CONVERGED, FINAL = Effort(1e-9, 300), Effort(3e-5, 25)
"""At the penalty chosen, and there where a pass takes more than a few milliseconds."""


class _Coordinates(NamedTuple):
    """The map W = W_0 + R U, and its transpose for gradients."""

    matrix: Floats
    """(d, d) R of the features, or (d, 1) where only scaled."""
    intercept: float
    """R of the intercept."""

    def forward(self, u: Floats) -> Floats:
        features = self.matrix * u[:-1] if self.matrix.shape[1] == 1 else self.matrix @ u[:-1]
        return np.vstack([features, self.intercept * u[-1:]])

    def transposed(self, gradient: Floats) -> Floats:
        features = self.matrix * gradient[:-1] if self.matrix.shape[1] == 1 else self.matrix.T @ gradient[:-1]
        return np.vstack([features, self.intercept * gradient[-1:]])


@dataclass
class Path:
    """Result of a path.

    Attributes
    ----------
    weights
        (d + 1, C) float64 with the lowest held-out loss, the last row the intercept.
    penalty
        Penalty that they belong to.
    losses
        Held-out loss at each penalty, strongest first.
    """

    weights: Floats
    penalty: float
    losses: list[float] = field(default_factory=list)


class Solver:
    """Minimizes F by L-BFGS.

    Parameters
    ----------
    loss
        Cross-entropy.
    spectrum
        Eigenvalues (d,) and eigenvectors (d, d) of the features' correlation matrix; None leaves the features as they
        are.
    n_classes
        C.
    n_points
        Points of one pass.
    passes
        Passes that may be made.
    advance
        Reports points read.
    """

    def __init__(
        self,
        loss: SoftmaxLoss,
        spectrum: tuple[Floats, Floats] | None,
        *,
        n_classes: int,
        n_points: int,
        passes: float,
        advance: Advance,
    ) -> None:
        self.loss, self.spectrum, self.n_classes, self.n_points = loss, spectrum, n_classes, n_points
        self.passes, self.advance = passes, advance
        self.used = 0.0
        self._known: tuple[LabeledBlocks, Floats, float, Floats] | None = None

    def path(
        self,
        blocks: LabeledBlocks,
        held_out: LabeledBlocks,
        penalties: Sequence[float],
        *,
        effort: Effort,
        patience: int,
    ) -> Path:
        """Solve for one penalty after the other, until the held-out loss has not fallen for `patience` of them."""
        weights = np.zeros((blocks.n_features + 1, self.n_classes))
        best, lowest, since = Path(weights, penalties[0]), np.inf, 0
        losses: list[float] = []
        for penalty in penalties:
            weights = self.solve(blocks, weights, penalty, effort=effort)
            losses.append(self.loss.value(weights, held_out))
            since = 0 if losses[-1] < lowest * (1 - GAIN) else since + 1
            if losses[-1] < lowest:
                lowest, best = losses[-1], Path(weights, penalty)
            if since >= patience or self.used >= self.passes:
                break
        return Path(best.weights, best.penalty, losses)

    def stopped_early(
        self, blocks: LabeledBlocks, held_out: LabeledBlocks, start: Path, *, effort: Effort, patience: int
    ) -> Path:
        """Solve for one penalty until the held-out loss has not fallen for `patience` iterations; keep the best."""
        losses = [self.loss.value(start.weights, held_out)]
        best = start.weights

        def watch(weights: Floats) -> None:
            nonlocal best
            losses.append(self.loss.value(weights, held_out))
            if losses[-1] == min(losses):
                best = weights
            if len(losses) > patience and min(losses[-patience:]) > min(losses[:-patience]) * (1 - GAIN):
                raise StopIteration

        self.solve(blocks, start.weights, start.penalty, effort=effort, watch=watch)
        return Path(best, start.penalty, losses)

    def solve(
        self,
        blocks: LabeledBlocks,
        start: Floats,
        penalty: float,
        *,
        effort: Effort,
        watch: Callable[[Floats], None] | None = None,
    ) -> Floats:
        """Minimize F from the start; `watch(weights)` may end this by StopIteration after any iteration."""
        coordinates = self._coordinates(penalty)
        value, gradient = self._objective(start, blocks, penalty)
        # L-BFGS first tries a step of length 1; in these units that is the length of the gradient, Newton's step
        # where the Hessian is the identity.
        length = float(np.linalg.norm(coordinates.transposed(gradient)))
        if length == 0:
            return start

        def weights_at(flat: Floats) -> Floats:
            return start + coordinates.forward(length * flat.reshape(start.shape))

        def objective(flat: Floats) -> tuple[float, Floats]:
            value, gradient = self._objective(weights_at(flat), blocks, penalty)
            return value, length * coordinates.transposed(gradient).ravel()

        def after_iteration(intermediate_result: Any) -> None:
            if watch is not None:
                watch(weights_at(intermediate_result.x))
            if self.used >= self.passes:
                raise StopIteration

        options = {"maxiter": effort.iterations, "ftol": effort.precision, "gtol": 0.0}
        found = minimize(
            objective, np.zeros(start.size), jac=True, method="L-BFGS-B", callback=after_iteration, options=options
        )
        return weights_at(found.x) if found.fun < value else start

    def _coordinates(self, penalty: float) -> _Coordinates:
        curvature = 1 / self.n_classes
        if self.spectrum is None:
            return _Coordinates(np.full((1, 1), (curvature + penalty) ** -0.5), curvature**-0.5)
        values, vectors = self.spectrum
        return _Coordinates(vectors * (np.maximum(values, 0) * curvature + penalty) ** -0.5, curvature**-0.5)

    def _objective(self, weights: Floats, blocks: LabeledBlocks, penalty: float) -> tuple[float, Floats]:
        if self._known is None or self._known[0] is not blocks or not np.array_equal(self._known[1], weights):
            value, gradient = self.loss.gradient(weights, blocks)
            self._known = blocks, weights, value, gradient
            self.used += len(blocks) / self.n_points
            self.advance(len(blocks))
        _, _, value, gradient = self._known
        gradient = gradient.copy()
        gradient[:-1] += penalty * weights[:-1]
        return value + 0.5 * penalty * float(np.vdot(weights[:-1], weights[:-1])), gradient


def penalty_path(n_points: int, n_classes: int) -> list[float]:
    """Penalties of a path over so many points, strongest first."""
    strongest = 10 / n_classes
    steps = int(np.ceil(np.log(strongest * n_points / WEAKEST) / -np.log(STEP)))
    return [strongest * STEP**step for step in range(max(steps, 1))]
