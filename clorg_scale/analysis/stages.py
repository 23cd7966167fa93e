"""Stages that are kept: each finished one lies in a file named by all it depends on, and is taken from there."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clorg_scale.analysis.record import StageNote
from clorg_scale.store.atomic import explain_write_errors, write_whole

__all__ = ["Stages"]

Result = TypeVar("Result")

FORMAT = 1
"""Changes whenever a stage's result for the same input does."""


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

    Attributes
    ----------
    notes
        How each stage was computed and how long it took (when it was, if it was taken from the folder).
    """

    def __init__(self, folder: Path | None, *, resume: bool) -> None:
        self.folder = folder
        self.resume = resume
        self.notes: list[StageNote] = []
        if folder is not None:
            with explain_write_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)

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
            _reset_peak_memory()
            started = time.perf_counter()
            result = compute()
            seconds, peak = time.perf_counter() - started, _peak_memory()
            if file is not None:
                _write(file, result, seconds, peak)
        else:
            result, seconds, peak = kept
        self.notes.append(StageNote(name, how(result), seconds, peak))
        return result, key


def _digest(depends: dict[str, Any]) -> str:
    """16 hexadecimal digits."""
    text = json.dumps(depends, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _write(file: Path, result: Any, seconds: float, peak: int) -> None:
    """Arrays as they are, everything else as JSON, in one .npz."""
    parts = {field.name: getattr(result, field.name) for field in fields(result)}
    arrays = {name: _on_host(part) for name, part in parts.items() if hasattr(part, "dtype") and np.ndim(part)}
    rest = {name: part for name, part in parts.items() if name not in arrays}
    document = json.dumps({"parts": rest, "seconds": seconds, "peak": peak}, default=_plain)
    named: dict[str, Any] = {f"array_{name}": array for name, array in arrays.items()}
    named["json"] = np.frombuffer(document.encode(), np.uint8)
    with write_whole(file) as target:
        np.savez(target, **named)


def _on_host(array: Any) -> Any:
    return array.get() if hasattr(array, "get") else array


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
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
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
