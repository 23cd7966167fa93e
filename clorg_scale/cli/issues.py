"""The command `issues`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clorg_scale.cli.app import app
from clorg_scale.cli.options import (
    AllowExternal,
    Dask,
    DeviceName,
    Embeddings,
    Json,
    Labels,
    MemoryLimit,
    Neighbors,
    Normalize,
    Seed,
    Unlabelled,
    print_json,
    read_checked,
    read_unlabelled,
    watch_points,
)
from clorg_scale.cli.output import printable
from clorg_scale.counted import counted
from clorg_scale.errors import InputError

if TYPE_CHECKING:
    from clorg_scale.issues import Issues

__all__: list[str] = []

LISTED = 10
"""Rows of each table that are printed."""


@app.command(short_help="Find wrong labels, near-duplicates, outliers and overlapping classes.")
def issues(
    embeddings: Embeddings,
    *,
    labels: Labels = None,
    test_embeddings: Annotated[
        Path | None,
        typer.Option(help="Test set: its near-duplicates among EMBEDDINGS are reported.", metavar="EMBEDDINGS"),
    ] = None,
    test_labels: Annotated[Path | None, typer.Option(help="Labels of the test embeddings.", metavar="LABELS")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .csv, .tsv or .parquet with one line for each point, .json with the issues "
            "(and the values of all points beside it in NAME_arrays.npz).",
            metavar="FILE.csv",
        ),
    ] = None,
    k: Neighbors = 15,
    unlabelled: Unlabelled = "-1",
    normalize: Normalize = False,
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    dask: Dask = None,
    allow_external: AllowExternal = False,
    as_json: Json = False,
) -> None:
    """Find suspicious labels, near-duplicates, outliers and overlapping classes among all points.

    A label score is the calibrated probability of the label that a point was given; labels with small scores are
    suspicious. Unlabelled points get a suggested label.
    """
    from clorg_scale.cli.files import check_file
    from clorg_scale.distributed import connect
    from clorg_scale.issues import find_issues
    from clorg_scale.issues.exports import ISSUE_FILES, check_packages, write

    check_file(out, ISSUE_FILES)
    check_packages(out)
    if test_labels is not None and test_embeddings is None:
        raise InputError("--test-labels were given without --test-embeddings; give both or neither.")
    stored = read_checked(embeddings, labels, allow_external=allow_external)
    if stored.labels is None:
        raise InputError(f"{embeddings} holds no labels; give them with --labels FILE.")
    test = None
    if test_embeddings is not None:
        test = read_checked(test_embeddings, test_labels, allow_external=allow_external)
    with watch_points(stored.embeddings), connect(dask) as client:
        found = find_issues(
            stored,
            test_embeddings=test,
            k=k,
            unlabelled=read_unlabelled(unlabelled),
            normalize=normalize,
            seed=seed,
            device=device,  # type: ignore[arg-type]
            memory_limit=memory_limit,
            progress=True,
            client=client,
        )
    if out is not None:
        write(found, out)
    if as_json:
        print_json(found.to_dict())
        return
    _print_issues(found)
    if out is not None:
        what = "the issues are" if out.suffix.lower() == ".json" else "all points are"
        print(f"\n{what.capitalize()} in {printable(out)}.")


def _print_issues(found: Issues) -> None:
    """Print the number of issues of each kind, and the worst of them."""
    counts = found.counts()
    print(f"{found.n_points:,} points in {len(found.classes):,} classes", end="")
    print(f", {counts['unlabelled']:,} of them unlabelled\n" if counts["unlabelled"] else "\n")
    _print_rows(
        f"{counted(counts['label_issues'], 'label issue')}: another class is as probable as it is for its own points",
        found.label_issues,
        {"index": "row", "given_label": "label", "suggested_label": "suggested", "label_score": "label score"},
    )
    near = found.near_duplicates
    of_test = f", with {counted(int(near['in_test'].sum()), 'test point')}" if near["in_test"].any() else ""
    _print_rows(
        f"{counted(counts['near_duplicates'], 'near-duplicate')} in {counted(counts['near_duplicate_sets'], 'set')}"
        + of_test,
        near,
        {"set": "set", "index": "row", "label": "label", "distance": "nearest"}
        | ({"in_test": "test"} if found.test_given is not None else {}),
    )
    if found.test_given is not None:
        leaked = counts["test_points_in_train"]
        _print_rows(
            f"{leaked:,} of {len(found.test_given):,} test points {'has' if leaked == 1 else 'have'} a near-duplicate "
            "among the points: leakage",
            found.leaks,
            {"test_index": "test row", "index": "row", "test_label": "test label", "label": "label"}
            | {"distance": "distance"},
        )
    _print_rows(
        counted(counts["outliers"], "outlier"),
        found.outliers,
        {"index": "row", "label": "label", "outlier_factor": "local factor", "isolation": "isolation"},
    )
    _print_rows(
        "Classes that overlap most: share of the affinity of the two that is between them",
        found.class_overlap,
        {"first_class": "class", "second_class": "and", "overlap": "overlap"}
        | {"n_first_as_second": "-> issues", "n_second_as_first": "<- issues"},
    )
    _print_rows(
        "Look-alikes of different classes",
        found.look_alikes,
        {"index": "row", "other": "and", "label": "label", "other_label": "label of it", "distance": "distance"},
    )


def _print_rows(title: str, table: Any, columns: dict[str, str]) -> None:
    """Print the first rows of a table beneath a title, and how many more there are."""
    print(title)
    if len(table):
        shown = [list(columns.values())]
        shown += [[_cell(row[name]) for name in columns] for row in table[:LISTED]]
        widths = [max(len(row[i]) for row in shown) for i in range(len(columns))]
        for row in shown:
            print("  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))
        if len(table) > LISTED:
            print(f"  ... and {len(table) - LISTED:,} more")
    print()


def _cell(value: Any) -> str:
    """Numbers with four digits, names as they can be printed."""
    plain = value.item()
    if isinstance(plain, float):
        return f"{plain:.4g}"
    return ("yes" if plain else "") if isinstance(plain, bool) else printable(plain)
