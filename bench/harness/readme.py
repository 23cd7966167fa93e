"""The figures of README.md, written from records between markers, so that none is typed.

A block begins with ``<!-- bench: NAME -->`` and ends with ``<!-- /bench -->``; `BLOCKS` has a function for each name.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from clorg_scale.errors import InputError
from clorg_scale.store.atomic import write_whole

from .analysis_records import WHOLE
from .figures import Figures
from .plots import Series, plot
from .records import Record
from .report import fitted_exponent, reaches
from .wording import faster, number_word, paragraph, peak, ratio, share, span, timed

__all__ = ["BLOCKS", "IMAGES", "update_readme", "updated_text"]

PROBE_NAMES = {
    "linear": "linear",
    "knn": "k-NN vote",
    "label_propagation": "label propagation",
    "gcn": "GCN",
    "sage": "GraphSAGE",
}

KEPT = 1.5
"""Our own k-NN code stays where it is so many times as fast as the best tuned FAISS pipeline on most cases."""

MARKED = re.compile(r"(<!-- bench: ([\w-]+) -->\n).*?(<!-- /bench -->)", flags=re.S)


def updated_text(text: str, records: Sequence[Record]) -> tuple[str, int]:
    """The text with its blocks written, and their number.

    Raises
    ------
    InputError
        If a block is unknown, or records are missing.
    """
    figures, written = Figures(records), 0

    def block(match: re.Match[str]) -> str:
        nonlocal written
        if match[2] not in BLOCKS:
            raise InputError(f"There is no block {match[2]!r}; the blocks are {', '.join(BLOCKS)}.")
        written += 1
        return match[1] + BLOCKS[match[2]](figures).rstrip("\n") + "\n" + match[3]

    return MARKED.sub(block, text), written


def update_readme(path: Path, records: Sequence[Record]) -> int:
    """Write the blocks of a file and the images it shows; nothing where a record is missing. Returns their number."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    text, written = updated_text(text, records)
    if not written:
        raise InputError(f"{path} has no block such as <!-- bench: measured --> ... <!-- /bench -->.")
    images = {path.parent / name: draw(Figures(records)) for name, draw in IMAGES.items() if f"]({name})" in text}
    with write_whole(path, "w") as file:
        file.write(text)
    for image, svg in images.items():
        if image.parent.is_dir():
            with write_whole(image, "w") as file:
                file.write(svg)
    return written


# ---- tables ----------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; a row shorter than the heads ends in empty cells."""
    lines = ["".join(f" {cell} |" if cell else " |" for cell in cells) for cells in (heads, *rows)]
    lines = [line + " |" * (len(heads) - len(cells)) for line, cells in zip(lines, (heads, *rows), strict=True)]
    lines.insert(1, "---|" * len(heads))
    return "".join(f"|{line}\n" for line in lines)


def _measured(figures: Figures) -> str:
    rows = [*_exact_rows(figures), *_sampled_rows(figures), _knn_row(figures), *_gcn_rows(figures)]
    return _table(("what", "measured", "compared with", "ratio", "reproduce with"), rows)


def _exact_rows(figures: Figures) -> list[list[str]]:
    rows = []
    for d in (784, 128):
        record = figures.find("rld", f"exact, compact 60,000 x {d}", "ours, exact", avx512=False)
        seconds, floor = record.seconds or 0.0, record.floor or 0.0
        command = "`clorg-scale bench run rld`" if d == 784 else ""
        rows.append(
            [
                f"exact RLD, 60,000 x {d}",
                f"{timed(seconds)}, {peak(record)}",
                f"its matrix products alone, {timed(floor)}",
                f"{seconds / floor:.2f}",
                command,
            ]
        )
    key = "kernel-sums", "exact, compact 10,000 x 512"
    ours, dense = (figures.find(*key, name, avx512=False) for name in ("ours, exact", "dense torch"))
    rows.append(
        [
            "exact RLD, 10,000 x 512",
            f"{timed(ours.seconds)}, {peak(ours)}",
            f"the dense definition in torch, {timed(dense.seconds)}, {peak(dense)}",
            faster(dense.seconds, ours.seconds),
            "`clorg-scale bench run kernel-sums`",
        ]
    )
    return rows


