"""Commands for single stages, each a thin layer over a public function."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, get_args

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
    Normalize,
    Resolution,
    Seed,
    TargetError,
    Temperatures,
    Unlabelled,
    print_json,
    print_table,
    read_checked,
    read_points,
    read_temperatures,
    read_unlabelled,
    watch_points,
)
from clorg_scale.errors import InputError

__all__: list[str] = []

LISTED_SIZES = 15
"""Largest number of communities whose sizes are printed."""


@app.command(short_help="Compute Relative Local Density (RLD).")
def rld(
    embeddings: Embeddings,
    *,
    labels: Labels = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .json for all results, .csv or .tsv for the values.", metavar="FILE.json"),
    ] = None,
    temperatures: Temperatures = DEFAULT_TEMPERATURES,
    method: Method = "auto",
    target_error: TargetError = 0.005,
    k: Annotated[
        int, typer.Option("--k", help="Number of neighbors in the methods graph and sampled.", metavar="K")
    ] = 15,
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    unlabelled: Unlabelled = "-1",
    normalize: Normalize = False,
    dask: Dask = None,
    allow_external: AllowExternal = False,
    as_json: Json = False,
) -> None:
    """Compute Relative Local Density at each temperature and, for comparison, its value for shuffled labels."""
    from clorg_scale.analysis.inputs import named_classes
    from clorg_scale.cli.files import RLD_FILES, check_file, write_rld
    from clorg_scale.distributed import connect
    from clorg_scale.rld import rld as run

    check_file(out, RLD_FILES)
    chosen = read_temperatures(temperatures)
    stored = read_checked(embeddings, labels, allow_external=allow_external, by_workers=dask is not None)
    if stored.labels is None:
        raise InputError(f"{embeddings} holds no labels; give them with --labels FILE.")
    with watch_points(stored.embeddings), connect(dask) as client:
        result = run(
            stored.embeddings,
            stored.labels,
            temperatures=chosen,
            method=method,  # type: ignore[arg-type]
            target_error=target_error,
            k=k,
            seed=seed,
            device=device,  # type: ignore[arg-type]
            memory_limit=memory_limit,
            progress=True,
            client=client,
            unlabelled=read_unlabelled(unlabelled),
            normalize=normalize,
        )
    names = named_classes(result.classes, stored.class_names)
    per_class = {name: shares.tolist() for name, shares in zip(names, result.per_class.T, strict=True)}
    document = {
        "method": result.method,
        "n_points": result.n_points,
        "n_unlabelled": result.n_unlabelled,
        "mean_distance": result.mean_distance,
        "temperatures": result.temperatures.tolist(),
        "values": result.values.tolist(),
        "stderr": result.stderr.tolist(),
        "null_mean": result.null_mean.tolist(),
        "per_class": per_class,
        "details": result.details,
        "seconds": result.seconds,
    }
    if out is not None:
        write_rld(result, document, out)
    if as_json:
        print_json(document)
        return
    beside = f" ({result.n_unlabelled:,} unlabelled)" if result.n_unlabelled else ""
    kind = "normalized points" if normalize else "points"
    print(f"RLD of {result.n_points:,} {kind}{beside} in {len(result.classes):,} classes, {result.method} method\n")
    print(f"{'T':>8} {'RLD':>10} {'stderr':>10} {'shuffled labels':>16}")
    columns = (result.temperatures, result.values, result.stderr, result.null_mean)
    for t, value, error, null in zip(*columns, strict=True):
        print(f"{t:8g} {value:10.6f} {f'{error:.6f}' if error else '0':>10} {null:16.6f}")


@app.command(short_help="Find the k nearest neighbors of every point.")
def knn(
    embeddings: Embeddings,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .npz, or .csv or .tsv with one line per pair.", metavar="FILE.npz"),
    ] = None,
    k: Neighbors = 15,
    metric: Annotated[
        str, typer.Option(help="Distance: euclidean, cosine or inner_product.", metavar="NAME")
    ] = "euclidean",
    index: Annotated[
        str,
        typer.Option(
            help="Search index: auto, flat, ivf, hnsw, nndescent, partitioned, cagra or a FAISS factory string.",
            metavar="NAME",
        ),
    ] = "auto",
    normalize: Normalize = False,
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    dask: Dask = None,
    allow_external: AllowExternal = False,
    as_json: Json = False,
) -> None:
    """Find the k nearest neighbors of every point; `clorg_scale.KNN.load` reads the .npz file."""
    from clorg_scale.cli.files import NEIGHBOR_FILES, check_file, write_neighbors
    from clorg_scale.distributed import connect
    from clorg_scale.neighbors import knn as run

    check_file(out, NEIGHBOR_FILES)
    points, _ = read_points(embeddings, False, allow_external=allow_external, by_workers=dask is not None)
    with watch_points(points), connect(dask) as client:
        table = run(
            points,
            k,
            metric=metric,  # type: ignore[arg-type]
            index=index,
            seed=seed,
            device=device,  # type: ignore[arg-type]
            memory_limit=memory_limit,
            progress=True,
            client=client,
            normalize=normalize,
        )
    if out is not None:
        write_neighbors(table, out)
    if as_json:
        document = {
            "n_points": table.n_points,
            "k": table.k,
            "metric": table.metric,
            "index": table.index,
            "recall": table.measured_recall,
            "mean_distance": table.mean_distance,
        }
        print_json(document)
        return
    recall, mean = table.measured_recall, table.mean_distance
    rows = [
        ("points", f"{table.n_points:,}"),
        ("neighbors each", f"{table.k}"),
        ("metric", table.metric),
        ("index", table.index),
        ("recall", "not measured" if recall is None else f"{recall:.4f}"),
        ("mean distance", "none" if mean is None else f"{mean:.6g}"),
    ]
    print_table(rows + _written(out))


@app.command(short_help="Find communities of the affinity graph.")
def communities(
    context: typer.Context,
    embeddings: Embeddings,
    *,
    labels: Labels = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write the community of each point to: .npy, .npz, .txt, .csv, .tsv or .json.",
            metavar="FILE.npy",
        ),
    ] = None,
    k: Neighbors = 15,
    method: Annotated[str, typer.Option(help="leiden or louvain.", metavar="NAME")] = "leiden",
    resolution: Resolution = 1.0,
    temperature: Annotated[
        float, typer.Option(help="Temperature of the weights of the affinity graph.", metavar="T")
    ] = 0.1,
    seed: Seed = 0,
    device: DeviceName = "auto",
    memory_limit: MemoryLimit = None,
    unlabelled: Unlabelled = "-1",
    dask: Dask = None,
    allow_external: AllowExternal = False,
    as_json: Json = False,
) -> None:
    """Find communities of the affinity graph; with labels, also compare them with the classes.

    Instead of embeddings, the folder of a graph that AffinityGraph.save wrote may be given.
    """
    from clorg_scale.affinity import AffinityGraph, affinity_graph
    from clorg_scale.affinity.storage import is_graph_folder
    from clorg_scale.agreement import agreement
    from clorg_scale.analysis.inputs import check_choice, check_positive
    from clorg_scale.arrays import encode_labels
    from clorg_scale.cli.files import COMMUNITY_FILES, check_file, write_communities
    from clorg_scale.communities import communities as run
    from clorg_scale.communities import modularity
    from clorg_scale.communities.detection import Method as CommunityMethod
    from clorg_scale.distributed import connect
    from clorg_scale.neighbors import knn as neighbors
    from clorg_scale.progress import stage_progress
    from clorg_scale.store.load import load_labels

    check_choice("method", method, get_args(CommunityMethod))
    check_positive("resolution", resolution)
    check_positive("temperature", temperature)
    check_file(out, COMMUNITY_FILES)
    points: Any = None
    if is_graph_folder(embeddings):
        _refuse_given(context, "k", "temperature", "memory_limit")
        graph = AffinityGraph.open(embeddings)
        classes = None if labels is None else load_labels(labels, allow_external=allow_external)
    else:
        points, classes = read_points(embeddings, labels, allow_external=allow_external)
    n_points = graph.n_nodes if points is None else len(points)
    encoded = None if classes is None else encode_labels(classes, n_points, unlabelled=read_unlabelled(unlabelled))
    with nullcontext() if points is None else watch_points(points), connect(dask) as client:
        if points is not None:
            table = neighbors(
                points,
                k,
                seed=seed,
                device=device,  # type: ignore[arg-type]
                memory_limit=memory_limit,
                progress=True,
                client=client,
            )
            graph = affinity_graph(table, temperature=temperature)
        with stage_progress("communities", enabled=True):
            found = run(
                graph,
                method=method,  # type: ignore[arg-type]
                resolution=resolution,
                seed=seed,
                device=device,  # type: ignore[arg-type]
                client=client,
            )
    summary: dict[str, Any] = {
        "method": found.method,
        "resolution": found.resolution,
        "n_points": graph.n_nodes,
        "n_communities": len(found.sizes),
        "modularity": found.modularity,
        "sizes": found.sizes.tolist(),
    }
    if encoded is not None:
        against = agreement(encoded.codes, found.labels)
        of_classes = modularity(graph, encoded, resolution=resolution)
        summary |= {
            "n_unlabelled": encoded.n_unlabelled,
            "class_modularity": of_classes,
            "nmi": against.nmi,
            "ari": against.ari,
        }
    if out is not None:
        write_communities(found.labels, out)
    if as_json:
        print_json(summary)
        return
    rows = [
        ("points", f"{graph.n_nodes:,}"),
        ("method", found.method),
        ("resolution", f"{resolution:g}"),
        ("communities", f"{len(found.sizes):,}"),
        ("sizes", _listed(found.sizes.tolist())),
        ("modularity", f"{found.modularity:.4f}"),
    ]
    if encoded is not None:
        rows += [("unlabelled points", f"{encoded.n_unlabelled:,}")] if encoded.n_unlabelled else []
        rows += [
            ("modularity of the classes", f"{summary['class_modularity']:.4f}"),
            ("NMI with the classes", f"{summary['nmi']:.4f}"),
            ("ARI with the classes", f"{summary['ari']:.4f}"),
        ]
    print_table(rows + _written(out))


def _refuse_given(context: typer.Context, *options: str) -> None:
    """Refuse options that decide how a graph is built if one is given."""
    for option in options:
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(
                f"--{option.replace('_', '-')} decides how a graph is built, but this one is built already; "
                "leave it out."
            )


def _written(out: Path | None) -> list[tuple[str, str]]:
    return [] if out is None else [("written to", str(out))]


def _listed(sizes: list[int]) -> str:
    """List the largest sizes, and count the others."""
    more = f" and {len(sizes) - LISTED_SIZES:,} smaller" if len(sizes) > LISTED_SIZES else ""
    return " ".join(f"{size:,}" for size in sizes[:LISTED_SIZES]) + more
