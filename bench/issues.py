"""Planted wrong labels: `find_issues` beside cleanlab, by AUROC, precision at the number planted, flags and time.

python -m bench issues                                 # shipped embeddings and 3,000 images, 2 % and 10 % wrong
python -m bench run issues --out records.jsonl         # the cases of README, as records
python -m bench issues --data pixels --points 10000    # more images, where Fashion-MNIST is installed

cleanlab (`pip install cleanlab`) gets out-of-sample probabilities of scikit-learn: logistic regression on standardized
features, five folds, at each C of a grid, and a vote of 15 neighbors. Both of its scores are shown, and the best of all
rows ("best"): a choice that nobody can make who does not know which labels are wrong. Labels are wrong uniformly, or
swapped to one of the two classes whose means are nearest. Flags of cleanlab are those of `find_label_issues`.

"ECE" is the expected calibration error of the most probable class against the labels as they are written, in 15 bins.
"planted" by bins of our label score shows what it is not: a probability that a label is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale import find_issues

from .harness.peers import import_peer
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session
from .memory import machine
from .planted_labels import (
    DATA,
    KINDS,
    Floats,
    Planted,
    calibration_error,
    found_wrong,
    load,
    models,
    out_of_sample,
    plant,
)

__all__ = ["BENCHMARK"]

SCORE_BINS = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)
"""Edges of the label scores whose share of planted labels is printed."""

SIZES = {"pixels": 3000, "contrastive": 5000, "supervised": 5000}
"""Points of the cases of `bench run issues`."""

SHARES = (0.02, 0.1)

METHODS = ("self_confidence", "normalized_margin")
"""cleanlab's scores."""


