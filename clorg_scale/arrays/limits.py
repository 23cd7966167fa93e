"""Limits on the main memory of this process: control groups, `ulimit`, the job scheduler."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import inf
from pathlib import Path, PurePosixPath

__all__ = ["memory_left"]

_UNLIMITED = 1 << 60
"""Version 1 of control groups says the largest multiple of a page that 63 bits hold."""

_OF_LIBRARIES, _OF_THREAD = 256 << 20, 100 << 20
"""Address space that libraries take when they are first used (compiled code, buffers of BLAS, in which FAISS crashes
where it is refused them), and for each further thread (its stack and its heap)."""

_PROCESS = Path("/proc/self")


def memory_left(process: Path = _PROCESS, environment: Mapping[str, str] | None = None) -> float:
    """Bytes that the tightest limit leaves, at least 0; infinity where there is none.

    Parameters
    ----------
    process
        Folder of the process in /proc: its control groups, where they are mounted, and its memory use.
    environment
        Environment variables in which Slurm sets the limits of a job; default: those of this process.
    """
    environment = os.environ if environment is None else environment
    left = [*_left_in_groups(process), *_left_of_limits(process), *_left_in_job(process, environment)]
    return max(0, min(left, default=inf))


def _left_in_groups(process: Path) -> Iterator[float]:
    """Yield what each control group leaves: that of the process and its ancestors."""
    groups = _lines(process / "cgroup")
    for line in _lines(process / "mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        _, _, _, root, mounted = before.split(" ")[:5]
        for group in groups:
            _, controllers, path = group.split(":", 2)
            if kind == "cgroup2" and not controllers:
                read = _left_by_version_2
            elif kind == "cgroup" and "memory" in re.split("[ ,]", options) and "memory" in controllers.split(","):
                read = _left_by_version_1
            else:
                continue
            for folder in _group_folders(Path(_unescaped(mounted)), _unescaped(root), path):
                with suppress(OSError, ValueError, KeyError):  # the root of all has no limit
                    yield read(folder)


def _group_folders(mounted: Path, root: str, path: str) -> list[Path]:
    """List the folders of a control group and its ancestors, up to where the hierarchy is mounted."""
    inside = PurePosixPath()
    with suppress(ValueError):  # the group of a container, mounted there as the root
        inside = PurePosixPath(path).relative_to(root)
    if ".." in inside.parts:  # outside of what this process sees
        inside = PurePosixPath()
    return [mounted / part for part in (inside, *inside.parents)]


def _left_by_version_2(folder: Path) -> float:
    limits = [_number(folder / name) for name in ("memory.max", "memory.high") if (folder / name).exists()]
    return min(limits) - _number(folder / "memory.current") + _statistic(folder, "inactive_file")


def _left_by_version_1(folder: Path) -> float:
    limit = _number(folder / "memory.limit_in_bytes")
    return limit - _number(folder / "memory.usage_in_bytes") + _statistic(folder, "total_inactive_file")


def _number(file: Path) -> float:
    text = file.read_text(encoding="ascii").strip()
    return inf if text == "max" or int(text) >= _UNLIMITED else int(text)


def _statistic(folder: Path, name: str) -> int:
    """Read one of the statistics: cached files can be given up."""
    return int(dict(line.split() for line in _lines(folder / "memory.stat"))[name])


def _left_of_limits(process: Path) -> Iterator[float]:
    """Yield what `ulimit -v` and `ulimit -d` leave."""
    for limit, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            n_threads = len(os.sched_getaffinity(0))
            yield most - _used(process, used) - _OF_LIBRARIES - _OF_THREAD * (n_threads - 1)


def _left_in_job(process: Path, environment: Mapping[str, str]) -> Iterator[float]:
    """Yield what Slurm's job leaves on this node, whether or not control groups enforce it."""
    with suppress(KeyError, ValueError):
        yield _megabytes(environment["SLURM_MEM_PER_NODE"]) - _used(process, "VmRSS")
    with suppress(KeyError, ValueError):
        n_cores = int(environment["SLURM_CPUS_ON_NODE"])
        yield _megabytes(environment["SLURM_MEM_PER_CPU"]) * n_cores - _used(process, "VmRSS")


def _megabytes(text: str) -> float:
    """Convert MiB to bytes; 0 stands for all memory of the node."""
    return int(text) * 2**20 or inf


def _used(process: Path, name: str) -> int:
    """Bytes out of the status of the process; 0 where it does not say."""
    for line in _lines(process / "status"):
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _unescaped(text: str) -> str:
    r"""Return a path of mountinfo, in which a space is ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
