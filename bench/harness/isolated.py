"""Peers that pin other versions of our dependencies: run by the Python of an environment of their own.

Arrays travel as a file; the work is timed within that process, after its imports and one warm-up.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .peers import MissingPeerError, own_environment

__all__ = ["Timed", "run_isolated"]

SCRIPT = """
import sys, time
import numpy as np
folder = sys.argv[1]
arrays = dict(np.load(folder + "/in.npz"))
{imports}
def work():
{work}
work()
wall, cpu = time.perf_counter(), time.process_time()
result = work()
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
np.savez(folder + "/out.npz", result=np.asarray(result), times=np.array([wall, cpu]))
"""


class Timed(NamedTuple):
    """A result with the seconds and CPU seconds that its own process measured."""

    result: Any
    seconds: float
    cpu_seconds: float


def run_isolated(environment: str, imports: str, work: str, **arrays: npt.NDArray[Any]) -> Timed:
    """Run a few lines in a peer's environment.

    Parameters
    ----------
    environment
        Name in `peers.OWN_ENVIRONMENT`.
    imports
        Lines that import the peer.
    work
        Lines that return an array that NumPy takes; `arrays` holds the input by name.
    arrays
        The input.

    Raises
    ------
    MissingPeerError
        If the environment was not made, or the peer cannot be imported in it.
    RuntimeError
        If the work fails; the message is the last line of its error.
    """
    python = own_environment(environment)
    if python is None:
        raise MissingPeerError(f"{environment} is not installed; run again with --install-peers where there is a GPU")
    body = "".join(f"    {line}\n" for line in work.splitlines())
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "in.npz", **arrays)  # type: ignore[arg-type]
        script = SCRIPT.format(imports=imports, work=body)
        done = subprocess.run(
            [str(python), "-c", script, folder], capture_output=True, text=True, check=False, cwd=folder
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it ended without a message"])[-1]
            if last.startswith(("ImportError", "ModuleNotFoundError")):
                raise MissingPeerError(f"{environment} cannot be imported in its environment ({last})")
            raise RuntimeError(last)
        with np.load(Path(folder) / "out.npz") as found:
            wall, cpu = found["times"].tolist()
            return Timed(found["result"], wall, cpu)
