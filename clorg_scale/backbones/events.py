"""Loss and measures of a training, epoch by epoch, for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clorg_scale.backbones.architectures import Backbone
from clorg_scale.backbones.recording import Recorder
from clorg_scale.backbones.training import Epoch
from clorg_scale.errors import require
from clorg_scale.store.atomic import explain_write_errors

__all__ = ["EventLog"]


class EventLog:
    """Write loss, learning rate, images/s and measures as scalars of TensorBoard; pass it to `train` as `on_epoch`.

    A resumed training continues in a file of its own; epochs that it repeats are shown once.

    Parameters
    ----------
    folder
        Folder for the event files, for `tensorboard --logdir`.
    recorder
        Called first; its measures are written, too.

    Raises
    ------
    MissingDependencyError
        If TensorBoard is not installed.
    InputError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path | str, recorder: Recorder | None = None) -> None:
        require("tensorboard", extra="tensorboard", purpose="Writing logs for TensorBoard")
        self.folder, self.recorder = Path(folder), recorder
        self._writer: Any = None

    def __call__(self, backbone: Backbone, epoch: Epoch) -> None:
        """Write the scalars of an epoch."""
        scalars = {f"training/{name}": value for name, value in vars(epoch).items() if name != "epoch"}
        if self.recorder is not None:
            self.recorder(backbone, epoch)
            row = self.recorder.rows[-1] if self.recorder.rows else {}
            if row.get("epoch") == epoch.epoch:
                scalars |= {f"measures/{name}": value for name, value in row.items() if name not in ("epoch", "loss")}
        with explain_write_errors(self.folder):
            writer = self._open(epoch.epoch)
            for name, value in scalars.items():
                writer.add_scalar(name, value, epoch.epoch)
            writer.flush()

    def _open(self, first: int) -> Any:
        """Writer of this run, created when there is something to write."""
        if self._writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            # Discards events of an interrupted run from this epoch on: they are written again.
            self._writer = SummaryWriter(str(self.folder), purge_step=first)
        return self._writer
