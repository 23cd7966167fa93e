"""One self-contained page of records: tables, time against quality, growth with n, machines side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from clorg_scale.store.atomic import write_whole

from .plots import Series, plot
from .records import Record

__all__ = ["fitted_exponent", "reaches", "write_report"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c1c1a }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e4e4e0; text-align: right }
th:first-child, td:first-child { text-align: left } .ours { font-weight: 600 } .missing { color: #77756f }
.quick { background: #fef3c7; padding: .5rem .8rem } svg { max-width: 100%; height: auto; margin: .5rem 0 }
h2 { margin-top: 2.5rem } .conditions { color: #55534e; font-size: 13px }
"""

QUALITIES = ("recall", "accuracy", "modularity", "neighbors_kept")
"""Qualities that time is drawn against."""


def write_report(records: Sequence[Record], path: Path) -> None:
    """Write the page, whole or not at all."""
    body = ["<h1>Benchmarks of clorg-scale</h1>", *_conditions(records)]
    if any(record.quick for record in records):
        body.append('<p class="quick">Some of these were measured with --quick: small sizes, no figures to cite.</p>')
    ordered = sorted(records, key=lambda record: record.benchmark)
    for benchmark, group in groupby(ordered, key=lambda record: record.benchmark):
        body += [f"<h2>{escape(benchmark)}</h2>", *_benchmark(list(group))]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Benchmarks of clorg-scale</title><style>{STYLE}</style><body>{''.join(body)}</body></html>\n"
    )
    with write_whole(path, "w") as file:
        file.write(page)


def fitted_exponent(points: Iterable[tuple[float, float]]) -> float | None:
    """Exponent of the power of n that fits (n, seconds) by least squares of logarithms; None for one size."""
    logs = [(math.log(n), math.log(seconds)) for n, seconds in points]
    if len({x for x, _ in logs}) < 2:
        return None
    x_mean, y_mean = (sum(part) / len(logs) for part in zip(*logs, strict=True))
    return sum((x - x_mean) * (y - y_mean) for x, y in logs) / sum((x - x_mean) ** 2 for x, _ in logs)


def reaches(quality: dict[str, float], target: float) -> bool:
    """Whether a recall was reached, within the error of one that is measured on 1,000 queries."""
    return quality.get("recall", 0.0) >= target - 0.15 * (1 - target)


def machine_name(record: Record) -> str:
    """Processor, instruction set, cores and GPU."""
    machine = record.machine
    cores = f"{machine['cores']} cores" if machine.get("cores") else None
    parts = (machine.get("processor"), machine.get("instructions"), cores, machine.get("gpu"))
    return ", ".join(str(part) for part in parts if part) or "unknown machine"


def _conditions(records: Sequence[Record]) -> list[str]:
    """Machines, dates, commits and versions, one line each."""
    lines = {}
    for record in records:
        versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
        blas = f"; {', '.join(record.blas)}" if record.blas else ""
        lines[machine_name(record), record.commit] = (
            f"<li>{escape(machine_name(record))}; {(record.date or 'no date')[:10]}, "
            f"commit {escape(record.commit or 'unknown')}"
            f"<div>{escape(versions + blas)}</div></li>"
        )
    return ['<ul class="conditions">', *lines.values(), "</ul>"]


def _benchmark(records: list[Record]) -> list[str]:
    parts = []
    for case, group in groupby(sorted(records, key=lambda record: record.case), key=lambda record: record.case):
        here = list(group)
        parts += [f"<h3>{escape(case)}</h3>", _table(here), *_against_quality(here)]
    return parts + _growth(records) + _machines(records)


def _table(records: list[Record]) -> str:
    names = list(dict.fromkeys(name for record in records for name in record.quality))
    several = len({machine_name(record) for record in records}) > 1
    heads = ["", "seconds", "spread", *names, "times its floor", "memory"] + (["machine"] if several else [])
    rows = []
    for record in sorted(records, key=lambda record: record.seconds or math.inf):
        cells = [f"<td>{escape(record.contender)}</td>"]
        if record.role == "missing":
            cells.append(f'<td colspan="{len(heads) - 1}" style="text-align: left">{escape(record.note or "")}</td>')
        else:
            values = [
                "" if record.seconds is None else f"{record.seconds:.4g}",
                "" if record.spread is None else f"&#177;{record.spread:.0%}",
                *(f"{record.quality[name]:.5g}" if name in record.quality else "" for name in names),
                f"{record.seconds / record.floor:.3g}" if record.floor and record.seconds else "",
                f"{record.memory / 1e6:,.0f} MB" if (record.memory or 0) >= 1e6 else "",
            ] + ([escape(machine_name(record))] if several else [])
            cells += [f"<td>{value}</td>" for value in values]
        rows.append(f'<tr class="{record.role}">{"".join(cells)}</tr>')
    floors = {record.floor_work for record in records if record.floor_work}
    note = f'<p class="conditions">Floor: {escape("; ".join(sorted(floors)))}.</p>' if floors else ""
    return f"<table><tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>{''.join(rows)}</table>{note}"


def _against_quality(records: list[Record]) -> list[str]:
    """Time against quality, a color for each library and method."""
    for name in QUALITIES:
        families: dict[str, list[tuple[float, float]]] = {}
        for record in records:
            if name in record.quality and record.seconds:
                families.setdefault(_family(record), []).append((record.quality[name], record.seconds))
        if sum(map(len, families.values())) > 2:
            series = [Series(family, points, line=True) for family, points in families.items()]
            return [plot(series, name, "seconds", reverse_share=True)]
    return []


def _family(record: Record) -> str:
    """Library and method without its effort."""
    words = record.contender.split()
    kept = [word for word in words if "=" not in word and word not in ("as", "it", "is", "defaults")]
    return " ".join(kept).partition(" to ")[0].rstrip(",")


def _growth(records: list[Record]) -> list[str]:
    """Seconds against n for contenders measured at several sizes, with the fitted exponent."""
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        if record.seconds and record.size.get("n"):
            name = f"{record.contender.partition(', n =')[0]}, {record.size.get('d', '')} features".replace(
                ",  features", ""
            )
            found.setdefault(name, []).append((record.size["n"], record.seconds))
    series = []
    for name, points in found.items():
        exponent = fitted_exponent(points)
        if exponent is not None and len({n for n, _ in points}) > 1:
            series.append(Series(f"{name}: n^{exponent:.2f}", points, line=True))
    return ["<h3>Growth with the number of points</h3>", plot(series, "points", "seconds")] if series else []


def _machines(records: list[Record]) -> list[str]:
    """The same measurements on several machines, relative to the first."""
    names = list(dict.fromkeys(machine_name(record) for record in records))
    if len(names) < 2:
        return []
    times: dict[tuple[str, str], dict[str, float]] = {}
    for record in records:
        if record.seconds:
            times.setdefault((record.case, record.contender), {})[machine_name(record)] = record.seconds
    shared = {key: by for key, by in times.items() if len(by) > 1}
    if not shared:
        return []
    heads = "".join(f"<th>{escape(name)}</th>" for name in ["", *names])
    rows = "".join(
        f"<tr><td>{escape(', '.join(key))}</td>"
        + "".join(f"<td>{by[name]:.4g} s</td>" if name in by else "<td></td>" for name in names)
        + "</tr>"
        for key, by in shared.items()
    )
    return ["<h3>Machines side by side</h3>", f"<table><tr>{heads}</tr>{rows}</table>"]
