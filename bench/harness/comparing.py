"""Two files of records side by side: ratios with bounds from the spread of the repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clorg_scale.errors import InputError

from .records import HIGHER_IS_BETTER, Record

__all__ = ["Comparison", "Row", "compare_records"]


@dataclass(frozen=True)
class Row:
    """One contender of one case in both files.

    Attributes
    ----------
    benchmark, case, contender
        What was measured.
    before, after
        Median seconds.
    ratio, low, high
        `after` relative to `before`, and its bounds: the fastest repeat of one against the slowest of the other.
    slower, worse
        Whether the time is beyond the tolerance and the noise, and which qualities are worse beyond the tolerance.
    """

    benchmark: str
    case: str
    contender: str
    before: float | None
    after: float | None
    ratio: float | None
    low: float | None
    high: float | None
    slower: bool
    worse: list[str]


@dataclass(frozen=True)
class Comparison:
    """All rows, and what stands in one file only."""

    rows: list[Row]
    only_before: list[str]
    only_after: list[str]
    notes: list[str]

    @property
    def failed(self) -> bool:
        """Whether anything became slower or worse."""
        return any(row.slower or row.worse for row in self.rows)

    def text(self) -> str:
        """A table."""
        lines = [*self.notes, f"{'':<60}{'A':>10}{'B':>10}{'B / A':>8}  bounds"]
        for row in self.rows:
            name = f"{row.benchmark}: {row.case}, {row.contender}"
            numbers = ""
            if row.ratio is not None:
                times = f"{_seconds(row.before)}{_seconds(row.after)}"
                numbers = f"{times}{row.ratio:>8.2f}  {row.low:.2f} - {row.high:.2f}"
            marks = (["SLOWER"] if row.slower else []) + [f"WORSE: {text}" for text in row.worse]
            lines.append(f"{name:<60}{numbers}{'  ' if marks else ''}{', '.join(marks)}")
        lines += [f"only in A: {name}" for name in self.only_before] + [
            f"only in B: {name}" for name in self.only_after
        ]
        return "\n".join(lines)


def compare_records(before: Sequence[Record], after: Sequence[Record], tolerance: float) -> Comparison:
    """Compare the records that both files have.

    Raises
    ------
    InputError
        If they have none in common.
    """
    a, b = ({record.key: record for record in records if record.role != "missing"} for records in (before, after))
    common = [key for key in a if key in b]
    if not common:
        raise InputError(
            "The files have no measurement in common; run the same benchmarks, with the same sizes, for both."
        )
    rows = [_row(a[key], b[key], tolerance) for key in common]
    notes = []
    for what, value in (("processor", "processor"), ("GPU", "gpu"), ("cores", "cores")):
        pairs = {(a[key].machine.get(value), b[key].machine.get(value)) for key in common}
        notes += [f"{what}: A {old}, B {new}" for old, new in sorted(pairs, key=str) if old != new]
    if any(a[key].quick or b[key].quick for key in common):
        notes.append("Measured with --quick: small sizes, no figures to cite.")
    if any(len(a[key].times) == 1 or len(b[key].times) == 1 for key in common):
        notes.append("Records of a single repeat have no spread: their bounds are the ratio itself.")
    return Comparison(rows, [_name(key) for key in a if key not in b], [_name(key) for key in b if key not in a], notes)


def _row(a: Record, b: Record, tolerance: float) -> Row:
    ratio = low = high = None
    if a.times and b.times and a.seconds and b.seconds:
        ratio = b.seconds / a.seconds
        low, high = min(b.times) / max(a.times), max(b.times) / min(a.times)
    slower = ratio is not None and low is not None and ratio > 1 + tolerance and low > 1
    worse = [
        f"{name} {a.quality[name]:.4g} -> {b.quality[name]:.4g}"
        for name, up in HIGHER_IS_BETTER.items()
        if name in a.quality and name in b.quality and _is_worse(a.quality[name], b.quality[name], tolerance, up=up)
    ]
    return Row(*a.key, a.seconds, b.seconds, ratio, low, high, slower, worse)


def _is_worse(before: float, after: float, tolerance: float, *, up: bool) -> bool:
    """Whether a quality fell, or an error grew, by more than the tolerance relative to before."""
    loss = before - after if up else after - before
    return loss > tolerance * abs(before) + 1e-12


def _seconds(value: float | None) -> str:
    return f"{'' if value is None else f'{value:.4g} s':>10}"


def _name(key: tuple[str, str, str]) -> str:
    return f"{key[0]}: {key[1]}, {key[2]}"
