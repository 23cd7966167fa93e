"""`clorg-scale analyze` as users run it, on a seeded mixture: time, memory, floor and ratio of each stage.

python -m bench analyze                                   # 100,000 x 768 in 100 classes
python -m bench analyze --imagenet                        # 1,281,167 x 512 float16 in 1,000 classes
python -m bench analyze --points N --dim D --classes C [--limit SECONDS] [-- options of clorg-scale analyze]

The points are written once, block by block, to a cache folder. The command runs in a process of its own, whose memory
beside the mapped file is watched from outside. A stage's floor is what its bytes take at the copy bandwidth, or its
products at the rate of a large matrix product, both measured just before and after the run (the better of the two). A
run that reaches the limit is ended; called again, it goes on from the stages it had finished (`--fresh` begins anew).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.datasets import locally_dense_mixture

__all__ = ["main", "run"]

IMAGENET = {"points": 1_281_167, "dim": 512, "classes": 1000}

CLUSTERS, SPREAD = 10, 0.5
"""Clusters of each class. With clusters farther apart the affinity graph falls apart into as many pieces."""

KEPT_BYTES = 8 * 16
"""Scores that label propagation reads for each entry of the graph."""


def main(argv: list[str]) -> int:
    """Run it; the exit status is that of the command, or 1 where the limit ended it."""
    own, forwarded = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench analyze", description=__doc__, formatter_class=formatter)
    parser.add_argument("--imagenet", action="store_true", help="1,281,167 x 512 float16 in 1,000 classes")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--limit", type=float, help="seconds after which the run is ended")
    parser.add_argument("--fresh", action="store_true", help="forget the stages of an earlier run")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "clorg-scale-bench")
    parser.add_argument("--json", type=Path, help="file of the record; default: in bench/results")
    options = parser.parse_args(own)
    if options.imagenet:
        vars(options).update(IMAGENET)
    record = run(options, forwarded)
    size = f"{options.points}x{options.dim}x{options.classes}"
    target = options.json or Path(__file__).parent / "results" / f"analyze_{size}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {target}")
    return 1 if record["exit_status"] is None else int(record["exit_status"])


def run(options: argparse.Namespace, forwarded: list[str]) -> dict[str, Any]:
    """Make the points, run the command, and print and return the record."""
    name = f"{options.points}x{options.dim}x{options.classes}-{options.dtype}"
    points, labels = _points(options.cache / name, options)
    out = options.cache / f"{name}-analysis"
    if options.fresh and out.exists():
        shutil.rmtree(out)
    before = _rates()
    command = [sys.executable, "-m", "clorg_scale", "analyze", str(points), "--labels", str(labels), "--out", str(out)]
    print(" ".join(["clorg-scale", *command[3:], *forwarded]), flush=True)
    watched = _Watched([*command, *forwarded], limit=options.limit)
    after = _rates()
    rates = {what: max(before[what], after[what]) for what in before}
    document = json.loads((out / "analysis.json").read_text()) if watched.status == 0 else None
    stages = _finished(out) if document is None else document["stages"]
    rows = _rows(options, stages, document, rates)
    record = {
        "machine": _machine(),
        "size": {"points": options.points, "features": options.dim, "classes": options.classes, "dtype": options.dtype},
        "options": forwarded,
        "exit_status": watched.status,
        "seconds": watched.seconds,
        "peak_beside_mapped_files": watched.peak,
        "rates": {"before": before, "after": after},
        "stages": rows,
    }
    _print(record)
    return record


def _points(stem: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """Files of the points and labels, made where they are missing."""
    points, labels = stem.with_name(f"{stem.name}.npy"), stem.with_name(f"{stem.name}-labels.npy")
    if not (points.exists() and labels.exists()):
        stem.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        _, codes = locally_dense_mixture(
            options.points,
            options.dim,
            n_classes=options.classes,
            clusters_per_class=CLUSTERS,
            spread=SPREAD,
            dtype=options.dtype,
            output=points,
        )
        np.save(labels, codes)
        print(f"made {points} in {time.perf_counter() - started:.0f} s", flush=True)
    return points, labels


class _Watched:
    """A run of a command, and the largest memory of its process that is no mapped file."""

    def __init__(self, command: list[str], *, limit: float | None) -> None:
        started = time.perf_counter()
        self.peak = 0
        self.process = subprocess.Popen(command)
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,), daemon=True)
        watcher.start()
        try:
            self.status: int | None = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.status = None
        finally:
            if self.process.poll() is None:  # interrupted
                self.process.terminate()
            done.set()
            watcher.join()
        self.seconds = time.perf_counter() - started

    def _watch(self, done: threading.Event) -> None:
        status = Path(f"/proc/{self.process.pid}/status")
        while not done.wait(0.2):
            try:
                lines = status.read_text().splitlines()
            except OSError:
                return
            own = (line.split()[1] for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
            self.peak = max(self.peak, sum(1024 * int(kilobytes) for kilobytes in own))


def _rates() -> dict[str, float]:
    """FLOP/s of a large float32 matrix product, and bytes/s copied (read and written), the best of a few."""
    a = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    source = np.zeros(1 << 27, dtype=np.uint8)
    target = np.empty_like(source)
    product, copy = [], []
    for _ in range(8):
        product.append(_timed(lambda: a @ a))
        copy.append(_timed(lambda: np.copyto(target, source)))
    return {"flops": 2 * 2048**3 / min(product), "bytes": 2 * source.nbytes / min(copy)}


def _timed(function: Any) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _finished(out: Path) -> list[dict[str, Any]]:
    """Stages that an unfinished run has left in its folder, in the order in which they ended."""
    stages = []
    for file in sorted(out.glob("*.npz"), key=lambda file: file.stat().st_mtime):
        with np.load(file, allow_pickle=False) as stored:
            document = json.loads(stored["json"].tobytes())
        stage = {"stage": file.stem.rsplit("-", 1)[0].replace("-", " "), "how": ""}
        stages.append(stage | {"seconds": document["seconds"], "peak_memory_bytes": document["peak"]})
    return stages


def _rows(
    options: argparse.Namespace, stages: list[dict[str, Any]], document: dict[str, Any] | None, rates: dict[str, float]
) -> list[dict[str, Any]]:
    """Time, peak, floor and ratio of each stage, and of each probe."""
    floors = _floors(options, document or {}, rates)
    rows = [
        {
            "stage": stage["stage"],
            "seconds": stage["seconds"],
            "peak_resident": stage["peak_memory_bytes"],
            "how": stage["how"],
        }
        for stage in stages
    ]
    for probe in (document or {}).get("probes", []):
        row = {"stage": f"  {probe['name']}", "seconds": probe["seconds"], "peak_resident": None}
        settings = {key: value for key, value in probe["settings"].items() if key != "name"}
        rows.append(row | {"accuracy": probe["accuracy"], "settings": settings})
    for row in rows:
        row["floor"] = floors.get(row["stage"].strip())
        row["ratio"] = row["seconds"] / row["floor"] if row["floor"] else None
    return rows


def _floors(options: argparse.Namespace, document: dict[str, Any], rates: dict[str, float]) -> dict[str, float]:
    """Seconds that the bytes or products of a stage take at least, where its work is known."""
    n, d = options.points, options.dim
    size = n * d * np.dtype(options.dtype).itemsize
    asked = document.get("class_homogeneity_points") or min(n, 5000)
    floors = {
        "Calinski-Harabasz": size / rates["bytes"],
        "class homogeneity": 2.0 * asked * n * d / rates["flops"],
        # At least every point is compared with the centers of the lists of an inverted file.
        "nearest neighbors": 2.0 * n * np.sqrt(n) * d / rates["flops"],
    }
    rld = document.get("rld")
    if rld:
        landmarks = rld["details"].get("landmarks")
        products = 2.0 * n * n * d if rld["method"] == "exact" else 4.0 * n * landmarks * d if landmarks else None
        if products:
            floors["RLD"] = products / rates["flops"]
    for probe in document.get("probes", []):
        settings = probe["settings"]
        if probe["name"] == "linear":
            floors["linear"] = settings["n_epochs"] * 4.0 * 0.8 * n * d * options.classes / rates["flops"]
        if probe["name"] == "label_propagation":
            entries = 20 * n  # of the symmetric graph of 15 neighbors
            floors["label_propagation"] = settings["n_iterations"] * entries * KEPT_BYTES / rates["bytes"]
    return {name: float(seconds) for name, seconds in floors.items()}


def _machine() -> dict[str, Any]:
    """Processor, cores, load, versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": processor or platform.machine(),
        "avx512": any("avx512f" in line for line in lines),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
    }


