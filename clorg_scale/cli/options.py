"""What the commands' arguments have in common: their types, and reading what they name."""

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
    """Refuse a seed that some library does not take."""
    from clorg_scale.whole import MOST_SEED, whole_number

    return whole_number("--seed", seed, 0, MOST_SEED)


def _checked_folder(path: Path) -> Path:
    """Refuse a folder that is named like a file."""
    from clorg_scale.store.endings import check_folder_name

    check_folder_name(path)
    return path


Embeddings = Annotated[
    Path,
    typer.Argument(
        help="Store folder, .npy, .npz, .safetensors, .pt, Zarr, Parquet, HDF5 or .h5ad; FILE:NAME picks an array.",
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
AllowExternal = Annotated[
    bool,
    typer.Option(
        "--allow-external",
        help="Read what HDF5 files and Zarr stores take from other files, which may be any file of this machine.",
    ),
]
Temperatures = Annotated[str, typer.Option(help="Temperatures of RLD, separated by commas.", metavar="T,T,...")]
Method = Annotated[str, typer.Option(help="auto, exact, sampled or graph.", metavar="NAME")]
TargetError = Annotated[float, typer.Option(help="Half-width of the 95 % interval of sampled RLD.", metavar="NUMBER")]
Neighbors = Annotated[int, typer.Option("--k", help="Neighbors per point.", metavar="K")]
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
Out = Annotated[Path, typer.Option(help="Folder for the results.", callback=_checked_folder, metavar="FOLDER")]

LISTED_COLUMNS = 8
"""Columns of a table that the line about it names."""

DEFAULT_TEMPERATURES = "1,0.5,0.2,0.1,0.05"


def watch_points(points: Any) -> Unchanged:
    """Watch the file that embeddings lie in while the block computes on them."""
    from clorg_scale.analysis.fingerprint import Unchanged

    return Unchanged({"embeddings": points})


def read_points(
    embeddings: Path, labels: Path | Literal[False] | None = None, *, allow_external: bool = False
) -> tuple[Any, Any]:
    """Embeddings of a file, checked, and their labels, None where there are none or `labels` is False.

    Raises
    ------
    InputError
        For what cannot be read, NaN, points that are all identical or beyond the range of numbers.
    """
    stored = read_checked(embeddings, labels, allow_external=allow_external)
    return stored.embeddings, stored.labels


def read_checked(
    embeddings: Path, labels: Path | Literal[False] | None = None, *, allow_external: bool = False
) -> StoredEmbeddings:
    """As `read_points`, with the names of the classes."""
    from clorg_scale.analysis.inputs import check_spread
    from clorg_scale.arrays import column_means
    from clorg_scale.cli.lost_pages import explain_lost_pages
    from clorg_scale.store import load_embeddings

    stored = load_embeddings(embeddings, labels=labels, allow_external=allow_external)
    explain_lost_pages(stored.embeddings)
    column_means(stored.embeddings)  # finds NaN and infinite values
    check_spread(stored.embeddings)
    _tell_columns(embeddings, labels, stored.metadata)
    return stored


def read_labeled(embeddings: Path, labels: Path | None, *, allow_external: bool = False) -> tuple[Any, Any]:
    """Embeddings and labels of a file, unchecked; both must be there.

    Raises
    ------
    InputError
        If there are no labels, or a file cannot be read.
    """
    stored = read_named(embeddings, labels, allow_external=allow_external)
    return stored.embeddings, stored.labels


def read_named(embeddings: Path, labels: Path | None, *, allow_external: bool = False) -> StoredEmbeddings:
    """As `read_labeled`, with the names of the classes."""
    from clorg_scale.cli.lost_pages import explain_lost_pages
    from clorg_scale.store import load_embeddings

    stored = load_embeddings(embeddings, labels=labels, allow_external=allow_external)
    explain_lost_pages(stored.embeddings)
    if stored.labels is None:
        raise InputError(f"{embeddings} holds no labels; give them with --labels FILE.")
    _tell_columns(embeddings, labels, stored.metadata)
    return stored


def _tell_columns(embeddings: Path, labels: object, metadata: dict[str, Any]) -> None:
    """Tell on the terminal which columns of tables were taken and which were left out, in a line for each table."""
    if columns := metadata.get("columns"):
        _tell_table(embeddings, "embeddings", columns)
    if (columns := metadata.get("label_columns")) and columns["left_out"]:
        _tell_table(labels, "labels", columns)


def _tell_table(path: object, what: str, columns: dict[str, Any]) -> None:
    """One line on what a table was read as."""
    taken = columns["taken"]
    many = f"{len(taken)} columns, " if len(taken) > 1 else ""
    parts = [f"{what} from {many}{_names(map(repr, taken))}"]
    if "labels" in columns:
        parts.append(f"labels from {columns['labels']!r}")
    if columns["left_out"]:
        parts.append("left out: " + _names(f"{name!r} ({why})" for name, why in columns["left_out"].items()))
    print(f"{path}: {'; '.join(parts)}.", file=sys.stderr)


def _names(names: Iterable[str]) -> str:
    """Names for a line, and how many more there are."""
    some = list(names)
    more = f" and {len(some) - LISTED_COLUMNS} more" if len(some) > LISTED_COLUMNS else ""
    return ", ".join(some[:LISTED_COLUMNS]) + more


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
    # JSON escapes all control characters but this one.
    print(json.dumps(value, indent=1, allow_nan=False).replace("\x7f", "\\u007f"))


def print_table(rows: list[tuple[str, str]]) -> None:
    """Print a name and a value a line."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {printable(value)}")
