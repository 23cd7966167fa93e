"""Page of curves: the measures of a training, or those of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from clorg_scale.report.document import fill_document

__all__ = ["Panel", "render_curves"]

SCRIPTS = ("tables.js", "curves.js")


@dataclass(frozen=True)
class Panel:
    """Curves that share an axis; `curves` holds the values of each by name, one for each x."""

    title: str
    curves: dict[str, list[float]]


def render_curves(
    xs: Sequence[float],
    panels: Sequence[Panel],
    *,
    title: str,
    x_title: str,
    kind: str,
    facts: str,
    logarithmic: bool = False,
) -> str:
    """Draw panels of curves over x, or its logarithm, with their numbers as a table.

    Parameters
    ----------
    xs
        The same for all curves, in the order of their values.
    panels
        A card each.
    title, kind, facts
        Headline of the page, the word above it and the line below.
    x_title
        What x is.
    logarithmic
        Space x by its logarithm.

    Returns
    -------
    The text of an HTML file that loads nothing else.
    """
    described = [asdict(panel) | {"xs": list(xs)} for panel in panels]
    return fill_document(
        "curves.html",
        {"panels": described, "x_title": x_title, "logarithmic": logarithmic},
        SCRIPTS,
        xs=xs,
        panels=panels,
        title=title,
        x_title=x_title,
        kind=kind,
        facts=facts,
        points="",
        beside=[],
    )