def _print(record: dict[str, Any]) -> None:
    """Print the table."""
    rates = record["rates"]
    print(f"\n{'stage':<24}{'time':>10}{'floor':>10}{'ratio':>8}{'peak':>10}")
    for row in record["stages"]:
        floor = f"{row['floor']:.1f} s" if row["floor"] else "-"
        ratio = f"{row['ratio']:.1f}" if row["ratio"] else "-"
        peak = f"{row['peak_resident'] / 1e9:.2f} GB" if row["peak_resident"] else ""
        accuracy = f"   accuracy {row['accuracy']:.4f}" if "accuracy" in row else ""
        print(f"{row['stage']:<24}{row['seconds']:>8.1f} s{floor:>10}{ratio:>8}{peak:>10}{accuracy}")
    ended = "ended by itself" if record["exit_status"] is not None else "was ended by the limit"
    print(
        f"\nThe run {ended} after {record['seconds']:.0f} s (exit status {record['exit_status']}); "
        f"at most {record['peak_beside_mapped_files'] / 1e9:.2f} GB beside mapped files.\n"
        f"Products {rates['before']['flops'] / 1e9:.0f} GFLOP/s before and {rates['after']['flops'] / 1e9:.0f} after, "
        f"copies {rates['before']['bytes'] / 1e9:.0f} and {rates['after']['bytes'] / 1e9:.0f} GB/s."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
