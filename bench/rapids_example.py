"""A RAPIDS workflow with clorg-scale in its middle: cuDF -> RLD, neighbors, graph -> cuGraph -> cuDF.

    python -m bench.rapids_example [--points 100000]

Everything stays on the GPU: a data frame with a column for each feature and one for the label goes in as it is, the
graph comes back as a `cugraph.Graph`, and the communities that cuGraph finds are joined to the frame. Needs a GPU and
`pip install 'clorg-scale[rapids13]'`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import clorg_scale as cs
from clorg_scale.arrays import resolve_device
from clorg_scale.errors import require


def main(argv: list[str]) -> int:
    """Run the workflow and print what it finds; exit code 2 where there is no GPU or no RAPIDS."""
    parser = argparse.ArgumentParser(prog="python -m bench.rapids_example", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=64)
    options = parser.parse_args(argv)
    try:
        resolve_device("cuda")
        frame = labeled_frame(options.points, options.features)
        organized = with_communities(frame)
    except (cs.InputError, cs.MissingDependencyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(organized.groupby(["label", "community"]).size().sort_values(ascending=False).head(20))
    return 0


def labeled_frame(n: int, d: int) -> Any:
    """A cuDF frame of synthetic embeddings: columns x0, x1, ..., and label."""
    cudf = require("cudf", extra="rapids13", purpose="This example")
    import cupy

    from clorg_scale.datasets import locally_dense_mixture

    points, labels = locally_dense_mixture(n, d)
    frame = cudf.DataFrame(cupy.asarray(points), columns=[f"x{i}" for i in range(d)])
    frame["label"] = cupy.asarray(labels)
    return frame


def with_communities(frame: Any) -> Any:
    """The frame with the community of each row, found by cuGraph on the affinity graph."""
    cugraph = require("cugraph", extra="rapids13", purpose="This example")
    import cupy

    embeddings, labels = frame.drop(columns=["label"]), frame["label"]
    found = cs.rld(embeddings, labels, device="cuda")
    for temperature, value in zip(found.temperatures, found.values, strict=True):
        print(f"RLD at T = {temperature:g}: {value:.4f}")
    table = cs.knn(embeddings, 15, device="cuda")
    graph = cs.affinity_graph(table)
    print(f"modularity of the labels: {cs.modularity(graph, labels):.4f}")
    parts, modularity = cugraph.leiden(graph.to_cugraph(), resolution=1.0, random_state=0)
    print(f"modularity of cuGraph's Leiden communities: {modularity:.4f}")
    frame["row"] = cupy.arange(len(frame), dtype=graph.indices.dtype)
    parts = parts.rename(columns={"vertex": "row", "partition": "community"})
    return frame.merge(parts, on="row", how="left").sort_values("row")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
