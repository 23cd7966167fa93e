"""A run of benchmarks: settings, measurement in alternation, progress, records as they come."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clorg_scale.errors import InputError, lacks_memory

from ..memory import peak_memory, resident_memory, restart_peak
from .floors import Floor, Rates, machine_rates
from .isolated import Timed
from .machine import blas_libraries, commit, describe_machine, library_versions
from .peers import MissingPeerError
from .records import Record, read_records, write_records

__all__ = ["Case", "Contender", "Session", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings that the user chose; None where a benchmark's own default holds."""

    quick: bool = False
    repeats: int | None = None
    seed: int = 0
    data: str | None = None
    points: int | None = None
    features: int | None = None
    k: int | None = None
    threads: int | None = None
    peers: bool = True


@dataclass(frozen=True)
class Case:
    """Input of a comparison: its name, sizes, and the floor of the work on it."""

    name: str
    size: dict[str, int]
    floor: Floor | None = None


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a case.

    Attributes
    ----------
    name
        Library and method.
    run
        Does all the work; timed. Raises `MissingPeerError` where its package is not installed.
    quality
        What the result reached; not timed.
    role
        ``"ours"`` or ``"peer"``.
    settings
        Its parameters.
    warm_up
        Run before the first repeat, such as on a few points to compile; None for nothing.
    note
        Anything a reader should know.
    repeats
        Repeats of this contender where it takes fewer than the others.
    changes
        Whether the quality is taken again at each repeat, whose result differs; the last counts.
    """

    name: str
    run: Callable[[], Any]
    quality: Callable[[Any], dict[str, float]] = lambda result: {}
    role: str = "peer"
    settings: dict[str, Any] = field(default_factory=dict)
    warm_up: Callable[[], Any] | None = None
    note: str | None = None
    repeats: int | None = None
    changes: bool = False


class Session:
    """Collects the records of one run and writes them as they come.

    Parameters
    ----------
    settings
        What the user asked for.
    out
        File of records, extended if it exists; None writes nothing.
    """

    def __init__(self, settings: Settings, out: Path | None = None) -> None:
        self.settings = settings
        self.out = out
        self.benchmark = ""
        self.records: list[Record] = []
        self._rates: Rates | None = None
        self._before = read_records(out) if out is not None and out.exists() else []

    # ---- what benchmarks ask ----------------------------------------------------------------------------------------

    def size(self, full: int, quick: int, chosen: int | None = None) -> int:
        """The size that the user chose, or the small or the full one."""
        return chosen if chosen is not None else quick if self.settings.quick else full

    def repeats(self, full: int) -> int:
        """Number of repeats."""
        chosen = self.settings.repeats
        return chosen if chosen is not None else 1 if self.settings.quick else full

    @property
    def rates(self) -> Rates:
        """Rates of this machine, measured at the first call."""
        if self._rates is None:
            self.say("measuring the machine's best matrix products and its copy bandwidth")
            self._rates = machine_rates(quick=self.settings.quick)
            flops, shape, bandwidth = self._rates
            self.say(f"{flops / 1e9:.0f} GFLOP/s in float32 at {shape}, {bandwidth / 1e9:.1f} GB/s copied")
        return self._rates

    def say(self, line: str) -> None:
        """A line of progress, on stderr."""
        print(f"{self.benchmark}: {line}", file=sys.stderr, flush=True)

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def compare(self, case: Case, contenders: Sequence[Contender], *, repeats: int) -> list[Record]:
        """Measure contenders in alternation, so that other load falls on all alike; one record each.

        A contender that is not installed is named and left out; one that runs out of memory as well.
        """
        repeats, alive = self.repeats(repeats), []
        for contender in contenders:
            if contender.role == "peer" and not self.settings.peers:
                continue
            if self._attempt(case, contender, contender.warm_up or (lambda: None)) is not None:
                alive.append(_Measured(contender))
        for number in range(repeats):
            for measured in list(alive):
                if number >= (measured.contender.repeats or repeats):
                    continue
                outcome = self._attempt(case, measured.contender, measured.once)
                if outcome is None:
                    alive.remove(measured)
                    continue
                self.say(f"{case.name}, {measured.contender.name}: {measured.times[-1]:.3g} s ({number + 1}/{repeats})")
        return [self._emit_measured(case, measured) for measured in alive]

    def emit(self, record: Record) -> Record:
        """Complete a record with the conditions, print it and write the file."""
        record = replace(
            record,
            benchmark=self.benchmark,
            quick=self.settings.quick,
            seed=self.settings.seed,
            threads=self.settings.threads or describe_machine()["cores"],
            date=datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
            commit=commit(),
            machine=describe_machine(),
            blas=blas_libraries(),
            versions=library_versions(*_PACKAGES),
        )
        self.records.append(record)
        print(describe(record), flush=True)
        if self.out is not None:
            write_records(self.out, [*self._before, *self.records])
        return record

    def missing(self, case: Case, name: str, reason: str) -> None:
        """Record a contender that could not be measured."""
        self.emit(Record("", case.name, name, "missing", size=case.size, note=reason))

    def _emit_measured(self, case: Case, measured: _Measured) -> Record:
        contender = measured.contender
        floor = case.floor
        return self.emit(
            Record(
                "",
                case.name,
                contender.name,
                contender.role,
                size=case.size,
                settings=contender.settings,
                times=measured.times,
                cpu_times=measured.cpu_times,
                memory=measured.memory,
                quality=measured.quality,
                floor=None if floor is None else floor.seconds,
                floor_work=None if floor is None else floor.work,
                note=contender.note,
            )
        )

    def _attempt(self, case: Case, contender: Contender, step: Callable[[], Any]) -> bool | None:
        """True, or None and a record of the reason where a peer cannot do it."""
        try:
            step()
        except (MissingPeerError, InputError) as error:
            if contender.role == "ours":
                raise
            self.missing(case, contender.name, str(error))
            return None
        except Exception as error:
            if contender.role == "ours":
                raise
            reason = "out of memory" if lacks_memory(error) else f"failed: {type(error).__name__}: {error}"
            self.missing(case, contender.name, reason[:300])
            return None
        return True


class _Measured:
    """Repeats of a contender."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.times: list[float] = []
        self.cpu_times: list[float] = []
        self.memory = 0
        self.quality: dict[str, float] = {}

    def once(self) -> None:
        """One repeat: seconds, memory, and its quality."""
        before = resident_memory()
        restart_peak()
        started, cpu = time.perf_counter(), time.process_time()
        result = self.contender.run()
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        if isinstance(result, Timed):  # by a process of its own
            result, wall, cpu = result
        self.times.append(wall)
        self.cpu_times.append(cpu)
        self.memory = max(self.memory, peak_memory() - before)
        if not self.quality or self.contender.changes:
            self.quality = {name: float(value) for name, value in self.contender.quality(result).items()}


