"""Stages that are kept: each finished one lies in a file named by all it depends on, and is taken from there."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clorg_scale.analysis.record import StageNote
from clorg_scale.arrays import on_host
from clorg_scale.progress import stage_progress
from clorg_scale.store.atomic import make_folder, remove_empty, write_whole
from clorg_scale.store.temporary import remove_strays

__all__ = ["Stages"]

Result = TypeVar("Result")

FORMAT = 3
"""Changes whenever a stage's result for the same input does."""

_FILE_NAMES = re.compile(r"[\w-]+-[0-9a-f]{16}\.npz|analysis\.json|report\.html")
"""Files that an analysis writes."""


class Stages:
    """Run stages once.

    A stage's key is a digest of its name, its settings and the keys of the stages it stands on, down to the
    fingerprints of the arrays handed in. A run that was interrupted finds the stages it had finished; a run with one
    setting changed computes what depends on it.

    Parameters
    ----------
    folder
        Where results are kept; None keeps nothing.
    resume
        Whether to take finished stages from there.
    progress
        Whether to name the stage that takes its time.
    check
        Called between computing a stage and keeping it; raises where the inputs are no longer those of its key.

    Attributes
    ----------
    notes
        How each stage was computed and how long it took (when it was, if it was taken from the folder).
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        resume: bool,
        progress: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self.check = check
        self.resume = resume
        self.progress = progress
        self.notes: list[StageNote] = []
        self._made = [] if folder is None else make_folder(folder)
        if folder is not None:
            remove_strays(folder, _FILE_NAMES)

    def run(
        self,
        name: str,
        kind: type[Result],
        depends: dict[str, Any],
        compute: Callable[[], Result],
        how: Callable[[Result], str],
    ) -> tuple[Result, str]:
        """Compute a stage or take it from the folder.

        Parameters
        ----------
        name
            What the stage is called in the report and the file name.
        kind
            Dataclass of the result; its fields are arrays or what JSON can hold.
        depends
            Settings and keys that the result depends on.
        compute
            Computes it.
        how
            One sentence on how, for the report.

        Returns
        -------
        The result and the stage's key.
        """
        key = _digest({"format": FORMAT, "stage": name, **depends})
        file = None if self.folder is None else self.folder / f"{name.replace(' ', '-')}-{key}.npz"
        kept = _read(file, kind) if file is not None and self.resume else None
        if kept is None:
            try:
                with stage_progress(name, enabled=self.progress):
                    result, seconds, peak = self._checked(compute)
                if file is not None:
                    _write(file, result, seconds, peak)
            except BaseException:
                remove_empty(self._made)
                raise
        else:
            result, seconds, peak = kept
        self.notes.append(StageNote(name, how(result), seconds, peak))
        return result, key

    def _checked(self, compute: Callable[[], Result]) -> tuple[Result, float, int]:
        """Compute, and look whether that was of the inputs: what a stage says of others would mislead."""
        try:
            measured = _measured(compute)
        except Exception:
            self.check()
            raise
        self.check()
        return measured


def _digest(depends: dict[str, Any]) -> str:
    """16 hexadecimal digits."""
    text = json.dumps(depends, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _measured(compute: Callable[[], Result]) -> tuple[Result, float, int]:
    """Result, seconds, and the largest memory meanwhile in bytes."""
    _reset_peak_memory()
    started = time.perf_counter()
    result = compute()
    return result, time.perf_counter() - started, _peak_memory()


def _write(file: Path, result: Any, seconds: float, peak: int) -> None:
    """Arrays as they are, everything else as JSON, in one .npz."""
    parts = {field.name: getattr(result, field.name) for field in fields(result)}
    arrays = {name: on_host(part) for name, part in parts.items() if hasattr(part, "dtype") and np.ndim(part)}
    rest = {name: part for name, part in parts.items() if name not in arrays}
    document = json.dumps({"parts": rest, "seconds": seconds, "peak": peak}, default=_plain)
    named: dict[str, Any] = {f"array_{name}": array for name, array in arrays.items()}
    named["json"] = np.frombuffer(document.encode(), np.uint8)
    with write_whole(file) as target:
        np.savez(target, allow_pickle=False, **named)


def _plain(value: Any) -> Any:
    """NumPy scalars for JSON."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON")


def _read(file: Path, kind: type[Result]) -> tuple[Result, float, int] | None:
    """What `_write` kept, or None if there is nothing whole."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            document = json.loads(stored["json"].tobytes())
            arrays = {name.removeprefix("array_"): stored[name] for name in stored.files if name != "json"}
        return kind(**document["parts"], **arrays), document["seconds"], document["peak"]
    except FileNotFoundError:
        return None
    except Exception:  # NumPy, zipfile and json raise a dozen kinds for a damaged file; all mean: compute it again
        return None


def _reset_peak_memory() -> None:
    """Let the kernel count the peak from now on, where it can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int:
    """Largest resident memory of this process in bytes since the last reset."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
