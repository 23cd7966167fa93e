"""Organization of the embeddings during training: measures every few epochs, as a table and a page of curves."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from clorg_scale.arrays.normalize import normalize_rows
from clorg_scale.backbones.architectures import Backbone
from clorg_scale.backbones.features import features_of
from clorg_scale.backbones.training import Epoch
from clorg_scale.backbones.watch import ImageWatch
from clorg_scale.datasets.images import ImageSet
from clorg_scale.errors import InputError
from clorg_scale.measures import calinski_harabasz, class_homogeneity
from clorg_scale.neighbors import knn
from clorg_scale.report.curves import Panel, render_curves
from clorg_scale.rld import rld
from clorg_scale.store import save_embeddings
from clorg_scale.store.atomic import make_folder, write_together, write_whole
from clorg_scale.whole import whole_number

__all__ = ["Recorder"]

TEMPERATURES = (1.0, 0.5, 0.2, 0.1)
KS = (1, 10, 100)
EMBEDDINGS = "embeddings"
"""Folder, in that of a training, for the embeddings of each measurement."""

VOTERS = 20
"""Neighbors that vote in the k-NN accuracy."""


class Recorder:
    """Measure a backbone during training; pass it to `train` as `on_epoch`.

    Writes measures.csv and measures.html: RLD, class homogeneity among cosine neighbors, Calinski-Harabasz, and the
    k-NN accuracy on one half of the images, with the other half as training set (k = 20, cosine). A resumed training
    continues both files. The column "normalized" is 1 where embeddings were divided by their lengths first, else 0.

    Parameters
    ----------
    images
        Images to measure, other than those of the training.
    out
        Folder for the two files.
    every
        Epochs between measurements; the first and the last epoch are always measured.
    n_images
        Number of images, drawn at random. All measures depend on it, so compare equal numbers only.
    epochs
        Epochs of the training; the last one is measured.
    batch_size
        Images in a batch.
    seed
        Seed of the choice of images.
    normalize
        Divide each embedding by its Euclidean length first (L2), as the paper's notebooks do: RLD and Calinski-Harabasz
        change, measures of cosine neighbors do not.
    keep_embeddings
        Also store the embeddings of each measurement in ``embeddings/epoch-0010`` and the like, as `save_embeddings`
        does, in float16 where it holds them; `clorg_scale.track` and ``clorg-scale track`` analyze them.

    Attributes
    ----------
    rows
        Table of the measures so far, one dictionary for each epoch.

    Raises
    ------
    InputError
        If there are too few images or classes, a number is out of range, the folder holds measures of other images, or
        it cannot be written; when called, if the images were written to meanwhile.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        out: Path | str,
        every: int = 10,
        n_images: int = 5_000,
        epochs: int | None = None,
        batch_size: int = 256,
        seed: int = 0,
        normalize: bool = False,
        keep_embeddings: bool = False,
    ) -> None:
        every = whole_number("every", every, 1)
        epochs = None if epochs is None else whole_number("epochs", epochs, 1)
        batch_size = whole_number("batch_size", batch_size, 1)
        seed = whole_number("seed", seed, 0)
        n = min(whole_number("n_images", n_images, 1), len(images))
        if n < 2 * VOTERS:
            raise InputError(f"At least {2 * VOTERS} images are needed to measure embeddings, not {n}.")
        self.images, self.every, self.epochs, self.batch_size = images, every, epochs, batch_size
        self.folder, self.normalize, self.keep_embeddings = Path(out), normalize, keep_embeddings
        self._chosen = np.random.default_rng(seed).permutation(len(images))[:n]
        if len(np.unique(images.labels[self._chosen])) < 2:
            raise InputError(f"The {n} images to measure all belong to one class; at least two classes are needed.")
        self._watch = ImageWatch(images, "measured", "their measures are not kept")  # before the digest
        self._digest = _digest(images, self._chosen)
        self.rows = _read(self.folder / "measures.csv", n, self._digest)
        if self.rows and bool(self.rows[-1].get("normalized", 0)) != normalize:
            was, now = ("normalized", "raw") if self.rows[-1].get("normalized") else ("raw", "normalized")
            raise InputError(
                f"{self.folder / 'measures.csv'} has measures of {was} embeddings, not of {now} ones; choose another "
                "folder, set normalization as before, or remove that file."
            )

    def __call__(self, backbone: Backbone, epoch: Epoch) -> None:
        """Measure after an epoch that is due."""
        if epoch.epoch % self.every and epoch.epoch not in (1, self.epochs):
            return
        with self._watch:
            embeddings, labels = self._embeddings(backbone), self.images.labels[self._chosen]
        embeddings = normalize_rows(embeddings) if self.normalize else embeddings
        measured = {"epoch": float(epoch.epoch), "n_images": float(len(labels)), "normalized": float(self.normalize)}
        measured["loss"] = epoch.loss
        values = rld(embeddings, labels, temperatures=TEMPERATURES, method="exact", device="cpu").values
        measured |= {f"rld_{t:g}": float(v) for t, v in zip(TEMPERATURES, values, strict=True)}
        ks = [k for k in KS if k < len(labels)]
        table = knn(embeddings, max(ks), metric="cosine", index="flat", device="cpu")
        measured |= {f"chi_{k}": v for k, v in class_homogeneity(table, labels, ks=ks).items()}
        measured["calinski_harabasz"] = float(calinski_harabasz(embeddings, labels))
        from clorg_scale.probes.nearest import KNNProbe  # scikit-learn, seconds that a training without measures saves

        half = len(labels) // 2
        probe = KNNProbe(VOTERS, metric="cosine", device="cpu").fit(embeddings[:half], labels[:half])
        measured["knn_accuracy"] = float(probe.score(embeddings[half:], labels[half:]))
        self.rows = [row for row in self.rows if row["epoch"] < epoch.epoch] + [measured]
        self._write()
        if self.keep_embeddings:
            self._keep(embeddings, labels, epoch.epoch)

    def _keep(self, embeddings: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], epoch: int) -> None:
        """Store embeddings; those of later epochs, of a training before, are not touched."""
        make_folder(self.folder / EMBEDDINGS)
        fits = np.abs(embeddings).max(initial=0) < np.finfo(np.float16).max
        stored = embeddings.astype(np.float16) if fits else embeddings
        metadata = {
            "epoch": epoch,
            "data": self.images.name,
            "class_names": list(self.images.classes),
            "normalized": self.normalize,
        }
        save_embeddings(self.folder / EMBEDDINGS / f"epoch-{epoch:04d}", stored, labels, metadata)

    def _embeddings(self, backbone: Backbone) -> npt.NDArray[np.float32]:
        """Embeddings (n, d) float32 of the chosen images."""
        device = next(backbone.parameters()).device
        batches = features_of(backbone, self.images, self._chosen, self.batch_size, device)
        return torch.cat(list(batches)).numpy()

    def _write(self) -> None:
        make_folder(self.folder)
        text = io.StringIO()
        writer = csv.DictWriter(text, [*self.rows[-1], "images"], lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(
            {key: f"{value:.6g}" for key, value in row.items()} | {"images": self._digest} for row in self.rows
        )
        epochs = [row["epoch"] for row in self.rows]
        how = "normalized embeddings" if self.normalize else "raw embeddings"
        panels = [
            Panel(title, {name: [row[column] for row in self.rows] for name, column in curves.items()})
            for title, curves in (
                (f"RLD by temperature, {how}", {f"T = {t:g}": f"rld_{t:g}" for t in TEMPERATURES}),
                ("Class homogeneity by k", {f"k = {k}": f"chi_{k}" for k in KS if f"chi_{k}" in self.rows[-1]}),
                ("k-NN accuracy", {"k = 20": "knn_accuracy"}),
                (f"Calinski-Harabasz, {how}", {"": "calinski_harabasz"}),
            )
        ]
        page = render_curves(
            epochs,
            panels,
            title=f"Measures of {self.images.name} along the training",
            x_title="epoch",
            kind="training",
            facts=f"{len(self._chosen):,} images · {how} · {len(self.images.classes):,} classes",
        )
        contents = {"measures.csv": text.getvalue(), "measures.html": page}
        with write_together():
            for name, content in contents.items():
                with write_whole(self.folder / name, "w") as file:
                    file.write(content)


def _digest(images: ImageSet, chosen: npt.NDArray[np.int64]) -> str:
    """Digest of the chosen images and their labels."""
    digest = hashlib.blake2b(images.digest().encode(), digest_size=8)
    digest.update(chosen.astype("<i8").tobytes() + images.labels[chosen].astype("<i8").tobytes())
    return digest.hexdigest()


def _read(path: Path, n_images: int, digest: str) -> list[dict[str, float]]:
    """Read the table that an earlier run made of the same images; empty where there is none."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        # Tables of earlier versions have no digest.
        digests = {row.pop("images") for row in table if "images" in row}
        rows = [{key: float(value) for key, value in row.items()} for row in table]
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{path} is not a table of measures of a training; remove it.") from error
    if rows and rows[-1].get("n_images") != n_images:
        raise InputError(
            f"{path} has measures of {rows[-1].get('n_images', 0):g} images, not of {n_images}; choose another folder, "
            "or remove that file."
        )
    if digests - {digest}:
        raise InputError(
            f"{path} has measures of as many, but other, images; choose another folder, or remove that file."
        )
    return rows
