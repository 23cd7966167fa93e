"""Records from the report of `bench/gpu_check.py`, which runs on machines without this harness."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from clorg_scale.errors import InputError

from .analysis_records import analysis_records
from .records import Record, read_records

__all__ = ["read_any_records"]


def read_any_records(path: Path | str) -> list[Record]:
    """Read a file of records, or a report (``.json``) of GPU runs ("runs") or of one analysis ("stages").

    Raises
    ------
    InputError
        If it is neither.
    """
    if Path(path).suffix != ".json":
        return read_records(path)
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if "stages" in document:
            return analysis_records(document)
        return [record for run in document["runs"] for record in _of_run(run, document)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a report of 'python bench/gpu_check.py' or 'python -m bench analyze': "
            f"{type(error).__name__}: {error}."
        ) from None


def _of_run(run: dict[str, Any], document: dict[str, Any]) -> list[Record]:
    """One record a timing, the rates of the machine among them; checks are left out."""
    machine = run.get("machine") or {}
    conditions: dict[str, Any] = {
        "date": run.get("date"),
        "commit": run.get("commit"),
        "machine": {
            "processor": None,
            "cores": machine.get("processors"),
            "gpu": document.get("gpu"),
            "driver": document.get("driver"),
        },
        "versions": {name: version for name, version in (machine.get("versions") or {}).items() if version},
        "note": run["what"],
    }
    records: list[Record] = []
    start = 0
    for row in run["rows"]:
        name = " ".join(row["what"].split())
        if name.startswith("["):  # the end of a stage, with the peak since the one before
            if row.get("peak_GB") and start < len(records):
                # The peak is the peer's, where there is one: it is what takes the most.
                largest = max(range(start, len(records)), key=lambda i: (records[i].role == "peer", i))
                records[largest] = replace(records[largest], memory=int(row["peak_GB"] * 1e9))
            start = len(records)
        elif "ok" not in row:
            records.append(_record(name, row, conditions))
    return records


def _record(name: str, row: dict[str, Any], conditions: dict[str, Any]) -> Record:
    peer = "dense tensors" in name
    numbers = {
        key: float(value)
        for key, value in row.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and key not in ("seconds", "floor", "share")
    }
    return Record(
        "gpu",
        name,
        "dense tensors" if peer else "ours",
        "peer" if peer else "ours",
        times=[row["seconds"]] if row.get("seconds") else [],
        floor=row.get("floor") or None,
        floor_work="the FLOP at the rate of an 8,192 x 8,192 product, or bytes at copy bandwidth",
        quality=numbers,
        **conditions,
    )
