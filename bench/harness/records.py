"""Records: one JSON line a measurement, each complete in itself."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from clorg_scale.errors import InputError
from clorg_scale.store.atomic import write_whole

__all__ = ["HIGHER_IS_BETTER", "Record", "read_records", "write_records"]

FORMAT = 1

HIGHER_IS_BETTER = {
    "recall": True,
    "accuracy": True,
    "auroc": True,
    "precision_at_planted": True,
    "modularity": True,
    "images_per_second": True,
    "coverage": True,
    "neighbors_kept": True,
    "error": False,
    "loss": False,
    "objective": False,
}
"""Qualities that `compare` judges; others are information."""


@dataclass(frozen=True)
class Record:
    """One contender of one case, measured.

    Attributes
    ----------
    benchmark, case, contender
        What was measured; together the key by which records are compared.
    role
        ``"ours"``, ``"peer"``, or ``"missing"``: not installed or left out, `note` says why.
    size
        Sizes of the input, such as n, d, k.
    settings
        Parameters of the contender.
    times
        Seconds of each repeat; empty where nothing was timed.
    cpu_times
        CPU seconds of all threads in each repeat, which other load on the machine hardly changes.
    memory
        Peak of resident memory beyond that before, in bytes.
    quality
        Recall, accuracy, modularity ...: what was reached.
    floor
        Seconds that the machine needs for the work at least; None where no floor is defined.
    floor_work
        What the floor counts.
    note
        Anything else a reader should know.
    quick
        Measured with the small sizes of ``--quick``: no figure to cite.
    seed, threads, date, commit, machine, blas, versions
        Conditions of the measurement.
    """

    benchmark: str
    case: str
    contender: str
    role: str
    size: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    cpu_times: list[float] = field(default_factory=list)
    memory: int | None = None
    quality: dict[str, float] = field(default_factory=dict)
    floor: float | None = None
    floor_work: str | None = None
    note: str | None = None
    quick: bool = False
    seed: int | None = None
    threads: int | None = None
    date: str | None = None
    commit: str | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    blas: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """Benchmark, case and contender."""
        return self.benchmark, self.case, self.contender

    @property
    def seconds(self) -> float | None:
        """Median of the repeats."""
        return statistics.median(self.times) if self.times else None

    @property
    def spread(self) -> float | None:
        """Half the range of the repeats, relative to the median; None for a single one."""
        if len(self.times) < 2:
            return None
        return (max(self.times) - min(self.times)) / 2 / statistics.median(self.times)

    def to_json(self) -> str:
        """Write one line."""
        document = {"format": FORMAT} | asdict(self) | {"seconds": self.seconds, "spread": self.spread}
        return json.dumps(_plain(document), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read one line; unknown fields of later versions are left out."""
        document = json.loads(line)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError("it is no record")
        known = {entry.name for entry in fields(cls)}
        record = cls(**{name: value for name, value in document.items() if name in known})
        if not all(isinstance(part, str) for part in (*record.key, record.role)):
            raise ValueError("benchmark, case, contender and role must be texts")
        if not all(isinstance(seconds, (int, float)) and seconds > 0 for seconds in record.times):
            raise ValueError("its times are not positive numbers")
        return record


def read_records(path: Path | str) -> list[Record]:
    """Read a file of records; of several with one key and machine, the last counts.

    Raises
    ------
    InputError
        If the file cannot be read or holds something else.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as records of 'clorg-scale bench run': {error}.") from None
    found: dict[tuple[Any, ...], Record] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = Record.from_json(line)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"Line {number} of {path} is not a record of 'clorg-scale bench run' ({error}); "
                "name a file that it wrote."
            ) from None
        found[(*record.key, record.machine.get("processor"), record.machine.get("gpu"), record.quick)] = record
    if not found:
        raise InputError(f"{path} holds no records; name a file that 'clorg-scale bench run' wrote.")
    return list(found.values())


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write all of them, whole or not at all."""
    with write_whole(path, "w") as file:
        file.writelines(record.to_json() + "\n" for record in records)


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, what is not a finite number as null."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
