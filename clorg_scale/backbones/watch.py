"""Detection of images that are written to while they are embedded, trained on or measured."""

from __future__ import annotations

from clorg_scale.analysis.fingerprint import Unchanged
from clorg_scale.datasets.images import ImageFiles, ImageSet
from clorg_scale.errors import InputError

__all__ = ["ImageWatch"]


class ImageWatch:
    """Remember the state of images, to compare it with a later one.

    Of image files that is their size and time of change, of pixels in a memory-mapped file also their contents. As a
    context manager it checks them when the block ends, also where the block raises: an image that is half written is
    reported as what it is.

    Parameters
    ----------
    images
        The images.
    use
        What is done with them, in the error message.
    kept
        What is kept after a change, in the error message.
    """

    def __init__(self, images: ImageSet, use: str = "embedded", kept: str = "no embeddings are kept") -> None:
        self._use, self._kept = use, kept
        self._files = images if isinstance(images, ImageFiles) else None
        self._states = [] if self._files is None else self._files.states()
        pixels = None if isinstance(images, ImageFiles) else images.pixels
        self._pixels = Unchanged({f"images of {images.name}": pixels})

    def __enter__(self) -> ImageWatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self.check()

    def check(self) -> None:
        """Compare the images with the state remembered.

        Raises
        ------
        InputError
            If one of them was written to, or removed; names the first file and counts the others.
        """
        self._pixels.check()
        if self._files is None:
            return
        pairs = zip(self._files.paths, self._states, self._files.states(), strict=True)
        changed = [path for path, before, now in pairs if before != now]
        if changed:
            others = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
            were = "s were" if len(changed) > 1 else " was"
            raise InputError(
                f"{len(changed):,} image{were} written to or removed while the images were {self._use} ({changed[0]}"
                f"{others}); {self._kept}: run this again once the images are complete."
            )

    def has_changed(self) -> bool:
        """Whether `check` would raise."""
        try:
            self.check()
        except InputError:
            return True
        return False
