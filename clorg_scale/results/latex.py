"""Tables for LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["latex_table"]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def latex_table(rows: Sequence[Mapping[str, str | float | int | None]]) -> str:
    """Return a table with the rules of the package booktabs; its first column is text, the others numbers."""
    names = list(rows[0])
    head = " & ".join(["", *map(_escaped, names[1:])])
    body = "".join(" & ".join(_cell(row[name]) for name in names) + " \\\\\n" for row in rows)
    columns = "l" + "r" * (len(names) - 1)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"


def _cell(value: str | float | int | None) -> str:
    if value is None:
        return "--"
    if isinstance(value, str):
        return _escaped(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
