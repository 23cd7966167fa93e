"""Curves: RLD, class homogeneity, the spectrum, and measures along a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from clorg_scale.analysis.order import steps_of
from clorg_scale.analysis.record import AnalysisRecord
from clorg_scale.analysis.summaries import SpectrumSummary
from clorg_scale.errors import InputError
from clorg_scale.plot.models import analyses_of, parts_of
from clorg_scale.plot.style import GRAY, clipped, drawing, legend_above, model_colors
from clorg_scale.report.findings import probe_title, unit_of
from clorg_scale.rld import RLDResult
from clorg_scale.spectrum import Spectrum

__all__ = ["class_homogeneity", "rld", "spectrum", "trajectory"]

NORMAL_95 = 1.96
"""Half the width of a 95 % interval, in standard errors."""

MOST_CURVES = 5
"""Curves of a trajectory: of more temperatures or k, these are drawn at even steps, the first and last among them."""

MOST_AMONG_CURVES = 4
"""Entries of a legend that has room among the curves."""

Measure = Literal["rld", "chi", "probes"]


def rld(result: Any, ax: Any = None) -> Any:
    """Draw RLD against the temperature, with 95 % intervals where it is an estimate.

    Parameters
    ----------
    result
        `RLDResult`, `Analysis` or `Comparison`.
    ax
        Axes of matplotlib to draw on; default: those of a new figure.

    Returns
    -------
    The axes.

    Raises
    ------
    InputError
        If the result is of another kind.
    MissingDependencyError
        If matplotlib is not installed.
    """
    found = parts_of(result, RLDResult, lambda analysis: analysis.rld, "RLD")
    with drawing(ax) as axes:
        for (name, model), color in zip(found.items(), model_colors(len(found)), strict=True):
            width = float(model.details.get("interval", NORMAL_95))
            rows = sorted(zip(model.temperatures, model.values, model.stderr, strict=True))
            errors = [width * error for _, _, error in rows]
            _curve(axes, [row[0] for row in rows], [row[1] for row in rows], errors, color=color, name=name)
        first = next(iter(found.values()))
        shuffled = sorted(zip(first.temperatures, first.null_mean, strict=True))
        axes.plot(*zip(*shuffled, strict=True), ":", color=GRAY, linewidth=0.8, label="shuffled labels")
        _log_axis(axes, sorted({float(t) for model in found.values() for t in model.temperatures}))
        axes.set(xlabel="Temperature $T$", ylabel="RLD")
        _legend(axes, len(found) + 1)
    return axes


def class_homogeneity(result: Any, ax: Any = None) -> Any:
    """Draw class homogeneity (CHI) against the number of neighbors, with 95 % intervals where it is of a sample.

    Parameters
    ----------
    result
        `Analysis`, `Comparison`, or what `clorg_scale.class_homogeneity` returns.
    ax
        Axes of matplotlib to draw on; default: those of a new figure.

    Returns
    -------
    The axes.

    Raises
    ------
    InputError
        If the result is of another kind.
    MissingDependencyError
        If matplotlib is not installed.
    """
    if isinstance(result, Mapping):
        found: dict[str, tuple[Mapping[int, float], Mapping[int, float]]] = {"": (result, {})}
    else:
        analyses = analyses_of(result, "Class homogeneity")
        found = {name: (a.class_homogeneity, a.class_homogeneity_stderr) for name, a in analyses.items()}
    with drawing(ax) as axes:
        for (name, (values, stderr)), color in zip(found.items(), model_colors(len(found)), strict=True):
            ks = sorted(values)
            errors = [NORMAL_95 * stderr.get(k, 0.0) for k in ks]
            _curve(axes, ks, [values[k] for k in ks], errors, color=color, name=name)
        _log_axis(axes, sorted({k for values, _ in found.values() for k in values}))
        axes.set(xlabel="Neighbors $k$", ylabel="Class homogeneity (CHI)")
        _legend(axes, len(found))
    return axes


def spectrum(result: Any, ax: Any = None) -> Any:
    """Draw the leading eigenvalues of the affinity graph; a vertical line marks the largest gap.

    Parameters
    ----------
    result
        `Spectrum`, `Analysis` or `Comparison`.
    ax
        Axes of matplotlib to draw on; default: those of a new figure.

    Returns
    -------
    The axes.

    Raises
    ------
    InputError
        If the result is of another kind, or no analysis has a spectrum.
    MissingDependencyError
        If matplotlib is not installed.
    """
    found, gap = parts_of(result, Spectrum, _converged, "Spectrum"), False
    with drawing(ax) as axes:
        for (name, model), color in zip(found.items(), model_colors(len(found)), strict=True):
            m = len(model.eigenvalues)
            _curve(axes, range(1, m + 1), model.eigenvalues, [0.0] * m, color=color, name=name)
            if model.n_clusters is not None and model.n_clusters < m:
                axes.axvline(model.n_clusters + 0.5, color=color, linewidth=0.8, linestyle="--")
                gap = True
        if gap:
            axes.plot([], [], "--", color=GRAY, linewidth=0.8, label="largest gap")
        axes.set(xlabel="Number of the eigenvalue", ylabel="Eigenvalue")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(axes, len(found) + int(gap))
    return axes


def trajectory(result: Any, ax: Any = None, *, measure: Measure = "rld") -> Any:
    """Draw how a measure grows along a training.

    Parameters
    ----------
    result
        `Comparison` of checkpoints whose names end in the step, such as "epoch 10"; other models are drawn in their
        order.
    ax
        Axes of matplotlib to draw on; default: those of a new figure.
    measure
        "rld": a curve for each temperature; "chi": one for each k; "probes": the accuracy of each probe. Of more than
        five, five are drawn.

    Returns
    -------
    The axes.

    Raises
    ------
    InputError
        If the result is of another kind, the measure unknown, or no analysis has it.
    MissingDependencyError
        If matplotlib is not installed.
    """
    analyses = analyses_of(result, "A trajectory")
    steps = steps_of(list(analyses))
    xs = [float(step) for step in steps] if steps is not None else [float(i + 1) for i in range(len(analyses))]
    named = {name: a.quantities() for name, a in analyses.items()}
    starts = {"rld": "RLD, ", "chi": "CHI, ", "probes": "accuracy, "}
    if measure not in starts:
        raise InputError(f"measure must be 'rld', 'chi' or 'probes', not {measure!r}.")
    start = starts[measure]
    quantities = _spread(list(dict.fromkeys(q for values in named.values() for q in values if q.startswith(start))))
    if not quantities:
        raise InputError(f"There is nothing to draw: no analysis has {measure}.")
    labels = {"rld": "RLD", "chi": "Class homogeneity (CHI)", "probes": "Accuracy"}
    with drawing(ax) as axes:
        for quantity, color in zip(quantities, model_colors(len(quantities)), strict=True):
            pairs = [(x, values.get(quantity)) for x, values in zip(xs, named.values(), strict=True)]
            known = [(x, value) for x, value in pairs if value is not None]
            name = quantity.removeprefix(start)
            label = probe_title(name) if measure == "probes" else f"${name[0]}${name[1:]}"
            axes.plot(*zip(*known, strict=True), "o-", color=color, label=label)
        unit = unit_of(analyses).capitalize() if steps is not None else "Model"
        axes.set(xlabel=unit, ylabel=labels[measure])
        if all(x.is_integer() for x in xs):
            axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(axes, max(2, len(quantities)))
    return axes


def _spread(items: list[str]) -> list[str]:
    """A few of many items at even steps, the first and the last among them."""
    n = len(items)
    return items if n <= MOST_CURVES else [items[round(i * (n - 1) / (MOST_CURVES - 1))] for i in range(MOST_CURVES)]


def _curve(axes: Any, xs: Any, ys: Any, errors: Sequence[float], *, color: str, name: str) -> None:
    """Points joined by lines, with bars where there is an error."""
    bars = errors if any(errors) else None
    axes.errorbar(list(xs), list(ys), yerr=bars, fmt="o-", color=color, elinewidth=0.8, label=clipped(name) or None)


def _converged(analysis: AnalysisRecord) -> SpectrumSummary | None:
    """Spectrum of an analysis; None where there is none, or no solver converged."""
    found = analysis.spectrum
    return found if found is not None and found.eigenvalues else None


def _log_axis(axes: Any, ticks: Sequence[float]) -> None:
    """Logarithmic axis with the values themselves as ticks, as many as have room."""
    axes.set_xscale("log")
    kept: list[float] = []
    for tick in ticks:
        if not kept or tick >= 1.55 * kept[-1]:
            kept.append(tick)
    axes.set_xticks(kept, [f"{tick:g}" if tick < 1000 else f"{tick:,.0f}" for tick in kept])
    axes.minorticks_off()


def _legend(axes: Any, n_entries: int) -> None:
    """Legend of two entries or more: among the curves while there is room for it, else above them."""
    if n_entries > MOST_AMONG_CURVES:
        legend_above(axes, 4 if n_entries > 6 else 3)
    elif n_entries > 1:
        axes.legend()
