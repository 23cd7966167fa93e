"""Stages with a cache: the result of each lies in a file named by its key, and is read from it."""

from __future__ import annotations

import inspect
import json
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

import numpy as np
from numba.core.event import install_timer

from clorg_scale.analysis.fallback import may_fall_back, on_cpu, resources_of
from clorg_scale.analysis.keys import Keys
from clorg_scale.analysis.summaries import StageNote
from clorg_scale.arrays import Array, array_module, free_device_memory, on_host
from clorg_scale.arrays.gpu import OutOfDeviceMemoryError
from clorg_scale.progress import stage_progress
from clorg_scale.results.plain import build
from clorg_scale.store.atomic import make_folder, remove_empty, write_whole
from clorg_scale.store.temporary import remove_strays

__all__ = ["Stage", "Stages", "read_result", "stage"]

P = ParamSpec("P")
Result = TypeVar("Result")

_FILE_NAMES = re.compile(r"[\w-]+-[0-9a-f]{16}\.npz|analysis\.json|analysis_arrays\.npz|report\.html")
"""Files that an analysis writes."""


@dataclass(frozen=True)
class Stage(Generic[P, Result]):
    """A function whose result is cached.

    Attributes
    ----------
    name
        Of the stage, in the report and in the name of its file.
    function
        Computes the result: a dataclass, named by the return annotation, whose fields are arrays or what JSON can
        hold.
    how
        Describes in one sentence, for the report, how a result was computed.
    """

    name: str
    function: Callable[P, Result]
    how: Callable[[Result], str]


def stage(name: str, how: Callable[[Result], str]) -> Callable[[Callable[P, Result]], Stage[P, Result]]:
    """Make a function a `Stage`."""

    def decorated(function: Callable[P, Result]) -> Stage[P, Result]:
        return Stage(name, function, how)

    return decorated


