"""`bench`: measure this machine and the peers, compare two measurements, write the report."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from clorg_scale.cli.app import app
from clorg_scale.cli.options import Json, Seed, print_json
from clorg_scale.cli.output import printable
from clorg_scale.errors import InputError

bench = typer.Typer(
    help="Measure clorg-scale and its peers on this machine; compare and report what was measured.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(bench, name="bench", short_help="Measure clorg-scale and its peers on this machine.")

Points = Annotated[int | None, typer.Option(help="Number of points in place of the benchmark's own.", metavar="N")]


@bench.command(name="list", short_help="The benchmarks, their sizes and how long they take.")
def list_benchmarks(*, as_json: Json = False) -> None:
    """List the benchmarks with their sizes, an estimate of their time on two cores, and the options they take."""
    found = _harness("registry").all_benchmarks()
    if as_json:
        names = ("name", "description", "sizes", "minutes")
        print_json([{name: getattr(b, name) for name in names} | {"options": sorted(b.accepts)} for b in found])
        return
    width = max(len(benchmark.name) for benchmark in found) + 2
    for benchmark in found:
        options = "".join(f" --{name}" for name in sorted(benchmark.accepts))
        takes = "; takes" + options if options else ""
        print(f"{benchmark.name:<{width}}{benchmark.description}")
        print(f"{'':<{width}}{benchmark.sizes}; about {benchmark.minutes:g} min{takes}")


@bench.command(short_help="Run benchmarks and write their records.")
def run(
    names: Annotated[list[str], typer.Argument(help="Names from 'bench list', or all.", metavar="NAMES")],
    *,
    out: Annotated[
        Path, typer.Option(help="File of records, one JSON line each; extended if it exists.", metavar="FILE")
    ] = Path("bench-records.jsonl"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, to see that everything runs; the records say so.")
    ] = False,
    repeats: Annotated[
        int | None, typer.Option(help="Repeats of each contender in place of the benchmark's own.", metavar="N")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="fashion-mnist, contrastive, supervised, mixture, compact, or an .hdf5 file of ann-benchmarks.",
            metavar="DATA",
        ),
    ] = None,
    points: Points = None,
    features: Annotated[int | None, typer.Option(help="Features of a mixture.", metavar="N")] = None,
    k: Annotated[int | None, typer.Option("-k", "--k", help="Neighbors of each point.", metavar="N")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of every library; default: all cores.", metavar="N")
    ] = None,
    peers: Annotated[bool, typer.Option(help="Measure the peers, too.")] = True,
    install_peers: Annotated[
        bool,
        typer.Option("--install-peers", help="First install the peers that are missing, in a folder of their own."),
    ] = False,
    seed: Seed = 0,
) -> None:
    """Run benchmarks, one after another; each record is printed and written as soon as it is measured.

    Contenders take turns, so that other load on the machine falls on all alike. Peers that are not installed are named.
    """
    settings = _harness("session").Settings(
        quick=quick,
        repeats=_at_least_one("--repeats", repeats),
        seed=seed,
        data=data,
        points=_at_least_one("--points", points),
        features=_at_least_one("--features", features),
        k=_at_least_one("--k", k),
        threads=_at_least_one("--threads", threads),
        peers=peers,
    )
    chosen = list(_harness("registry").MODULES) if names == ["all"] else names
    _harness("running").run_benchmarks(chosen, settings, out, install=install_peers)
    print(f"\nRecords: {printable(out)}")


@bench.command(short_help="Compare two files of records.")
def compare(
    before: Annotated[Path, typer.Argument(help="Records that are compared with.", metavar="A")],
    after: Annotated[Path, typer.Argument(help="Records that are judged.", metavar="B")],
    *,
    tolerance: Annotated[
        float, typer.Option(help="Relative increase of time, or loss of quality, that is tolerated.", metavar="NUMBER")
    ] = 0.1,
    as_json: Json = False,
) -> None:
    """Print the times of B relative to A with bounds from the repeats' spread.

    Exit code 1 where B is slower beyond the tolerance and the noise, or its quality is worse beyond the tolerance.
    """
    if not tolerance >= 0:
        raise InputError(f"--tolerance must be 0 or more, not {tolerance:g}.")
    read = _harness("gpu_records").read_any_records
    comparing = _harness("comparing")
    found = comparing.compare_records(read(before), read(after), tolerance)
    if as_json:
        print_json([vars(row) for row in found.rows])
    else:
        print(found.text())
    if found.failed:
        raise typer.Exit(1)


@bench.command(short_help="Write a page with tables and plots of records.")
def report(
    records: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of records; default: bench-records.jsonl.", metavar="FILES"),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="The page.", metavar="FILE")] = Path("bench-report.html"),
    readme: Annotated[
        Path | None,
        typer.Option(help="Write the tables between the markers of this README, too.", metavar="FILE"),
    ] = None,
) -> None:
    """Write one self-contained page: time against quality, growth with the number of points, machines side by side."""
    files = records or [Path("bench-records.jsonl")]
    read = _harness("gpu_records").read_any_records
    found = [record for file in files for record in read(file)]
    _harness("report").write_report(found, out)
    print(f"Open {printable(out)} in a browser.")
    if readme is not None:
        changed = _harness("readme").update_readme(readme, found)
        print(f"{printable(readme)}: {changed} tables written.")


def _harness(module: str) -> Any:
    """A module of the benchmarks' harness, installed as clorg_scale.bench or in a checkout."""
    try:
        return importlib.import_module(f"clorg_scale.bench.harness.{module}")
    except ModuleNotFoundError as error:
        if error.name != "clorg_scale.bench":
            raise
        raise InputError(
            "The benchmarks are not installed; install clorg-scale again (in a checkout: pip install -e .)."
        ) from None


def _at_least_one(option: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise InputError(f"{option} must be at least 1, not {value}.")
    return value
