"""Resources of the stages: they decide how long a computation takes; only rounding depends on device and libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from clorg_scale.arrays import Device, available_memory, parse_memory, resolve_device
from clorg_scale.arrays.engines import engine_of
from clorg_scale.arrays.memory import at_least, in_bytes
from clorg_scale.distributed import device_of_workers
from clorg_scale.errors import InputError

__all__ = ["Resources"]

SHARE_OF_AVAILABLE = 0.8
"""Share of the memory available that is taken where no limit is given."""


@dataclass(frozen=True)
class Resources:
    """Device, memory, cluster and progress bars of the stages.

    Attributes
    ----------
    device
        Device of the stages; in their keys, as devices round differently.
    requested
        The device as given, possibly "auto".
    memory_limit
        Bytes that may be taken beside the embeddings; None for what is available.
    client
        `distributed.Client` of a Dask cluster, or None.
    progress
        Show progress bars.
    engine
        The device, and the libraries with versions that compute on it (see `clorg_scale.arrays.engines`); of a GPU
        cluster if that shares the work. In the stages' keys: with other libraries a stage is computed again.
    """

    device: Literal["cpu", "cuda"]
    requested: Device = field(default="auto", compare=False)
    memory_limit: int | None = field(default=None, compare=False)
    client: Any = field(default=None, compare=False)
    progress: bool = field(default=False, compare=False)
    engine: str = "cpu"

    @classmethod
    def checked(
        cls, device: Device, memory_limit: str | int | None, *, client: Any = None, progress: bool = False
    ) -> Resources:
        """Resolve a device and a memory limit as users give them.

        Raises
        ------
        InputError
            If the device does not exist or the limit is not an amount of memory.
        """
        chosen = resolve_device(device)
        engine = engine_of(chosen if client is None else device_of_workers(client, device))
        if client is not None and engine != "cpu":
            engine = f"cluster, {engine}"
        return cls(chosen, device, parse_memory(memory_limit), client, progress, engine)

    def on_cpu(self) -> Resources:
        """The CPU in place of a GPU that ran out of memory."""
        return replace(self, device="cpu", requested="cpu", engine="cpu, as the GPU ran out of memory")

    @property
    def local(self) -> dict[str, Any]:
        """Arguments of a function that computes on this machine."""
        return {"device": self.device, "memory_limit": self.memory_limit, "progress": self.progress}

    @property
    def shared(self) -> dict[str, Any]:
        """Arguments of a function that a cluster can share."""
        return {
            "device": self.requested,
            "memory_limit": self.memory_limit,
            "progress": self.progress,
            "client": self.client,
        }

    def check_memory(self, needs: Mapping[str, int]) -> None:
        """Check that every stage fits.

        Parameters
        ----------
        needs
            Bytes that each stage needs at least, by what it computes.

        Raises
        ------
        InputError
            If one does not fit; says how much memory would do for all.
        """
        what = max(needs, key=needs.__getitem__)
        limit, name = self.memory_limit, "memory limit"
        if limit is None:
            limit, name = int(SHARE_OF_AVAILABLE * available_memory()), "memory available"
        if needs[what] > limit:
            raise InputError(
                f"{what} needs at least {at_least(needs[what])}, more than the {name} of {in_bytes(limit)}; raise the "
                "limit, or lower k."
            )