class Stages:
    """Run stages once.

    A stage's key is a digest of all arguments of its call (see `Keys`), down to the contents of the arrays passed.
    A run that was interrupted finds the stages it had finished; a run with one setting changed computes what depends
    on it.

    Parameters
    ----------
    folder
        Folder of the results; None keeps nothing.
    resume
        Read finished stages from there.
    progress
        Show the name of the stage that is running.
    check
        Called between computing a stage and keeping it; raises if the inputs are no longer those of its key.
    fingerprints
        Arrays whose fingerprint is known already, and the fingerprint.

    Attributes
    ----------
    notes
        How each stage was computed, and how long that took when it was computed.
    files
        Name of the file that holds the result of each stage, where there is a folder, by the stage's name.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        resume: bool,
        progress: bool = False,
        check: Callable[[], None] = lambda: None,
        fingerprints: Iterable[tuple[Array, str]] = (),
    ) -> None:
        self.folder = folder
        self.check = check
        self.resume = resume
        self.progress = progress
        self.notes: list[StageNote] = []
        self.files: dict[str, str] = {}
        self._keys = Keys()
        for array, known in fingerprints:
            self._keys.remember(array, known)
        self._made = [] if folder is None else make_folder(folder)
        if folder is not None:
            remove_strays(folder, _FILE_NAMES)

    def __call__(self, stage: Stage[P, Result], *arguments: P.args, **settings: P.kwargs) -> Result:
        """Read the result of a stage from the folder, or call its function and keep what it returns."""
        key = self._keys.of_call(stage.name, stage.function, arguments, settings)
        self.files[stage.name] = f"{stage.name.replace(' ', '-')}-{key}.npz"
        file = None if self.folder is None else self.folder / self.files[stage.name]
        kept: _Kept[Result] | None = None
        if file is not None and self.resume:
            kept = _read(file, get_type_hints(stage.function)["return"], to_device=True)
        if kept is None:
            try:
                with stage_progress(stage.name, enabled=self.progress):
                    kept = self._computed(stage, arguments, settings)
                if file is not None:
                    _write(file, kept)
            except BaseException:
                remove_empty(self._made)
                raise
        how = stage.how(kept.result)
        self.notes.append(StageNote(stage.name, how, kept.seconds, kept.peak, kept.compile_seconds, kept.engine))
        self._keys.remember(kept.result, key)
        return kept.result

    def derived(self, function: Callable[P, Result], *arguments: P.args, **settings: P.kwargs) -> Result:
        """Call a function whose result is not kept, but may be an argument of later stages."""
        result = function(*arguments, **settings)
        self._keys.remember(result, self._keys.of_call(function.__name__, function, arguments, settings))
        return result

    def _computed(
        self, stage: Stage[P, Result], arguments: Sequence[Any], settings: Mapping[str, Any]
    ) -> _Kept[Result]:
        """Compute, and check that the inputs were the same throughout: also before an error about them is raised."""
        try:
            measured = _on_device_or_cpu(stage, arguments, settings)
        except Exception:
            self.check()
            raise
        self.check()
        return measured


@dataclass(frozen=True)
class _Kept(Generic[Result]):
    """A result, what it took, and the largest memory of the process meanwhile, in bytes."""

    result: Result
    seconds: float
    """Without compilation."""
    peak: int
    compile_seconds: float = 0.0
    engine: str = ""
    """Device and libraries that computed it."""


def _measured(compute: Callable[[], Result]) -> _Kept[Result]:
    _reset_peak_memory()
    compiling: list[float] = []
    started = time.perf_counter()
    with install_timer("numba:compile", compiling.append):
        result = compute()
    seconds = time.perf_counter() - started
    # Threads that compile at the same time may be counted together, for longer than the stage took.
    compile_seconds = min(sum(compiling), seconds)
    return _Kept(result, seconds - compile_seconds, _peak_memory(), compile_seconds)


def _on_device_or_cpu(
    stage: Stage[Any, Result], arguments: Sequence[Any], settings: Mapping[str, Any]
) -> _Kept[Result]:
    """Compute where the resources say, or on the CPU if a GPU that was chosen automatically runs out of memory."""
    call = inspect.signature(stage.function).bind(*arguments, **settings)
    resources = resources_of(call.arguments)
    try:
        measured = _measured(lambda: stage.function(*arguments, **settings))
    except OutOfDeviceMemoryError as error:
        if not may_fall_back(resources):
            raise
        warnings.warn(f"The stage {stage.name!r} runs on the CPU: {error}", stacklevel=4)
    else:
        return replace(measured, engine="" if resources is None else resources.engine)
    free_device_memory()
    call.arguments.update({name: on_cpu(value) for name, value in call.arguments.items()})
    resources = resources_of(call.arguments)
    assert resources is not None
    return replace(_measured(lambda: stage.function(*call.args, **call.kwargs)), engine=resources.engine)


def _write(file: Path, kept: _Kept[Any]) -> None:
    """Arrays as they are, and which of them were on a device; everything else as JSON; in one .npz."""
    values = {field.name: getattr(kept.result, field.name) for field in fields(kept.result)}
    arrays = {name: on_host(value) for name, value in values.items() if hasattr(value, "dtype") and np.ndim(value)}
    rest = {name: value for name, value in values.items() if name not in arrays}
    facts = {"seconds": kept.seconds, "peak": kept.peak, "compile": kept.compile_seconds, "engine": kept.engine}
    on_device = [name for name in arrays if array_module(values[name]) is not np]
    document = json.dumps({"values": rest, "on_device": on_device, **facts}, default=_plain)
    named: dict[str, Any] = {f"array_{name}": array for name, array in arrays.items()}
    named["json"] = np.frombuffer(document.encode(), np.uint8)
    with write_whole(file) as target:
        np.savez(target, allow_pickle=False, **named)


def _plain(value: Any) -> Any:
    """NumPy scalars and dataclasses for JSON."""
    if hasattr(value, "item"):
        return value.item()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON")


def _read(file: Path, kind: type[Result], *, to_device: bool = False) -> _Kept[Result] | None:
    """Read what `_write` wrote; None if the file is missing, damaged or of something else.

    With `to_device`, arrays that were on a GPU go back to it: later stages compute where their arrays are.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            document = json.loads(stored["json"].tobytes())
            arrays = {name.removeprefix("array_"): stored[name] for name in stored.files if name != "json"}
        types = get_type_hints(kind)
        rest = {name: build(types[name], value, name) for name, value in document["values"].items()}
        if to_device and document["on_device"]:
            import cupy

            arrays |= {name: cupy.asarray(arrays[name]) for name in document["on_device"]}
        facts = (document["seconds"], document["peak"], document.get("compile", 0.0), document.get("engine", ""))
        return _Kept(kind(**rest, **arrays), *facts)
    except Exception:  # NumPy, zipfile and json raise a dozen kinds for a damaged file; all mean: compute it again
        return None


def read_result(file: Path, kind: type[Result]) -> Result | None:
    """Read the result of a stage from its file; None if the file is missing, damaged or of something else."""
    kept = _read(file, kind)
    return None if kept is None else kept.result


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
