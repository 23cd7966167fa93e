"""`track`: the checkpoints of a training, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clorg_scale.cli.app import app
from clorg_scale.cli.options import (
    DeviceName,
    Images,
    Json,
    Labels,
    MemoryLimit,
    Neighbors,
    Normalize,
    Seed,
    print_json,
    read_named,
)
from clorg_scale.cli.output import printable
from clorg_scale.counted import counted
from clorg_scale.errors import InputError

__all__: list[str] = []

EMBEDDINGS = "embeddings"
"""Folder that `train --keep-embeddings` puts embeddings into."""

FILES = (".npy", ".npz", ".safetensors", ".parquet", ".h5", ".hdf5", ".h5ad", ".pt")
"""Endings of files that may be the embeddings of a checkpoint."""


@app.command(short_help="Follow the embeddings of a model during its training.")
def track(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            help="Folder of a training that ran with --keep-embeddings, folder of embeddings, or the embeddings of "
            "each checkpoint.",
            metavar="EMBEDDINGS...",
        ),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; default: 'track' in the folder.", metavar="FOLDER")
    ] = None,
    labels: Labels = None,
    probes: Annotated[
        str, typer.Option(help="Comma-separated probes, or none.", metavar="NAME,NAME,...")
    ] = "linear,knn",
    map_points: Annotated[
        int, typer.Option(help="Largest number of points on each map; 0: no maps.", metavar="N")
    ] = 2_000,
    images: Images = None,
    k: Neighbors = 15,
    normalize: Normalize = False,
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    as_json: Json = False,
) -> None:
    """Analyze the same points at each checkpoint of a training, and compare the checkpoints.

    Checkpoints are ordered by the numbers in their names. When there are more, run the same command again: only the
    new ones are computed. Writes a folder for each checkpoint, comparison.html and comparison.json to FOLDER.
    """
    from clorg_scale.analysis import track as run

    found = _checkpoints(checkpoints)
    if out is None:
        if len(checkpoints) > 1:
            raise InputError("Give --out, the folder for the results of several files.")
        out = checkpoints[0] / "track"
    if labels is not None:
        found = {name: path for name, path in found.items() if path.resolve() != labels.resolve()}
    comparison = run(
        {name: read_named(path, labels) for name, path in found.items()},
        output=out,
        probes=[] if probes == "none" else [part.strip() for part in probes.split(",")],
        map_points=map_points,
        images=images,
        k=k,
        normalize=normalize,
        seed=seed,
        device=device,
        memory_limit=memory_limit,
        progress=True,
    )
    if as_json:
        print_json(comparison.table())
        return
    from clorg_scale.cli.commands import print_comparison

    print_comparison(comparison)
    print(f"\nOpen {printable(out / 'comparison.html')} in a browser.")


def _checkpoints(given: list[Path]) -> dict[str, Path]:
    """Embeddings of each checkpoint by its name, in the order of the numbers in the names."""
    from clorg_scale.analysis.order import natural_key
    from clorg_scale.store.layout import METADATA

    def is_embeddings(path: Path) -> bool:
        return (path / METADATA).is_file() if path.is_dir() else path.suffix.lower() in FILES

    paths = given
    if len(given) == 1:
        folder = given[0]
        if not folder.is_dir():
            raise InputError(
                f"{folder} is not a folder; give that of a training, or the embeddings of each checkpoint."
            )
        if (folder / "analysis.json").is_file():
            raise InputError(
                f"{folder} is an analysis of one model; give the folder of a training, or the embeddings of each "
                "checkpoint ('clorg-scale compare' takes analyses)."
            )
        inner = folder / EMBEDDINGS if (folder / EMBEDDINGS).is_dir() else folder
        paths = [path for path in inner.iterdir() if is_embeddings(path) and not path.name.startswith(".")]
        if inner == folder:
            paths = [path for path in paths if path.name != "checkpoint.pt"]
        if len(paths) < 2:
            raise InputError(
                f"{folder} holds embeddings of {counted(len(paths), 'checkpoint')}, and a trajectory needs 2 or more; "
                "train with --keep-embeddings, or give the embeddings of each checkpoint."
            )
    names = [path.name if path.is_dir() else path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [str(path.with_suffix("") if path.is_file() else path).strip("/.").replace("/", "-") for path in paths]
    if len(set(names)) < len(names):
        raise InputError("The same checkpoint is given twice; name each once.")
    return dict(sorted(zip(names, paths, strict=True), key=lambda pair: natural_key(pair[0])))