def _sampled_rows(figures: Figures) -> list[list[str]]:
    key = "rld", "sampled, fashion-mnist 60,000 x 784"
    ours, exact = (figures.find(*key, name, avx512=False) for name in ("ours, sampled", "ours, exact"))
    imagenet = figures.find("rld-scaling", "mixture x 512 float16, 1,000 classes", "ours, sampled, n = 1,281,167")
    largest = imagenet.quality["largest_stderr"]
    growth = "rld-scaling", "mixture x 128 float32, 10 classes"
    large, small = (figures.find(*growth, f"ours, sampled, n = {n}") for n in ("1,000,000", "100,000"))
    pair = [(float(record.size["n"]), record.seconds or 0.0) for record in (small, large)]
    command = "`clorg-scale bench run rld-scaling`"
    return [
        [
            "sampled RLD, 60,000 x 784, target error 0.005",
            f"{timed(ours.seconds)}, largest error {ours.quality['error']:.4f}",
            f"exact, {timed(exact.seconds)}",
            faster(exact.seconds, ours.seconds),
            "`clorg-scale bench run rld`",
        ],
        [
            "sampled RLD, 1,281,167 x 512 float16, 1,000 classes, memory-mapped",
            f"{timed(imagenet.seconds)}, {peak(imagenet)}, standard errors up to {largest:.4f}",
            "",
            "",
            command,
        ],
        [
            "sampled RLD, 1,000,000 x 128",
            f"{timed(large.seconds)}, {peak(large)}",
            f"a tenth of the points, {timed(small.seconds)}",
            f"n to the power of {fitted_exponent(pair):.1f}",
            command,
        ],
    ]


def _knn_row(figures: Figures) -> list[str]:
    key = "knn", "fashion-mnist 60,000 x 784"
    ours, flat = (figures.find(*key, name) for name in ("ours, ivf to 0.99", "ours, flat"))
    recall = share(ours.quality["recall"])
    measured = f"{timed(ours.seconds)}, recall {recall}"
    peers = f"exact search, {timed(flat.seconds)}; FAISS's best pipelines: the next table"
    command = "`clorg-scale bench run knn`"
    return [f"k-NN, 60,000 x 784, k = {ours.size['k']}", measured, peers, faster(flat.seconds, ours.seconds), command]


def _gcn_rows(figures: Figures) -> list[list[str]]:
    key = "gcn", "one epoch, fashion-mnist 60,000 x 784"
    names = ("ours, full batch", "ours, batches", "PyG GCNConv, edge list", "PyG GCNConv, CSR", "PyG NeighborLoader")
    full, batched, edges, csr, loader = (figures.seconds(*key, name) for name in names)
    large = "gcn", "graph of 1,000,000 nodes"
    epoch = figures.find(*large, "ours, one epoch, batches")
    inference = figures.seconds(*large, "ours, inference after batches")
    return [
        [
            "GCN probe, 60,000 images: one epoch",
            timed(full),
            f"PyG's GCNConv: edge list {timed(edges)}, CSR {timed(csr)}",
            f"{ratio(edges, full)} and {ratio(csr, full)} times faster",
            "`clorg-scale bench run gcn`",
        ],
        [
            "the same in minibatches, fan-out 10",
            timed(batched),
            f"PyG's NeighborLoader with torch-sparse, {timed(loader)}",
            faster(loader, batched),
        ],
        [
            "GCN probe, 1,000,000 nodes x 15: one epoch, inference",
            f"{timed(epoch.seconds)}, {timed(inference)}, {peak(epoch)}",
        ],
    ]


def _avx512(figures: Figures) -> str:
    exact = [figures.find("rld", f"exact, compact 60,000 x {d}", "ours, exact", avx512=True) for d in (784, 128)]
    floors = " and ".join(f"{(record.seconds or 0) / (record.floor or 1):.2f}" for record in exact)
    key = "kernel-sums", "exact, compact 10,000 x 512"
    ours, dense = (figures.seconds(*key, name, avx512=True) for name in ("ours, exact", "dense"))
    return paragraph(
        "Two cores of an Intel Xeon with AVX-512 take less than half the time. There exact RLD takes "
        f"{floors} times its matrix products, and the dense definition in torch {ratio(dense, ours)} times as long as "
        "ours ([rld_avx512.jsonl](bench/results/rld_avx512.jsonl))."
    )


