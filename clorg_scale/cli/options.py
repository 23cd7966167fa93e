"""What the commands' arguments have in common: their types, and reading what they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from clorg_scale.errors import InputError

__all__ = [
    "DEFAULT_TEMPERATURES",
    "Dask",
    "DeviceName",
    "Embeddings",
    "Json",
    "Labels",
    "MemoryLimit",
    "Method",
    "Neighbors",
    "Out",
    "Resolution",
    "Seed",
    "TargetError",
    "Temperatures",
    "Unlabelled",
    "print_json",
    "print_table",
    "read_labelled",
    "read_points",
    "read_temperatures",
    "read_unlabelled",
]


def _checked_seed(seed: int) -> int:
    """Refuse a seed that some library does not take."""
    from clorg_scale.analysis.inputs import MOST_SEED, check_whole

    check_whole("--seed", seed, 0, MOST_SEED)
    return seed


Embeddings = Annotated[
    Path,
    typer.Argument(
        help="Store folder, .npy, .npz, .safetensors, Zarr, Parquet, HDF5 or .h5ad; FILE:NAME picks an array.",
        metavar="EMBEDDINGS",
        show_default=False,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Labels: .npy, .npz, .txt, .csv, .tsv, .json or .parquet, or the name of an array in EMBEDDINGS; "
        "default: those stored with them. -1 means unlabelled (see --unlabelled).",
        metavar="LABELS",
    ),
]
Temperatures = Annotated[str, typer.Option(help="Temperatures of RLD, separated by commas.", metavar="T,T,...")]
Method = Annotated[str, typer.Option(help="auto, exact, sampled or graph.", metavar="NAME")]
TargetError = Annotated[float, typer.Option(help="Half-width of the 95 % interval of sampled RLD.", metavar="NUMBER")]
Neighbors = Annotated[int, typer.Option("--k", help="Neighbours per point.", metavar="K")]
Resolution = Annotated[float, typer.Option(help="Larger gives more, smaller communities.", metavar="NUMBER")]
Seed = Annotated[int, typer.Option(help="Of everything random.", callback=_checked_seed, metavar="NUMBER")]
Unlabelled = Annotated[
    str,
    typer.Option(help="The label of points without a class; none: every label, -1 too, is a class.", metavar="LABEL"),
]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.", metavar="NAME")]
MemoryLimit = Annotated[
    str | None,
    typer.Option(help="Memory to take beside the embeddings, such as 8GB; default: what is free.", metavar="SIZE"),
]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        help="Share the work among Dask workers: the scheduler's address, local (workers on this machine) or cuda "
        "(one for each of its GPUs).",
        metavar="ADDRESS",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.", metavar="FOLDER")]

DEFAULT_TEMPERATURES = "1,0.5,0.2,0.1,0.05"


def read_points(embeddings: Path, labels: Path | None = None) -> tuple[Any, Any]:
    """Embeddings of a file, checked, and their labels, None where there are none.

    Raises
    ------
    InputError
        For what cannot be read, NaN, points that are all identical or beyond the range of numbers.
    """
    from clorg_scale.analysis.inputs import check_spread
    from clorg_scale.arrays import column_means
    from clorg_scale.store import load_embeddings

    stored = load_embeddings(embeddings, labels=labels)
    column_means(stored.embeddings)  # finds NaN and infinite values
    check_spread(stored.embeddings)
    return stored.embeddings, stored.labels


def read_labelled(embeddings: Path, labels: Path | None) -> tuple[Any, Any]:
    """Embeddings and labels of a file, unchecked; both must be there.

    Raises
    ------
    InputError
        If there are no labels, or a file cannot be read.
    """
    from clorg_scale.store import load_embeddings

    stored = load_embeddings(embeddings, labels=labels)
    if stored.labels is None:
        raise InputError(f"{embeddings} holds no labels; give them with --labels FILE.")
    return stored.embeddings, stored.labels


def read_temperatures(text: str) -> list[float]:
    """Numbers separated by commas.

    Raises
    ------
    InputError
        If one of them is none.
    """
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"The temperatures must be numbers separated by commas, not {text!r}.") from None


def read_unlabelled(text: str) -> int | str | None:
    """The label of points without a class; None for "none"."""
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        return text


def print_json(value: Any) -> None:
    """Print for a machine; NaN, which JSON lacks, never occurs."""
    print(json.dumps(value, indent=1, allow_nan=False))


def print_table(rows: list[tuple[str, str]]) -> None:
    """Print a name and a value a line."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
