"""Inputs of the figures: one result, an analysis, or the analyses of a comparison, all as models by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clorg_scale.analysis.comparison import Comparison
from clorg_scale.analysis.record import AnalysisRecord
from clorg_scale.errors import InputError

__all__ = ["analyses_of", "one_analysis", "parts_of"]


def analyses_of(result: Any, what: str) -> dict[str, AnalysisRecord]:
    """Analyses by name, of an analysis or a comparison.

    Raises
    ------
    InputError
        If it is neither.
    """
    if isinstance(result, Comparison):
        return dict(result.analyses)
    if isinstance(result, AnalysisRecord):
        return {result.name: result}
    raise InputError(f"{what} is drawn from an Analysis or a Comparison, not from {type(result).__name__}.")


def parts_of(result: Any, kind: type, part: Callable[[AnalysisRecord], Any], what: str) -> dict[str, Any]:
    """Parts to draw, by the name of the model: of analyses, or the result itself where it is of that kind.

    Raises
    ------
    InputError
        If it is none of these, or no analysis has the part.
    """
    if isinstance(result, kind):
        return {"": result}
    if not isinstance(result, (Comparison, AnalysisRecord)):
        raise InputError(
            f"{what} is drawn from {kind.__name__}, Analysis or Comparison, not from {type(result).__name__}."
        )
    found = {name: part(analysis) for name, analysis in analyses_of(result, what).items()}
    found = {name: value for name, value in found.items() if value}
    if not found:
        raise InputError(f"There is nothing to draw: the analysis has no {what.lower()}.")
    return found


def one_analysis(result: Any, what: str) -> AnalysisRecord:
    """Analysis that is drawn alone.

    Raises
    ------
    InputError
        If it is something else; of a comparison, says how to draw each of its models.
    """
    if isinstance(result, AnalysisRecord):
        return result
    hint = "; draw each of comparison.analyses.values()" if isinstance(result, Comparison) else ""
    raise InputError(f"{what} is drawn from one Analysis, not from {type(result).__name__}{hint}.")
