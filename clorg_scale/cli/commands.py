"""Commands that write reports, and `doctor`."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from clorg_scale.cli.app import app
from clorg_scale.cli.options import (
    DEFAULT_TEMPERATURES,
    AllowExternal,
    Dask,
    DeviceName,
    Embeddings,
    Images,
    Json,
    Labels,
    MemoryLimit,
    Method,
    Neighbors,
    Normalize,
    Out,
    Resolution,
    Seed,
    TargetError,
    Temperatures,
    Unlabelled,
    print_json,
    read_named,
    read_temperatures,
    read_unlabelled,
)
from clorg_scale.cli.output import printable
from clorg_scale.counted import counted
from clorg_scale.errors import InputError

if TYPE_CHECKING:
    from clorg_scale.analysis import Analysis, Comparison

__all__ = ["print_comparison"]

LEAST_COMPILATION = 0.1
"""Seconds of compilation that are worth a line."""


@app.command(short_help="List what is installed and what is missing on this machine.")
def doctor(*, as_json: Json = False) -> None:
    """List what is installed and what is missing on this machine, with the pip commands for it."""
    from clorg_scale.doctor import examine

    findings = examine()
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "ok     " if finding.ok else "missing" if finding.optional else "PROBLEM"
            print(f"{mark}  {finding.name:<22} {finding.what}")
            if finding.remedy:
                print(f"{'':<9}{'':<23}-> {finding.remedy}")
    if any(not finding.ok and not finding.optional for finding in findings):
        raise typer.Exit(1)


@app.command(short_help="Analyze and compare two networks that come with the package.")
def demo(*, out: Out = Path("demo-report"), seed: Seed = 0) -> None:
    """Analyze and compare the embeddings of two networks, one contrastive, one supervised.

    The embeddings come with the package: 10,000 training images of Fashion-MNIST, and 10,000 test images to test the
    probes on.
    """
    from clorg_scale.demo import run_demo
    from clorg_scale.store.atomic import result_folder

    with result_folder(out):
        page = run_demo(out, seed=seed, progress=True)
    print(f"\nOpen {printable(page)} in a browser.")


@app.command(short_help="Analyze the embeddings of a model and write a report.")
def analyze(
    embeddings: Embeddings,
    *,
    out: Out,
    labels: Labels = None,
    test_embeddings: Annotated[
        Path | None,
        typer.Option(
            help="Points that the probes are tested on; default: a fifth of EMBEDDINGS.", metavar="EMBEDDINGS"
        ),
    ] = None,
    test_labels: Annotated[Path | None, typer.Option(help="Labels of the test embeddings.", metavar="LABELS")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model in the report; default: that of the file.", metavar="TEXT")
    ] = None,
    temperatures: Temperatures = DEFAULT_TEMPERATURES,
    method: Method = "auto",
    target_error: TargetError = 0.005,
    k: Neighbors = 15,
    communities: Annotated[
        str, typer.Option(help="Method of finding communities: leiden or louvain.", metavar="NAME")
    ] = "leiden",
    resolution: Resolution = 1.0,
    probes: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated probes (linear, knn, label_propagation, gcn, sage), or none; default: all that are "
            "installed.",
            metavar="NAME,NAME,...",
        ),
    ] = None,
    probe_study: Annotated[
        bool,
        typer.Option(
            "--probe-study",
            help="Also score the probes for several shares of labels, numbers of neighbors and temperatures.",
        ),
    ] = False,
    map_points: Annotated[
        int,
        typer.Option(
            help="Largest number of points that t-SNE lays out; all others are placed among them. 0: no map.",
            metavar="N",
        ),
    ] = 10_000,
    perplexity: Annotated[
        float,
        typer.Option(
            help="Perplexity of t-SNE: about how many neighbors of each point the map keeps near it.", metavar="NUMBER"
        ),
    ] = 30.0,
    images: Images = None,
    chi_points: Annotated[
        str,
        typer.Option(help="Number of points that class homogeneity is measured on, or all.", metavar="N"),
    ] = "5000",
    unlabelled: Unlabelled = "-1",
    normalize: Normalize = False,
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    dask: Dask = None,
    resume: Annotated[bool, typer.Option(help="Reuse the stages that an earlier run completed in FOLDER.")] = True,
    allow_external: AllowExternal = False,
    as_json: Json = False,
) -> None:
    """Compute all measures of how embeddings are organized.

    Writes analysis.json and report.html to FOLDER, and the result of each stage when it is complete: run the same
    command again to continue after an interruption.
    """
    from clorg_scale.analysis import analyze as run
    from clorg_scale.distributed import connect

    chosen = read_temperatures(temperatures)
    if test_labels is not None and test_embeddings is None:
        raise InputError("--test-labels were given without --test-embeddings; give both or neither.")
    read = partial(read_named, allow_external=allow_external)
    points = read(embeddings, labels)
    test_points = None if test_embeddings is None else read(test_embeddings, test_labels)
    with connect(dask) as client:
        result = run(
            points,
            test_embeddings=test_points,
            name=name or PurePosixPath(str(embeddings)).stem,
            temperatures=chosen,
            method=method,  # type: ignore[arg-type]
            target_error=target_error,
            k=k,
            community_method=communities,  # type: ignore[arg-type]
            resolution=resolution,
            probes=_probes(probes),
            probe_study=probe_study,
            map_points=map_points,
            perplexity=perplexity,
            chi_points=_chi_points(chi_points),
            unlabelled=read_unlabelled(unlabelled),
            normalize=normalize,
            seed=seed,
            device=device,  # type: ignore[arg-type]
            memory_limit=memory_limit,
            output=out,
            resume=resume,
            progress=True,
            client=client,
            images=images,
        )
    if as_json:
        print_json(result.to_dict())
        return
    _print_analysis(result)
    page, numbers = printable(out / "report.html"), printable(out / "analysis.json")
    print(f"\nOpen {page} in a browser; every number is in {numbers}.")


def _chi_points(text: str) -> int | None:
    """Parse a number of points; None for "all"."""
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--chi-points must be a whole number or all, not {text!r}.") from None


def _probes(text: str | None) -> list[str] | None:
    """Parse names separated by commas; an empty list for "none"."""
    if text is None:
        return None
    return [] if text == "none" else [part.strip() for part in text.split(",")]


def _print_analysis(result: Analysis) -> None:
    """Print the results of an analysis, and the time and memory of its stages."""
    from clorg_scale.report.findings import normalization

    size = f"{result.n_points:,} points of {counted(result.n_features, 'feature')}"
    size += ", normalized to length 1" if result.settings.get("normalize") else ", not normalized"
    beside = f", {result.n_unlabelled:,} unlabelled" if result.n_unlabelled else ""
    print(f"{printable(result.name)}: {size}{beside}, {len(result.classes)} classes\n")
    rows = result.quantities()
    width = max(map(len, rows))
    for quantity, value in rows.items():
        print(f"{quantity:<{width}}  {_number(value):>12}")
    error = max(result.class_homogeneity_stderr.values(), default=0.0)
    if error and result.class_homogeneity_points:
        asked = f"{result.class_homogeneity_points:,}"
        print(
            f"\nCHI on a sample of {asked} points, standard errors up to {error:.2g}; "
            "--chi-points all measures all points."
        )
    print(f"\n{normalization(result)}\n")
    for stage in result.stages:
        print(f"{stage.stage:<{width}}  {stage.seconds:10.1f} s  {stage.peak_memory_bytes / 1e9:6.2f} GB peak")
    compiling = sum(stage.compile_seconds for stage in result.stages)
    if compiling >= LEAST_COMPILATION:
        print(f"{'compilation, on first use only':<{width}}  {compiling:10.1f} s")
    found = result.issues
    if found is not None and found.n_test_in_train:
        print(
            f"\n{found.n_test_in_train:,} test points are near-duplicates of training points (leakage); 'clorg-scale "
            "issues' lists them."
        )


@app.command(short_help="Compare the analyses of several models.")
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders written by 'clorg-scale analyze'.", metavar="FOLDERS")],
    *,
    out: Out,
    images: Images = None,
    as_json: Json = False,
) -> None:
    """Compare the analyses of several models; writes comparison.html and comparison.json to FOLDER.

    Three or more checkpoints of a training, recognized by the numbers in their names, are put in this order.
    """
    from clorg_scale.analysis import Analysis
    from clorg_scale.analysis import compare as run

    analyses = [Analysis.from_json(folder) for folder in folders]
    names = [analysis.name for analysis in analyses]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise InputError("The same folder is given twice; name each model's folder once.")
    comparison = run(dict(zip(names, analyses, strict=True)))
    table = comparison.table()
    comparison.write(out, images=images)
    if as_json:
        print_json(table)
        return
    print_comparison(comparison)
    print(f"\nOpen {printable(out / 'comparison.html')} in a browser.")


def print_comparison(comparison: Comparison) -> None:
    """Print the table of a comparison."""
    table, names = comparison.table(), list(comparison.analyses)
    width = max(len(str(row["quantity"])) for row in table)
    print(f"{'':<{width}} " + " ".join(f"{printable(name):>14.14}" for name in names))
    for row in table:
        values = " ".join(f"{_number(row[name]):>14}" for name in names)
        print(f"{row['quantity']:<{width}} {values}")


def _number(value: object) -> str:
    """Format with four decimals, none for counts; a dash where there is no value."""
    if isinstance(value, float):
        return f"{value:,.4f}"
    return "-" if value is None else f"{value:,}"
