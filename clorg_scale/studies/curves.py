"""The page of a study that compares RLD over temperatures."""

from __future__ import annotations

from collections.abc import Sequence

from clorg_scale.report.curves import Panel, render_curves

__all__ = ["rld_page"]


def rld_page(temperatures: Sequence[float], curves: dict[str, list[float]], *, title: str) -> str:
    """HTML page with the RLD of each set at each temperature."""
    return render_curves(
        temperatures,
        [Panel("RLD by temperature", curves)],
        title=title,
        x_title="temperature T",
        kind="study",
        facts="Relative Local Density: small T sees near neighbors only, T = 1 the whole set.",
        logarithmic=True,
    )
