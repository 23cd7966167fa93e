"""Records from the report of `python -m bench analyze`: the whole command, its stages and probes."""

from __future__ import annotations

from typing import Any

from .records import Record

__all__ = ["WHOLE", "analysis_records"]

WHOLE = "the whole command"
"""Contender of the run itself, as against its stages."""


def analysis_records(document: dict[str, Any]) -> list[Record]:
    """One record for the run, with its memory beside the mapped file, and one for each stage and probe."""
    size = document["size"]
    machine = document["machine"]
    conditions: dict[str, Any] = {
        "size": {"n": size["points"], "d": size["features"], "classes": size["classes"]},
        "date": machine["date"],
        "machine": {
            "processor": machine["processor"],
            "cores": machine["cores"],
            "instructions": "AVX-512" if machine["avx512"] else None,
        },
        "versions": {"python": machine["python"]},
    }
    case = f"{size['points']:,} x {size['features']} {size['dtype']} in {size['classes']:,} classes"
    records = [
        Record(
            "analyze",
            case,
            WHOLE,
            "ours",
            times=[document["seconds"]],
            memory=document["peak_beside_mapped_files"],
            note=f"exit status {document['exit_status']}",
            **conditions,
        )
    ]
    for row in document["stages"]:
        quality = {"accuracy": row["accuracy"]} if "accuracy" in row else {}
        records.append(
            Record(
                "analyze",
                case,
                row["stage"].strip(),
                "ours",
                times=[row["seconds"]],
                memory=row["peak_resident"],
                floor=row["floor"],
                quality=quality,
                note=row.get("how") or None,
                **conditions,
            )
        )
    return records
