"""Peak memory of one step of this process, and what the machine is."""

from __future__ import annotations

import datetime
import resource
from pathlib import Path

from .harness.machine import describe_machine, library_versions

__all__ = ["machine", "peak_memory", "resident_memory", "restart_peak"]


def restart_peak() -> None:
    """Count the peak from here (on Linux; elsewhere it stays that of the whole process)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def peak_memory() -> int:
    """Largest resident memory since `restart_peak`, in bytes."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_memory() -> int:
    """Resident memory now, in bytes."""
    return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(field: str) -> int | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = (line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
    return next((int(line.split()[1]) * 1024 for line in lines), None)


def machine(*packages: str) -> dict[str, object]:
    """Machine, date and versions, for the JSON of scripts that write no records."""
    versions = library_versions(*packages)
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return dict(describe_machine()) | {"date": date, "python": versions.pop("python"), "versions": versions}