def _cluster(figures: Figures) -> str:
    records = figures.all("cluster")
    if not records:
        raise InputError("The records lack cluster; run 'clorg-scale bench run cluster'.")

    def times(stage: str) -> str:
        key = "cluster", next(record.case for record in records if record.case.startswith(f"{stage}, "))
        return ratio(figures.seconds(*key, "Dask workers"), figures.seconds(*key, "one process"))

    return paragraph(
        "Sharing has a cost: workers on the two cores of one machine, compared with one process on both "
        f"({records[0].size['n']:,} images, `clorg-scale bench run cluster`), take "
        f"{times('exact RLD')} times as long for exact RLD, {times('sampled RLD')} times for "
        f"sampled RLD, {times('k-NN, ivf')} times for k-NN with `ivf` and {times('k-NN, flat')} times with `flat`."
    )


def _coverage(figures: Figures) -> str:
    records = figures.all("rld-coverage")
    if not records:
        raise InputError("The records lack rld-coverage; run 'clorg-scale bench run rld-coverage'.")
    cases = len({record.case for record in records})
    covered, within, reached = (
        [record.quality[name] for record in records] for name in ("coverage", "within_3", "below_target")
    )
    reaching = "all" if min(reached) == 1 else f"at least {min(reached):.0%}"
    return paragraph(
        f"The standard errors of sampled RLD, over {records[0].size['seeds']} seeds on each of {number_word(cases)} "
        "data sets at five temperatures (`clorg-scale bench run rld-coverage`): the exact value lies in the 95 % "
        f"interval in {span(covered)} of the runs, and within three standard errors in {span(within)}. With a "
        "target error of "
        f"{records[0].settings['target_error']:g}, {reaching} of the runs on each data set reach it. The order of the "
        "points does not matter."
    )


def _probes(figures: Figures) -> str:
    by_name = {r.contender.removeprefix("ours, "): r for r in figures.all("probes", "fashion-mnist, 60,000 + 10,000")}
    rows = []
    for name, title in PROBE_NAMES.items():
        if name not in by_name:
            raise InputError(f"The records lack the probe {name}; run 'clorg-scale bench run probes'.")
        q = by_name[name].quality
        interval = f"{share(q['low'])} - {share(q['high'])}"
        seconds = f"{by_name[name].seconds:.1f}"
        rows.append([title, share(q["accuracy"]), interval, f"{q['parameters']:,.0f}", seconds])
    return _table(("probe", "accuracy", "95 % interval", "parameters", "seconds"), rows)


def _analysis(figures: Figures) -> str:
    """Each stage of the largest analysis."""
    largest = max((r for r in figures.all("analyze") if r.contender == WHOLE), key=lambda r: r.size["n"], default=None)
    if largest is None:
        raise InputError("The records lack an analysis; run 'python -m bench analyze --imagenet'.")
    stages = [record for record in figures.all("analyze", largest.case) if record.contender != WHOLE]
    probes = [record for record in stages if "accuracy" in record.quality]
    rows = [
        [
            stage.contender,
            timed(stage.seconds),
            peak(stage) if stage.memory else "",
            f"{stage.seconds / stage.floor:.1f}" if stage.floor and stage.seconds else "",
        ]
        for stage in stages
        if stage not in probes and (stage.seconds or 0) >= 1
    ]
    listed = ", ".join(
        f"{PROBE_NAMES[probe.contender]} {timed(probe.seconds)} ({share(probe.quality['accuracy'])})"
        for probe in probes
    )
    rows.append([f"**{largest.contender}**", f"**{timed(largest.seconds)}**", f"**{peak(largest)}**", ""])
    return (
        _table(("stage", "time", "resident at most", "time / its products or bytes alone"), rows)
        + "\n"
        + paragraph(
            f"`clorg-scale analyze` of {largest.case}, a seeded mixture, memory-mapped (`python -m bench analyze "
            "--imagenet`). A stage's memory counts the pages of the file that are in memory, that of the whole command "
            f"does not. The probes: {listed}; in brackets their accuracy. The ten clusters of each "
            "class lie anywhere, so that a linear probe can hardly separate them."
        )
    )


