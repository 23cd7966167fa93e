"""JSON schema of analysis.json; `python -m clorg_scale.analysis.schema` writes it anew after a change of the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clorg_scale.analysis.record import FORMAT, AnalysisRecord
from clorg_scale.results.readable import readable_json
from clorg_scale.results.schema import schema_of
from clorg_scale.store.atomic import write_whole

__all__ = ["SCHEMA", "analysis_schema"]

SCHEMA = Path(__file__).parent / "analysis.schema.json"
"""The schema that is installed with the package."""


def analysis_schema() -> dict[str, Any]:
    """Derive the schema from the dataclasses."""
    return schema_of(AnalysisRecord, FORMAT)


if __name__ == "__main__":
    with write_whole(SCHEMA, "w") as file:
        file.write(readable_json(analysis_schema()))
