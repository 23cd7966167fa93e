"""Documents: template, style, scripts and data as the text of one HTML file that loads nothing else."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clorg_scale.report.findings import probe_title

__all__ = ["fill_document"]

HERE = Path(__file__).parent

SCRIPTS = ("observable-plot/plot.min.js", "elements.js", "palette.js", "drawing.js", "downloads.js")
"""Scripts of every page, before its own, in the order in which they run."""

MOST_PLAIN = 500_000
"""Characters of data above which the page holds them compressed, in base64."""


def fill_document(template: str, data: Any, scripts: Sequence[str], **values: Any) -> str:
    """Fill a template; everything of the user's is escaped, in the markup and in the data.

    Parameters
    ----------
    template
        File beside this one that extends ``base.html``.
    data
        Plain data for the scripts.
    scripts
        Files beside this one, in the order in which they run; all share one function scope.
    values
        What the template names; text is escaped unless it is `markupsafe.Markup`.
    """
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "seconds": _seconds, "probe_title": probe_title}
    document, script = _script_json(data), _function_scope((*SCRIPTS, *scripts))
    packed = len(document) > MOST_PLAIN
    if packed:
        document = base64.b64encode(gzip.compress(document.encode("ascii"), mtime=0)).decode("ascii")
    return environment.get_template(template).render(
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=_digest(script),
        data=Markup(document),
        data_type="application/gzip" if packed else "application/json",
        # Files beside the page are the only other ones that may run; no text of the user's can know this word.
        nonce=_digest(document),
        **values,
    )


def _digest(text: str) -> str:
    """SHA-256 in base64, as in a content security policy."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _function_scope(names: Sequence[str]) -> str:
    """Scripts in one function scope, where they may wait."""
    scripts = "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)
    return f'"use strict";\n(async () => {{\n{scripts}}})();\n'


def _script_json(data: Any) -> str:
    """JSON that cannot end the script element around it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _number(value: float | None) -> str:
    """Four digits, or thousands separated."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


def _seconds(value: float) -> str:
    """Time in the unit a person would use."""
    if value < 60:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 3600 else f"{value / 3600:.1f} h"
