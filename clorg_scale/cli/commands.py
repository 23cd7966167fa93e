"""The commands that lead to a report, and the look at the machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clorg_scale.cli.app import app
from clorg_scale.cli.options import (
    DEFAULT_TEMPERATURES,
    AllowExternal,
    Dask,
    DeviceName,
    Embeddings,
    Json,
    Labels,
    MemoryLimit,
    Method,
    Neighbors,
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
from clorg_scale.errors import InputError

if TYPE_CHECKING:
    from clorg_scale.analysis import Analysis

__all__: list[str] = []


@app.command(short_help="What this machine has and what is missing.")
def doctor(*, as_json: Json = False) -> None:
    """Say what this machine has, what is missing, and the pip line for it."""
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


@app.command(short_help="Two networks compared, one contrastive, one supervised.")
def demo(*, out: Out = Path("demo-report"), seed: Seed = 0) -> None:
    """Analyse the embeddings of two networks, one contrastive, one supervised, and compare them.

    They ship with the package: 10,000 training images of Fashion-MNIST, and 10,000 test images for the probes.
    """
    from clorg_scale.demo import run_demo
    from clorg_scale.store.atomic import result_folder

    with result_folder(out):
        page = run_demo(out, seed=seed, progress=True)
    print(f"\nOpen {printable(page)} in a browser.")


@app.command(short_help="Everything about one model's embeddings, with a report.")
def analyze(
    embeddings: Embeddings,
    *,
    out: Out,
    labels: Labels = None,
    test_embeddings: Annotated[
        Path | None,
        typer.Option(
            help="Points that the probes are scored on; default: a fifth of EMBEDDINGS.", metavar="EMBEDDINGS"
        ),
    ] = None,
    test_labels: Annotated[Path | None, typer.Option(help="Their labels.", metavar="LABELS")] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the model, in the report; default: the file's.", metavar="TEXT")
    ] = None,
    temperatures: Temperatures = DEFAULT_TEMPERATURES,
    method: Method = "auto",
    target_error: TargetError = 0.005,
    k: Neighbors = 15,
    communities: Annotated[str, typer.Option(help="leiden or louvain.", metavar="NAME")] = "leiden",
    resolution: Resolution = 1.0,
    probes: Annotated[
        str | None,
        typer.Option(
            help="Out of linear, knn, label_propagation, gcn and sage, separated by commas, or none; "
            "default: all that are installed.",
            metavar="NAME,NAME,...",
        ),
    ] = None,
    probe_study: Annotated[
        bool, typer.Option("--probe-study", help="Probes also by share of labels, neighbors and temperature.")
    ] = False,
    map_points: Annotated[int, typer.Option(help="Points on the map, at most; 0 draws none.", metavar="N")] = 10_000,
    chi_points: Annotated[
        str,
        typer.Option(help="Points asked for their neighbors' classes (class homogeneity), or all.", metavar="N"),
    ] = "5000",
    unlabelled: Unlabelled = "-1",
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    dask: Dask = None,
    resume: Annotated[bool, typer.Option(help="Take finished stages of an earlier run from FOLDER.")] = True,
    allow_external: AllowExternal = False,
    as_json: Json = False,
) -> None:
    """Compute everything that is known of how embeddings are organized.

    Writes analysis.json and report.html into FOLDER, and each finished stage: the same command, run again after it
    was stopped, goes on where it was.
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
            points, test_embeddings=test_points, name=name or embeddings.stem,
            temperatures=chosen, method=method, target_error=target_error, k=k,  # type: ignore[arg-type]
            community_method=communities, resolution=resolution, probes=_probes(probes),  # type: ignore[arg-type]
            probe_study=probe_study, map_points=map_points, chi_points=_chi_points(chi_points),
            unlabelled=read_unlabelled(unlabelled), seed=seed, device=device, memory_limit=memory_limit,  # type: ignore[arg-type]
            output=out, resume=resume, progress=True, client=client,
        )  # fmt: skip
    if as_json:
        print_json(result.to_dict())
        return
    _print_analysis(result)
    page, numbers = printable(out / "report.html"), printable(out / "analysis.json")
    print(f"\nOpen {page} in a browser; every number is in {numbers}.")


def _chi_points(text: str) -> int | None:
    """A number of points; None for "all"."""
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--chi-points must be a whole number or all, not {text!r}.") from None


def _probes(text: str | None) -> list[str] | None:
    """Names separated by commas; no probe for "none"."""
    if text is None:
        return None
    return [] if text == "none" else [part.strip() for part in text.split(",")]


def _print_analysis(result: Analysis) -> None:
    """What an analysis found, and what it took."""
    from clorg_scale.analysis.comparison import quantities

    size = f"{result.n_points:,} points of {result.n_features:,} features"
    beside = f", {result.n_unlabelled:,} unlabelled" if result.n_unlabelled else ""
    print(f"{printable(result.name)}: {size}{beside}, {len(result.classes)} classes\n")
    rows = quantities(result)
    width = max(map(len, rows))
    for quantity, value in rows.items():
        print(f"{quantity:<{width}}  {_number(value):>12}")
    error = max(result.class_homogeneity_stderr.values(), default=0.0)
    if error and result.class_homogeneity_points:
        asked = f"{result.class_homogeneity_points:,}"
        print(f"\nCHI of a sample of {asked} points, standard errors up to {error:.2g}; --chi-points all asks all.")
    print()
    for stage in result.stages:
        print(f"{stage.stage:<{width}}  {stage.seconds:10.1f} s  {stage.peak_memory_bytes / 1e9:6.2f} GB peak")


@app.command(short_help="Analyses of several models side by side.")
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders that 'clorg-scale analyze' wrote.", metavar="FOLDERS")],
    *,
    out: Out,
    as_json: Json = False,
) -> None:
    """Put analyses of several models side by side; writes comparison.html and comparison.json."""
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
    comparison.write(out)
    if as_json:
        print_json(table)
        return
    width = max(len(str(row["quantity"])) for row in table)
    print(f"{'':<{width}} " + " ".join(f"{printable(name):>14.14}" for name in names))
    for row in table:
        values = " ".join(f"{_number(row[name]):>14}" for name in names)
        print(f"{row['quantity']:<{width}} {values}")
    print(f"\nOpen {printable(out / 'comparison.html')} in a browser.")


def _number(value: object) -> str:
    """Four digits, none for counts; a dash where there is no value."""
    if isinstance(value, float):
        return f"{value:,.4f}"
    return "-" if value is None else f"{value:,}"
