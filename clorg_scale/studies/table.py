"""Files of a study: its rows as CSV and JSON, its page of curves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clorg_scale.store.atomic import result_folder, write_together, write_whole

__all__ = ["Row", "read_rows", "write_study"]

Row = dict[str, str | int | float]
"""One setting and what was measured in it."""


def write_study(folder: Path | str, rows: Sequence[Row], page: str | None = None) -> None:
    """Write table.csv, table.json and, if there is a page, plot.html: all of them, or none.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    folder = Path(folder)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
    contents = {"table.csv": text.getvalue(), "table.json": json.dumps(list(rows), indent=1) + "\n"}
    if page is not None:
        contents["plot.html"] = page
    with result_folder(folder), write_together():
        for name, content in contents.items():
            with write_whole(folder / name, "w") as file:
                file.write(content)


def read_rows(folder: Path | str) -> list[dict[str, Any]]:
    """Rows of an earlier run in the same folder; none where it left no table."""
    path = Path(folder) / "table.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else []
