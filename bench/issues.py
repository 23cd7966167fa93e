"""Planted wrong labels: `find_issues` beside cleanlab, by AUROC, precision at the number planted, flags and time.

python -m bench issues                                 # shipped embeddings and 3,000 images, 2 % and 10 % wrong
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
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.memory import machine
from clorg_scale import find_issues
from clorg_scale.datasets import load_fashion_mnist, load_fashion_mnist_embeddings
from clorg_scale.datasets.idx import read_idx

CS = (0.01, 0.1, 1.0)
"""Inverse penalties of cleanlab's logistic regression."""

FOLDS, NEIGHBORS = 5, 15

BINS = 15

SCORE_BINS = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)
"""Edges of the label scores whose share of planted labels is printed."""

SHIPPED_IMAGES = Path(__file__).parent.parent / "tests" / "data" / "fashion-mnist-3000"

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Planted(NamedTuple):
    """Points with labels, some of which are wrong."""

    points: npt.NDArray[np.float32]
    given: Codes
    wrong: npt.NDArray[np.bool_]


def main(argv: list[str]) -> int:
    """Run all cases and print one line per method; `--json FILE` writes them too."""
    arguments = _parser().parse_args(argv)
    warnings.simplefilter("ignore", ConvergenceWarning)
    try:
        from cleanlab import rank  # noqa: F401
    except ImportError:
        print("cleanlab is not installed (pip install cleanlab); only our figures follow.", file=sys.stderr)
        arguments.ours_only = True
    rows: list[dict[str, Any]] = []
    for data in arguments.data:
        points, labels = _data(data, arguments.points)
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
    names = ["contrastive", "supervised", "pixels"]
    parser.add_argument("--data", nargs="+", default=names, choices=names)
    parser.add_argument("--points", type=int, default=10_000, help="at most; 3,000 images come with the tests")
    parser.add_argument("--share", nargs="+", type=float, default=[0.02, 0.1], help="of the labels that are wrong")
    parser.add_argument("--kind", nargs="+", default=["uniform", "similar"], choices=["uniform", "similar"])
    parser.add_argument("--seeds", type=int, default=1, help="sets of wrong labels")
    parser.add_argument("--ours-only", action="store_true", help="without cleanlab")
    parser.add_argument("--json", type=Path)
    return parser


def _data(name: str, n: int) -> tuple[npt.NDArray[np.float32], Codes]:
    """Training embeddings of a shipped network, or pixels: the images of the tests, or as many as are installed."""
    if name != "pixels":
        stored = load_fashion_mnist_embeddings(name, "train")
        return np.asarray(stored.embeddings[:n], dtype=np.float32), np.asarray(stored.labels[:n], dtype=np.int64)
    if n <= 3000:
        images = read_idx(SHIPPED_IMAGES / "train-images-idx3-ubyte.gz")
        labels = read_idx(SHIPPED_IMAGES / "train-labels-idx1-ubyte.gz")
    else:
        images, labels = load_fashion_mnist("train")
    images, labels = np.asarray(images[:n]), np.asarray(labels[:n])
    return images.reshape(len(images), -1).astype(np.float32) / 255, labels.astype(np.int64)


def plant(points: npt.NDArray[np.float32], labels: Codes, share: float, kind: str, seed: int) -> Planted:
    """Make a share of the labels wrong: any other class, or one of the two with the nearest means."""
    rng = np.random.default_rng(seed)
    n_classes = int(labels.max()) + 1
    chosen = rng.choice(len(labels), int(share * len(labels)), replace=False)
    given, wrong = labels.copy(), np.zeros(len(labels), dtype=bool)
    wrong[chosen] = True
    if kind == "uniform":
        given[chosen] = (labels[chosen] + rng.integers(1, n_classes, len(chosen))) % n_classes
    else:
        means = np.stack([points[labels == label].mean(axis=0) for label in range(n_classes)])
        apart = ((means[:, None] - means) ** 2).sum(axis=2)
        np.fill_diagonal(apart, np.inf)
        given[chosen] = apart.argsort(axis=1)[labels[chosen], rng.integers(0, 2, len(chosen))]
    return Planted(points, given, wrong)


def _case(planted: Planted, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of all methods."""
    found, seconds = _timed(lambda: find_issues(planted.points, planted.given))
    certain = found.suggested_score.astype(np.float64)
    row = _row("ours", -found.label_score, found.is_label_issue, planted, seconds)
    row["ece"] = round(_calibration_error(certain, found.suggested == planted.given), 4)
    row["planted_by_score"] = _by_score(found.label_score, planted.wrong)
    yield _shown(row)
    print("    planted by label score: " + ", ".join(row["planted_by_score"]))
    if arguments.ours_only:
        return
    models = {f"logistic C={C:g}": make_pipeline(StandardScaler(), LogisticRegression(C=C)) for C in CS}
    models[f"{NEIGHBORS}-NN"] = KNeighborsClassifier(NEIGHBORS)
    for name, model in models.items():
        yield from map(_shown, _cleanlab(name, model, planted))


def _cleanlab(name: str, model: Any, planted: Planted) -> Iterator[dict[str, Any]]:
    """Rows of both of cleanlab's scores on the out-of-sample probabilities of a model."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    p, seconds = _timed(
        lambda: cross_val_predict(model, planted.points, planted.given, cv=FOLDS, method="predict_proba")
    )
    flags = find_label_issues(planted.given, p, n_jobs=1)
    for method in ("self_confidence", "normalized_margin"):
        score = get_label_quality_scores(planted.given, p, method=method)
        row = _row(f"cleanlab {name} {method}", -score, flags, planted, seconds)
        row["ece"] = round(_calibration_error(p.max(axis=1), p.argmax(axis=1) == planted.given), 4)
        yield row


def _timed(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """Result, wall-clock and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def _row(
    method: str, suspicion: Any, flags: npt.NDArray[np.bool_], planted: Planted, seconds: tuple[float, float]
) -> dict[str, Any]:
    n_wrong = int(planted.wrong.sum())
    worst = np.argsort(-suspicion, kind="stable")[:n_wrong]
    return {
        "method": method,
        "auroc": round(float(roc_auc_score(planted.wrong, suspicion)), 4),
        "precision_at_planted": round(float(planted.wrong[worst].mean()), 4),
        "flagged": int(flags.sum()),
        "flag_precision": round(float(planted.wrong[flags].mean()) if flags.any() else 0.0, 4),
        "flag_recall": round(float(flags[planted.wrong].mean()), 4),
        "seconds": round(seconds[0], 2),
        "cpu_seconds": round(seconds[1], 2),
    }


def _calibration_error(certain: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Mean distance of certainty and share of hits over equal bins of certainty, weighted by their points."""
    bins = np.minimum((certain * BINS).astype(int), BINS - 1)
    size = np.bincount(bins, minlength=BINS)
    gaps = np.abs(np.bincount(bins, certain, BINS) - np.bincount(bins, right, BINS))
    return float(gaps.sum() / size.sum())


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


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
