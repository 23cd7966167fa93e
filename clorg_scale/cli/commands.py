"""The commands, each a thin layer over one public function."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clorg_scale.cli.app import app
from clorg_scale.errors import InputError

__all__: list[str] = []

Embeddings = Annotated[
    Path,
    typer.Argument(help="Store folder, .npy, .npz, .safetensors, Zarr, Parquet or .h5ad; FILE:NAME picks an array."),
]
Labels = Annotated[
    Path | None, typer.Option(help="Labels: .npy, .npz, .txt, .csv, .json or .parquet; default: in the store.")
]
Temperatures = Annotated[str, typer.Option(help="Temperatures of RLD, separated by commas.")]
Method = Annotated[str, typer.Option(help="auto, exact, sampled or graph.")]
TargetError = Annotated[float, typer.Option(help="Half-width of the 95 % interval of sampled RLD.")]
Neighbors = Annotated[int, typer.Option("--k", help="Neighbours per point.")]
Resolution = Annotated[float, typer.Option(help="Larger gives more, smaller communities.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
MemoryLimit = Annotated[str | None, typer.Option(help="Memory to take beside the embeddings, such as 8GB.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
OutFile = Annotated[Path | None, typer.Option(help="File for the result.")]

DEFAULT_TEMPERATURES = "1,0.5,0.2,0.1,0.05"


@app.command()
def doctor(*, as_json: Json = False) -> None:
    """Say what was found, what is missing, and the pip line for it."""
    from clorg_scale.doctor import examine

    findings = examine()
    if as_json:
        _print_json([vars(finding) for finding in findings])
        return
    for finding in findings:
        mark = "ok     " if finding.ok else "missing" if finding.optional else "PROBLEM"
        print(f"{mark}  {finding.name:<22} {finding.what}")
        if finding.remedy:
            print(f"{'':<9}{'':<23}-> {finding.remedy}")
    if any(not finding.ok and not finding.optional for finding in findings):
        raise typer.Exit(1)


@app.command()
def demo(*, out: Out = Path("demo-report"), seed: Seed = 0) -> None:
    """Analyse two organisations of the same real images and compare them."""
    from clorg_scale.demo import run_demo

    page = run_demo(out, seed=seed, progress=sys.stderr.isatty())
    print(f"\nOpen {page} in a browser.")


@app.command()
def analyze(
    embeddings: Embeddings,
    *,
    out: Out,
    labels: Labels = None,
    test_embeddings: Annotated[Path | None, typer.Option(help="Points that the probes are scored on.")] = None,
    test_labels: Annotated[Path | None, typer.Option(help="Their labels.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the model, in the report; default: the file's.")] = None,
    temperatures: Temperatures = DEFAULT_TEMPERATURES,
    method: Method = "auto",
    target_error: TargetError = 0.005,
    k: Neighbors = 15,
    communities: Annotated[str, typer.Option(help="leiden or louvain.")] = "leiden",
    resolution: Resolution = 1.0,
    map_points: Annotated[int, typer.Option(help="Points on the map, at most.")] = 10_000,
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    resume: Annotated[bool, typer.Option(help="Take finished stages of an earlier run from the folder.")] = True,
    as_json: Json = False,
) -> None:
    """Compute everything; writes OUT/analysis.json and OUT/report.html."""
    from clorg_scale.analysis import analyze as run

    points, classes = _points(embeddings, labels)
    test_points, test_classes = (None, None) if test_embeddings is None else _points(test_embeddings, test_labels)
    result = run(
        points, classes, test_embeddings=test_points, test_labels=test_classes, name=name or embeddings.stem,
        temperatures=_temperatures(temperatures), method=method, target_error=target_error, k=k,  # type: ignore[arg-type]
        community_method=communities, resolution=resolution, map_points=map_points, seed=seed,  # type: ignore[arg-type]
        device=device, memory_limit=memory_limit, output=out, resume=resume, progress=sys.stderr.isatty(),  # type: ignore[arg-type]
    )  # fmt: skip
    if as_json:
        _print_json(result.to_dict())
        return
    for temperature, value, error in zip(result.rld.temperatures, result.rld.values, result.rld.stderr, strict=True):
        print(f"RLD  T = {temperature:<6g} {value:8.4f}" + (f"  +- {error:.4f}" if error else ""))
    for probe in result.probes:
        low, high = probe.accuracy_interval
        print(f"{probe.name:<18} {probe.accuracy:.4f}  [{low:.4f}, {high:.4f}]  {probe.n_parameters:,} parameters")
    for stage in result.stages:
        print(f"{stage.stage:<20} {stage.seconds:8.1f} s   {stage.peak_memory_bytes / 1e9:5.2f} GB peak")
    print(f"\nOpen {out / 'report.html'} in a browser; every number is in {out / 'analysis.json'}.")


@app.command()
def rld(
    embeddings: Embeddings,
    *,
    labels: Labels = None,
    temperatures: Temperatures = DEFAULT_TEMPERATURES,
    method: Method = "auto",
    target_error: TargetError = 0.005,
    k: Neighbors = 15,
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    as_json: Json = False,
) -> None:
    """Relative Local Density at each temperature."""
    from clorg_scale.rld import rld as run

    points, classes = _points(embeddings, labels)
    result = run(
        points, classes, temperatures=_temperatures(temperatures), method=method, target_error=target_error, k=k,  # type: ignore[arg-type]
        seed=seed, device=device, memory_limit=memory_limit, progress=sys.stderr.isatty(),  # type: ignore[arg-type]
    )  # fmt: skip
    if as_json:
        per_class = {
            str(name): shares.tolist() for name, shares in zip(result.classes, result.per_class.T, strict=True)
        }
        _print_json(
            {
                "method": result.method, "n_points": result.n_points, "mean_distance": result.mean_distance,
                "temperatures": result.temperatures.tolist(), "values": result.values.tolist(),
                "stderr": result.stderr.tolist(), "null_mean": result.null_mean.tolist(), "per_class": per_class,
                "details": result.details, "seconds": result.seconds,
            }
        )  # fmt: skip
        return
    print(f"{'T':>8} {'RLD':>10} {'stderr':>10} {'shuffled':>10}   {result.method}, {result.n_points:,} points")
    for row in zip(result.temperatures, result.values, result.stderr, result.null_mean, strict=True):
        print("{:8g} {:10.6f} {:10.6f} {:10.6f}".format(*row))


@app.command()
def knn(
    embeddings: Embeddings,
    *,
    out: OutFile = None,
    k: Neighbors = 15,
    metric: Annotated[str, typer.Option(help="euclidean, cosine or inner_product.")] = "euclidean",
    index: Annotated[
        str, typer.Option(help="auto, flat, ivf, hnsw, nndescent, cagra or a FAISS factory string.")
    ] = "auto",
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    as_json: Json = False,
) -> None:
    """Find the k nearest neighbours of every point; writes an .npz with indices and distances."""
    from clorg_scale.neighbors import knn as run
    from clorg_scale.store import load_embeddings

    if out is None and not as_json:
        raise InputError("Nothing to do: give --out FILE.npz for the table, or --json for a summary.")
    points = load_embeddings(embeddings).embeddings
    table = run(
        points, k, metric=metric, index=index, seed=seed, device=device, memory_limit=memory_limit,  # type: ignore[arg-type]
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    summary = {
        "n_points": table.n_points, "k": table.k, "metric": table.metric, "index": table.index,
        "recall": table.measured_recall, "mean_distance": table.mean_distance,
    }  # fmt: skip
    if out is not None:
        table.save(out)
    if as_json:
        _print_json(summary)
    else:
        print(
            f"{table.n_points:,} x {table.k} neighbours, index {table.index}, recall {table.measured_recall}; in {out}"
        )


@app.command()
def communities(
    embeddings: Embeddings,
    *,
    labels: Labels = None,
    out: OutFile = None,
    k: Neighbors = 15,
    method: Annotated[str, typer.Option(help="leiden or louvain.")] = "leiden",
    resolution: Resolution = 1.0,
    temperature: Annotated[float, typer.Option(help="Of the affinity graph's weights.")] = 0.1,
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    as_json: Json = False,
) -> None:
    """Communities of the affinity graph; --out writes each point's community as .npy."""
    from clorg_scale.affinity import affinity_graph
    from clorg_scale.agreement import agreement
    from clorg_scale.arrays import encode_labels
    from clorg_scale.communities import communities as run
    from clorg_scale.communities import modularity
    from clorg_scale.neighbors import knn as neighbors
    from clorg_scale.store import load_embeddings
    from clorg_scale.store.atomic import write_whole

    stored = load_embeddings(embeddings, labels=labels)
    progress = sys.stderr.isatty()
    table = neighbors(stored.embeddings, k, seed=seed, device=device, memory_limit=memory_limit, progress=progress)  # type: ignore[arg-type]
    graph = affinity_graph(table, temperature=temperature)
    found = run(graph, method=method, resolution=resolution, seed=seed, device=device)  # type: ignore[arg-type]
    summary: dict[str, Any] = {
        "method": found.method, "resolution": found.resolution, "n_communities": len(found.sizes),
        "modularity": found.modularity, "sizes": found.sizes.tolist(),
    }  # fmt: skip
    if stored.labels is not None:
        codes = encode_labels(stored.labels, graph.n_nodes).codes
        against = agreement(codes, found.labels)
        summary |= {"class_modularity": modularity(graph, codes), "nmi": against.nmi, "ari": against.ari}
    if out is not None:
        import numpy as np

        with write_whole(out) as file:
            np.save(file, found.labels)
    if as_json:
        _print_json(summary)
        return
    for quantity, value in summary.items():
        print(f"{quantity:<18} {value if quantity != 'sizes' else ' '.join(map(str, value[:20]))}")


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders that 'analyze' wrote.")],
    *,
    out: Out,
    as_json: Json = False,
) -> None:
    """Put analyses side by side; writes OUT/comparison.html and OUT/comparison.json."""
    from clorg_scale.analysis import Analysis
    from clorg_scale.analysis import compare as run
    from clorg_scale.store.atomic import explain_write_errors, write_whole

    analyses = [Analysis.from_json(folder) for folder in folders]
    names = [analysis.name for analysis in analyses]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise InputError("The same folder is given twice; name each model's folder once.")
    comparison = run(dict(zip(names, analyses, strict=True)))
    with explain_write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    table = comparison.table()
    with write_whole(out / "comparison.json", "w") as file:
        json.dump(table, file, indent=1)
    comparison.report(out / "comparison.html")
    if as_json:
        _print_json(table)
        return
    width = max(len(str(row["quantity"])) for row in table)
    print(f"{'':<{width}} " + " ".join(f"{name:>14.14}" for name in names))
    for row in table:
        values = [row[name] for name in names]
        print(f"{row['quantity']:<{width}} " + " ".join(f"{'-' if v is None else f'{v:.4f}':>14}" for v in values))
    print(f"\nOpen {out / 'comparison.html'} in a browser.")


def _points(embeddings: Path, labels: Path | None) -> tuple[Any, Any]:
    """Embeddings and labels of a file; both must be there."""
    from clorg_scale.store import load_embeddings

    stored = load_embeddings(embeddings, labels=labels)
    if stored.labels is None:
        raise InputError(f"{embeddings} holds no labels; give them with --labels FILE.")
    return stored.embeddings, stored.labels


def _temperatures(text: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"The temperatures must be numbers separated by commas, not {text!r}.") from None


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))