_PACKAGES = (
    "torch-geometric",
    "umap-learn",
    "pynndescent",
    "hnswlib",
    "usearch",
    "networkit",
    "leidenalg",
    "scikit-network",
    "networkx",
    "cleanlab",
    "pykeops",
    "openTSNE",
    "lightly",
    "torchvision",
    "distributed",
    "torch-sparse",
    "cuvs-cu13",
    "cuml-cu13",
    "cugraph-cu13",
    "cupy-cuda13x",
)


def describe(record: Record) -> str:
    """One line on a record."""
    mark = " [quick: small sizes, no figure to cite]" if record.quick else ""
    if record.role == "missing":
        return f"{record.case:<40} {record.contender:<40} left out: {record.note}{mark}"
    parts = []
    if record.seconds is not None:
        spread = "" if record.spread is None else f" +- {record.spread:.0%}"
        parts.append(f"{record.seconds:.4g} s{spread}")
    parts += [f"{name} {value:.5g}" for name, value in record.quality.items()]
    if record.floor and record.seconds:
        parts.append(f"{record.seconds / record.floor:.3g} x floor")
    if (record.memory or 0) >= 1e6:
        parts.append(f"{record.memory / 1e6:,.0f} MB")
    return f"{record.case:<40} {record.contender:<40} {', '.join(parts)}{mark}"
