"""Options that the commands share, and reading of the files that they name."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clorg_scale.cli.output import printable
from clorg_scale.errors import InputError

if TYPE_CHECKING:
    from clorg_scale.analysis.fingerprint import Unchanged
    from clorg_scale.store import StoredEmbeddings

__all__ = [
    "DEFAULT_TEMPERATURES",
    "AllowExternal",
    "Dask",
    "DeviceName",
    "Embeddings",
    "Json",
    "Labels",
    "MemoryLimit",
    "Method",
    "Neighbors",
    "Normalize",
    "Out",
    "Resolution",
    "Seed",
    "TargetError",
    "Temperatures",
    "Unlabelled",
    "print_json",
    "print_table",
    "read_checked",
    "read_labeled",
    "read_named",
    "read_points",
    "read_temperatures",
    "read_unlabelled",
    "watch_points",
]


def _checked_seed(seed: int) -> int:
    """Refuse a seed that some library does not accept."""
    from clorg_scale.whole import MOST_SEED, whole_number

    return whole_number("--seed", seed, 0, MOST_SEED)


def _checked_folder(path: Path) -> Path:
    """Refuse a folder with the name of a file."""
    from clorg_scale.store.endings import check_folder_name

    check_folder_name(path)
    return path


def _path_or_address(text: str) -> Path | str:
    """Path of a file or folder, or an address, in which a path would lose a slash."""
    return text if "://" in text else Path(text)


Embeddings = Annotated[
    Path,
    typer.Argument(
        parser=_path_or_address,
        help="Folder written by clorg-scale, or .npy, .npz, .safetensors, .pt, Zarr, Parquet, HDF5 or .h5ad; FILE:NAME "
        "selects an array in a file; or an address (s3://, gs://, ...) of .npy, Zarr or Parquet.",
        metavar="EMBEDDINGS",
        show_default=False,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="File of labels (.npy, .npz, .txt, .csv, .tsv, .json or .parquet), or name of an array in EMBEDDINGS; "
        "default: the labels stored with the embeddings. -1 means unlabelled (see --unlabelled).",
        metavar="LABELS",
    ),
]
AllowExternal = Annotated[
    bool,
    typer.Option(
        "--allow-external",
        help="Follow links of HDF5 files and Zarr stores to other files, which may be any files on this machine.",
    ),
]
Temperatures = Annotated[str, typer.Option(help="Comma-separated temperatures of RLD.", metavar="T,T,...")]
Method = Annotated[str, typer.Option(help="Method of computing RLD: auto, exact, sampled or graph.", metavar="NAME")]
TargetError = Annotated[
    float, typer.Option(help="Half-width of the 95 % confidence interval that sampled RLD aims at.", metavar="NUMBER")
]
Neighbors = Annotated[int, typer.Option("--k", help="Number of neighbors of each point.", metavar="K")]
Resolution = Annotated[
    float,
    typer.Option(help="Resolution of the communities: larger values give more, smaller communities.", metavar="NUMBER"),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.", callback=_checked_seed, metavar="NUMBER")]
Unlabelled = Annotated[
    str,
    typer.Option(
        help="Label of the points without a class; with none, every label is a class, including -1.", metavar="LABEL"
    ),
]
DeviceName = Annotated[str, typer.Option("--device", help="Where to compute: auto, cpu or cuda.", metavar="NAME")]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        help="Memory to use in addition to the embeddings, such as 8GB; default: all that is free.", metavar="SIZE"
    ),
]
Normalize = Annotated[
    bool,
    typer.Option("--normalize", help="Divide each embedding by its Euclidean length first (L2), as the paper does."),
]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        help="Distribute the work over Dask workers: the address of a scheduler, local (workers on this machine) or "
        "cuda (a worker for each GPU of this machine).",
        metavar="ADDRESS",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.", callback=_checked_folder, metavar="FOLDER")]

Images = Annotated[
    Path | None,
    typer.Option(
        help="Images of the points, in their order, to show in the report: a folder, an idx or a Parquet file.",
        metavar="FOLDER|FILE",
    ),
]

LISTED_COLUMNS = 8
"""Largest number of columns that a line about a table names."""

DEFAULT_TEMPERATURES = "1,0.5,0.2,0.1,0.05"


def watch_points(points: Any) -> Unchanged:
    """Watch the file of memory-mapped embeddings while the block computes on them."""
    from clorg_scale.analysis.fingerprint import Unchanged

    return Unchanged({} if isinstance(points, str) else {"embeddings": points})


def read_points(
    embeddings: Path,
    labels: Path | Literal[False] | None = None,
    *,
    allow_external: bool = False,
    by_workers: bool = False,
) -> tuple[Any, Any]:
    """Read and check embeddings, and read their labels; None without labels, or where `labels` is False.

    Raises
    ------
    InputError
        If a file cannot be read, values are not finite or out of range, or all points are identical.
    """
    stored = read_checked(embeddings, labels, allow_external=allow_external, by_workers=by_workers)
    return stored.embeddings, stored.labels


def read_checked(
    embeddings: Path,
    labels: Path | Literal[False] | None = None,
    *,
    allow_external: bool = False,
    by_workers: bool = False,
) -> StoredEmbeddings:
    """Read as `read_points`, with the names of the classes.

    With `by_workers`, embeddings at an address stay one: the workers of a cluster read and check them.
    """
    from clorg_scale.analysis.inputs import check_spread
    from clorg_scale.arrays import column_means
    from clorg_scale.cli.lost_pages import explain_lost_pages
    from clorg_scale.store import load_embeddings
    from clorg_scale.store.load import address_of, open_address

    address = address_of(embeddings) if by_workers else None
    if address is not None:
        return open_address(address, labels, allow_external=allow_external, copied=False)
    stored = load_embeddings(embeddings, labels=labels, allow_external=allow_external)
    explain_lost_pages(stored.embeddings)
    column_means(stored.embeddings)  # finds NaN and infinite values
    check_spread(stored.embeddings)
    _report_columns(embeddings, labels, stored.metadata)
    return stored


def read_labeled(embeddings: Path, labels: Path | None, *, allow_external: bool = False) -> tuple[Any, Any]:
    """Read embeddings and labels without checking them; both are required.

    Raises
    ------
    InputError
        If there are no labels, or a file cannot be read.
    """
    stored = read_named(embeddings, labels, allow_external=allow_external)
    return stored.embeddings, stored.labels


def read_named(embeddings: Path, labels: Path | None, *, allow_external: bool = False) -> StoredEmbeddings:
    """Read as `read_labeled`, with the names of the classes."""
    from clorg_scale.cli.lost_pages import explain_lost_pages
    from clorg_scale.store import load_embeddings

    stored = load_embeddings(embeddings, labels=labels, allow_external=allow_external)
    explain_lost_pages(stored.embeddings)
    if stored.labels is None:
        raise InputError(f"{embeddings} holds no labels; give them with --labels FILE.")
    _report_columns(embeddings, labels, stored.metadata)
    return stored


def _report_columns(embeddings: Path, labels: object, metadata: dict[str, Any]) -> None:
    """Print on stderr which columns of tables were used and which were left out, one line per table."""
    if columns := metadata.get("columns"):
        _report_table(embeddings, "embeddings", columns)
    if (columns := metadata.get("label_columns")) and columns["left_out"]:
        _report_table(labels, "labels", columns)


def _report_table(path: object, what: str, columns: dict[str, Any]) -> None:
    """Print which columns of a table were used."""
    taken = columns["taken"]
    many = f"{len(taken)} columns, " if len(taken) > 1 else ""
    clauses = [f"{what} from {many}{_names(map(repr, taken))}"]
    if "labels" in columns:
        clauses.append(f"labels from {columns['labels']!r}")
    if columns["left_out"]:
        clauses.append("left out: " + _names(f"{name!r} ({why})" for name, why in columns["left_out"].items()))
    print(f"{path}: {'; '.join(clauses)}.", file=sys.stderr)


def _names(names: Iterable[str]) -> str:
    """Join the first names, and count the others."""
    some = list(names)
    more = f" and {len(some) - LISTED_COLUMNS} more" if len(some) > LISTED_COLUMNS else ""
    return ", ".join(some[:LISTED_COLUMNS]) + more


def read_temperatures(text: str) -> list[float]:
    """Parse numbers separated by commas.

    Raises
    ------
    InputError
        If one of them is not a number.
    """
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"The temperatures must be numbers separated by commas, not {text!r}.") from None


def read_unlabelled(text: str) -> int | str | None:
    """Parse the label of points without a class; None for "none"."""
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        return text


def print_json(value: Any) -> None:
    """Print JSON; NaN, which JSON lacks, never occurs."""
    # JSON escapes all control characters except this one.
    print(json.dumps(value, indent=1, allow_nan=False).replace("\x7f", "\\u007f"))


def print_table(rows: list[tuple[str, str]]) -> None:
    """Print one name and value per line."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {printable(value)}")
