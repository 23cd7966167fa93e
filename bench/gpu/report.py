"""The report of a run on a GPU: a JSON file, written whole after every change, so that a crash loses nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "triton",
    "cupy-cuda13x",
    "cuvs-cu13",
    "pylibcugraph-cu13",
    "faiss-gpu",
    "pykeops",
    "numpy",
    "scipy",
)


class Report:
    """Rows and progress of a run.

    Parameters
    ----------
    path
        File that holds the report.
    contents
        What it holds already; None for a new report.
    """

    def __init__(self, path: Path, contents: dict[str, Any] | None = None) -> None:
        empty = {"started": time.time(), "done": [], "running": None, "finished": [], "floors": [], "rows": []}
        self.path, self.contents = path, empty if contents is None else contents

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a report that another process wrote."""
        return cls(path, json.loads(path.read_text()))

    def write(self) -> None:
        """Write the report whole; numbers of other libraries become Python's."""
        partial_file = self.path.with_suffix(".tmp")
        partial_file.write_text(json.dumps(self.contents, indent=1, default=lambda number: number.item()))
        partial_file.replace(self.path)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Results so far."""
        rows: list[dict[str, Any]] = self.contents["rows"]
        return rows

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, in whatever process."""
        return float(time.time() - self.contents["started"])

    def add(self, what: str, **numbers: Any) -> None:
        """Keep, write and print one row."""
        self.rows.append({"what": what} | numbers)
        self.write()
        shown = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in numbers.items())
        print(f"{what:<58} {shown}", flush=True)

    def start(self, name: str) -> None:
        """Name the check that runs now; if it crashes the process, this is what is reported as failed."""
        self.contents["running"] = name
        self.write()

    def finish(self, name: str) -> None:
        """Count a check as done."""
        self.contents["done"].append(name)
        self.contents["running"] = None
        self.write()

    def describe_machine(self, *, dry: bool) -> None:
        """Keep what the numbers are measured on, once."""
        if "machine" not in self.contents:
            self.contents |= {"machine": machine(dry=dry), "dry_run": dry}
            self.write()
            print(json.dumps(self.contents["machine"]), flush=True)

    @property
    def failed(self) -> list[str]:
        """Names of the rows that say that something is wrong."""
        return [row["what"] for row in self.rows if "failed" in row or row.get("ok") is False]


def machine(*, dry: bool) -> dict[str, Any]:
    """Versions, processors, and the GPU unless this is a dry run."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "versions": versions,
    }
    if not dry:
        import torch

        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        facts |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_GB": properties.total_memory / 1e9,
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "driver": driver_version(),
        }
    return facts


def driver_version() -> str | None:
    """Version of the GPU's driver, if nvidia-smi reports it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return output.splitlines()[0].strip()


def gpu_answers() -> bool:
    """Whether the GPU still works: an illegal access, say, is reported by every later call until the process ends."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except Exception:  # whatever the driver raises
        return False
    return True


def first_line(error: BaseException | str) -> str:
    """First line of an error, of limited length."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return (text.splitlines() or [""])[0][:300]