def main(argv: list[str]) -> int:
    """Run all cases and print one line per method; `--json FILE` writes them too."""
    arguments = _parser().parse_args(argv)
    try:
        from cleanlab import rank  # noqa: F401
    except ImportError:
        print("cleanlab is not installed (pip install cleanlab); only our figures follow.", file=sys.stderr)
        arguments.ours_only = True
    rows: list[dict[str, Any]] = []
    for data in arguments.data:
        points, labels = load(data, arguments.points)
        find_issues(points[:500], labels[:500])  # compiles
        for share in arguments.share:
            for kind in arguments.kind:
                for seed in range(arguments.seeds):
                    case = {"data": data, "points": len(points), "wrong": share, "kind": kind, "seed": seed}
                    print(f"\n{data}, {len(points):,} points, {share:.0%} wrong, {kind}, seed {seed}", flush=True)
                    rows += [case | row for row in _case(plant(points, labels, share, kind, seed), arguments)]
    _summarize(rows)
    if arguments.json:
        packages = ["numpy", "scikit-learn", "numba", *([] if arguments.ours_only else ["cleanlab"])]
        arguments.json.write_text(json.dumps({"machine": machine(*packages), "rows": rows}, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench issues", description=__doc__, formatter_class=formatter)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--points", type=int, default=10_000, help="at most; 3,000 images come with the tests")
    parser.add_argument("--share", nargs="+", type=float, default=list(SHARES), help="of the labels that are wrong")
    parser.add_argument("--kind", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", type=int, default=1, help="sets of wrong labels")
    parser.add_argument("--ours-only", action="store_true", help="without cleanlab")
    parser.add_argument("--json", type=Path)
    return parser


def _case(planted: Planted, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of all methods."""
    found, seconds = _timed(lambda: find_issues(planted.points, planted.given))
    certain = found.suggested_score.astype(np.float64)
    row = _row("ours", found_wrong(found.label_score, found.is_label_issue, planted.wrong), seconds)
    row["ece"] = round(calibration_error(certain, found.suggested == planted.given), 4)
    row["planted_by_score"] = _by_score(found.label_score, planted.wrong)
    yield _shown(row)
    print("    planted by label score: " + ", ".join(row["planted_by_score"]))
    if arguments.ours_only:
        return
    for name, model in models().items():
        yield from map(_shown, _cleanlab(name, model, planted))


def _cleanlab(name: str, model: Any, planted: Planted) -> Iterator[dict[str, Any]]:
    """Rows of both of cleanlab's scores on the out-of-sample probabilities of a model."""
    p, seconds = _timed(lambda: out_of_sample(model, planted))
    for method, quality in _qualities(p, planted).items():
        row = _row(f"cleanlab {name} {method}", quality, seconds)
        row["ece"] = round(calibration_error(p.max(axis=1), p.argmax(axis=1) == planted.given), 4)
        yield row


def _qualities(p: Floats, planted: Planted) -> dict[str, dict[str, float]]:
    """What each of cleanlab's scores finds, made of these probabilities."""
    quality_scores = import_peer("cleanlab.rank").get_label_quality_scores
    flags = import_peer("cleanlab.filter").find_label_issues(planted.given, p, n_jobs=1)
    return {
        method: found_wrong(quality_scores(planted.given, p, method=method), flags, planted.wrong) for method in METHODS
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """Result, wall-clock and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def _row(method: str, quality: dict[str, float], seconds: tuple[float, float]) -> dict[str, Any]:
    return {"method": method} | quality | {"seconds": round(seconds[0], 2), "cpu_seconds": round(seconds[1], 2)}


def _by_score(score: npt.NDArray[np.float32], wrong: npt.NDArray[np.bool_]) -> list[str]:
    """Points and share of planted labels in bins of the label score."""
    rows = []
    for low, high in pairwise(SCORE_BINS):
        inside = (score >= low) & (score < high if high < 1 else score <= 1)
        share = f"{wrong[inside].mean():.2f}" if inside.any() else "-"
        rows.append(f"{low:g}-{high:g}: {share} of {int(inside.sum()):,}")
    return rows


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    print(
        f"  {row['method']:<44} AUROC {row['auroc']:.4f}  P@planted {row['precision_at_planted']:.3f}"
        f"  flags {row['flagged']:>5} P {row['flag_precision']:.2f} R {row['flag_recall']:.2f}  ECE {row['ece']:.3f}"
        f"  {row['seconds']:6.1f} s ({row['cpu_seconds']:.1f} CPU)",
        flush=True,
    )
    return row


def _summarize(rows: list[dict[str, Any]]) -> None:
    """Print ours beside cleanlab at its best, and beside cleanlab as most use it, in each case."""
    cases: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        cases.setdefault(tuple(row[key] for key in ("data", "points", "wrong", "kind", "seed")), []).append(row)
    print(f"\n{'':<40}{'AUROC: ours':>12}{'best':>8}{'C = 1':>8}{'P: ours':>10}{'best':>8}{'C = 1':>8}")
    for case, found in cases.items():
        ours, peers = found[0], found[1:]
        usual = [row for row in peers if row["method"] == "cleanlab logistic C=1 self_confidence"]
        cells = ""
        for key in ("auroc", "precision_at_planted"):
            cells += f"{ours[key]:>12.4f}" if key == "auroc" else f"{ours[key]:>10.3f}"
            for values in ([row[key] for row in peers], [row[key] for row in usual]):
                cells += f"{max(values):>8.4f}" if values else f"{'-':>8}"
        print(f"{case[0] + f' {case[1]:,}, {case[2]:.0%} {case[3]}, seed {case[4]}':<40}{cells}")


def _run(session: Session) -> None:
    """`bench run issues`: the cases of README."""
    asked = session.settings
    cases = [("contrastive", 0.1, "uniform")]
    if not asked.quick:
        cases = [(data, share, kind) for data in SIZES for share in SHARES for kind in KINDS]
    for data, share, kind in cases:
        points, labels = load(data, session.size(SIZES[data], 400, asked.points))
        n, d = points.shape
        planted = plant(points, labels, share, kind, asked.seed)
        case = Case(f"{data}, {n:,} x {d}, {share:.0%} wrong, {kind}", {"n": n, "d": d})
        contenders = [_ours(planted), *(_theirs(name, model, planted) for name, model in models().items())]
        session.compare(case, contenders, repeats=1)


def _ours(planted: Planted) -> Contender:
    def quality(found: Any) -> dict[str, float]:
        certain = found.suggested_score.astype(np.float64)
        ece = calibration_error(certain, found.suggested == planted.given)
        return found_wrong(found.label_score, found.is_label_issue, planted.wrong) | {"ece": ece}

    return Contender(
        "ours",
        lambda: find_issues(planted.points, planted.given),
        quality,
        role="ours",
        warm_up=lambda: find_issues(planted.points[:300], planted.given[:300]),
    )


def _theirs(name: str, model: Any, planted: Planted) -> Contender:
    """Give cleanlab the probabilities of a model; the quality of both of its scores."""

    def quality(p: Floats) -> dict[str, float]:
        confidence, margin = _qualities(p, planted).values()
        ece = calibration_error(p.max(axis=1), p.argmax(axis=1) == planted.given)
        by_margin = {f"{key}, by margin": margin[key] for key in ("auroc", "precision_at_planted")}
        return confidence | by_margin | {"ece": ece}

    return Contender(
        f"cleanlab, {name}",
        lambda: out_of_sample(model, planted),
        quality,
        warm_up=lambda: import_peer("cleanlab.rank"),
    )


BENCHMARK = Benchmark(
    "issues",
    "wrong labels found by find_issues and by cleanlab: AUROC, precision at the number planted, flags, calibration",
    "3,000 x 784 pixels, 5,000 x 128 embeddings of two networks; 2 % and 10 % wrong, of two kinds",
    15,
    _run,
    frozenset({"points"}),
    peers=("cleanlab",),
)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