def _knn_rule(figures: Figures) -> str:
    """Ours against the best FAISS pipeline that reached the recall, case by case, and the verdict."""
    rows, ratios = [], []
    records = [record for record in figures.all("knn-rule") if record.cpu_times]
    for case in dict.fromkeys(record.case for record in records):
        here = [record for record in records if record.case == case]
        ours = next(record for record in here if record.role == "ours")
        target = float(ours.settings["target_recall"])
        peers = [record for record in here if record.role == "peer" and reaches(record.quality, target)]
        if not peers:
            continue
        best = min(peers, key=lambda record: statistics.median(record.cpu_times))
        ratios.append(statistics.median(best.cpu_times) / statistics.median(ours.cpu_times))
        data = case.partition(", k =")[0]
        pipeline = f"{best.contender.removeprefix('FAISS ')}, {best.settings['effort'].replace(',', ' ')}"
        shares = f"{share(ours.quality['recall'])} and {share(best.quality['recall'])}"
        rows.append([data, f"{target:g}".removeprefix("0"), pipeline, shares, f"{ratios[-1]:.2f}"])
    if not ratios:
        raise InputError("The records lack knn-rule; run 'clorg-scale bench run knn-rule'.")
    ahead = sum(ratio >= KEPT for ratio in ratios)
    heads = ("data", "target recall", "best FAISS pipeline", "recall: ours, FAISS", "its time / ours")
    return (
        _table(heads, rows)
        + "\n"
        + paragraph(
            f"Times are CPU seconds, index and training included, k = {records[0].size['k']}, median of "
            f"{number_word(min(len(record.times) for record in records))} alternating run(s) "
            f"(`clorg-scale bench run knn-rule`). Our own search by list at the time was at least "
            f"{KEPT} times as fast in {ahead} of {len(ratios)} cases, so `ivf` is FAISS's IVF now."
        )
    )


def _gpu(figures: Figures) -> str:
    def find(case: str, contender: str = "") -> Record:
        return figures.find("gpu", case, contender)

    hopper, triton = find("exact RLD 50000 x 512 hopper fp16"), find("exact RLD 50000 x 512 triton fp16")
    dense, large = find("dense tensors 50000 x 512"), find("exact RLD 1280000 x 2048 hopper fp16")
    sampled, exact = find("rld sampled 200000 x 512"), find("rld exact 200000 x 512")
    whole = find("exact RLD, all of it 1280000 x 2048")
    leiden, louvain = find("Leiden 1280000"), find("Louvain 1280000")
    found = ", ".join(f"{find(name).quality['Q']:.4f}".removeprefix("0") for name in ("leiden", "louvain"))
    rows = [
        [
            "exact RLD, both passes, 50,000 x 512",
            timed(hopper.seconds),
            f"the same with our Triton kernels, {timed(triton.seconds)}",
            faster(triton.seconds, hopper.seconds),
        ],
        [
            "",
            "",
            f"the paper's way, dense tensors, {timed(dense.seconds)} and {peak(dense)}",
            faster(dense.seconds, hopper.seconds),
        ],
        [
            "exact RLD, both passes, 1,280,000 x 2048",
            f"{timed(large.seconds)}, {peak(large)}",
            f"its matrix products alone, {timed(large.floor)}",
            f"{(large.seconds or 0) / (large.floor or 1):.1f}",
        ],
        ['the same as a whole, `rld(method="exact")`', timed(whole.seconds)],
        [
            f"sampled RLD, 200,000 x 512, {sampled.quality['landmarks']:,.0f} landmarks a tile",
            f"{timed(sampled.seconds)}, off by {sampled.quality['off_by']:.4f}",
            f"exact, {timed(exact.seconds)}",
            f"{(sampled.seconds or 0) / (exact.seconds or 1):.1f} times slower",
        ],
        ["exact k-NN, k = 15, 1,280,000 x 2048", timed(find("k-NN flat 1280000 x 2048").seconds)],
        ["Leiden, Louvain on its graph", f"{timed(leiden.seconds)}, {timed(louvain.seconds)}, Q {found}"],
    ]
    return _table(("what", "measured", "compared with", "ratio"), rows)


BLOCKS: dict[str, Callable[[Figures], str]] = {
    "measured": _measured,
    "analysis": _analysis,
    "avx512": _avx512,
    "cluster": _cluster,
    "coverage": _coverage,
    "knn-rule": _knn_rule,
    "probes": _probes,
    "gpu": _gpu,
}


def _growth(figures: Figures) -> str:
    """Time of exact and sampled RLD against n."""
    series = []
    for method in ("exact", "sampled"):
        found = [r for r in figures.all("rld-scaling", "mixture x 128") if r.contender.startswith(f"ours, {method}")]
        points = [(float(record.size["n"]), record.seconds or 0.0) for record in found]
        exponent = fitted_exponent(points)
        series.append(Series(f"{method}: n^{exponent:.2f}" if exponent else method, points, line=True))
    return plot(series, "points", "seconds") + "\n"


IMAGES: dict[str, Callable[[Figures], str]] = {"bench/results/rld_scaling.svg": _growth}
"""Images of the README, by their path beside it."""
