"""The figures of README.md, written from records between markers, so that none is typed.

A block begins with ``<!-- bench: NAME -->`` and ends with ``<!-- /bench -->``; `BLOCKS` has a function for each name.
"""

from __future__ import annotations

import re
import statistics
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from clorg_scale.errors import InputError
from clorg_scale.store.atomic import write_whole

from .plots import Series, plot
from .records import Record
from .report import fitted_exponent, reaches

__all__ = ["BLOCKS", "IMAGES", "Figures", "update_readme", "updated_text"]

KEPT = 1.5
"""Our own k-NN code stays where it is so many times as fast as the best tuned FAISS pipeline on most cases."""

MARKED = re.compile(r"(<!-- bench: ([\w-]+) -->\n).*?(<!-- /bench -->)", flags=re.S)


class Figures:
    """Records by what they measured; the main machine is the one of the first record that is asked for."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = [record for record in records if record.role != "missing"]

    def find(self, benchmark: str, case: str, contender: str, *, avx512: bool | None = None) -> Record:
        """The last record whose case and contender begin so.

        Parameters
        ----------
        benchmark, case, contender
            Its benchmark, and how its case and contender begin.
        avx512
            True: only of a machine with AVX-512; False: rather of one without.

        Raises
        ------
        InputError
            If there is none.
        """
        found = [
            record
            for record in self.records
            if record.benchmark == benchmark and record.case.startswith(case) and record.contender.startswith(contender)
        ]
        of_kind = [record for record in found if (record.machine.get("instructions") == "AVX-512") == avx512]
        found = of_kind or ([] if avx512 else found)
        if not found:
            raise InputError(
                f"The records lack {benchmark}: {case}, {contender}; give the files of bench/results, or run "
                f"'clorg-scale bench run {benchmark}'."
            )
        return found[-1]

    def seconds(self, *key: str, avx512: bool | None = None) -> float:
        """Median seconds of a record."""
        seconds = self.find(*key, avx512=avx512).seconds
        if seconds is None:
            raise InputError(f"The record of {', '.join(key)} has no times.")
        return seconds

    def all(self, benchmark: str, case: str = "") -> list[Record]:
        """All records of a benchmark whose case begins so."""
        return [record for record in self.records if record.benchmark == benchmark and record.case.startswith(case)]


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
    lines = ["".join(f" {cell} |" if cell else " |" for cell in cells) for cells in (heads, *rows)]
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
        rows.append([f"exact RLD, 60,000 x {d}", f"{_time(seconds)}, {_memory(record)}",
                     f"its matrix products alone, {_time(floor)}", f"{seconds / floor:.2f}", command])  # fmt: skip
    key = "kernel-sums", "exact, compact 10,000 x 512"
    ours, dense = (figures.find(*key, name, avx512=False) for name in ("ours, exact", "dense torch"))
    rows.append(["exact RLD, 10,000 x 512", f"{_time(ours.seconds)}, {_memory(ours)}",
                 f"the dense definition in torch, {_time(dense.seconds)}, {_memory(dense)}",
                 _faster(dense.seconds, ours.seconds), "`clorg-scale bench run kernel-sums`"])  # fmt: skip
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
        ["sampled RLD, 60,000 x 784, target error 0.005",
         f"{_time(ours.seconds)}, largest error {ours.quality['error']:.4f}", f"exact, {_time(exact.seconds)}",
         _faster(exact.seconds, ours.seconds), "`clorg-scale bench run rld`"],
        ["sampled RLD, 1,281,167 x 512 float16, 1,000 classes, memory-mapped",
         f"{_time(imagenet.seconds)}, {_memory(imagenet)}, standard errors up to {largest:.4f}",
         "", "", command],
        ["sampled RLD, 1,000,000 x 128", f"{_time(large.seconds)}, {_memory(large)}",
         f"a tenth of the points, {_time(small.seconds)}", f"n to the power of {fitted_exponent(pair):.1f}", command],
    ]  # fmt: skip


def _knn_row(figures: Figures) -> list[str]:
    key = "knn", "fashion-mnist 60,000 x 784"
    ours, flat = (figures.find(*key, name) for name in ("ours, ivf to 0.99", "ours, flat"))
    recall = _share(ours.quality["recall"])
    measured = f"{_time(ours.seconds)}, recall {recall}, before `ivf` was FAISS's"
    peers = f"exact search, {_time(flat.seconds)}; FAISS's best pipelines: the next table"
    command = "`clorg-scale bench run knn`"
    return [f"k-NN, 60,000 x 784, k = {ours.size['k']}", measured, peers, _faster(flat.seconds, ours.seconds), command]


def _gcn_rows(figures: Figures) -> list[list[str]]:
    key = "gcn", "one epoch, fashion-mnist 60,000 x 784"
    names = ("ours, full batch", "ours, batches", "PyG GCNConv, edge list", "PyG GCNConv, CSR", "PyG NeighborLoader")
    full, batched, edges, csr, loader = (figures.seconds(*key, name) for name in names)
    large = "gcn", "graph of 1,000,000 nodes"
    epoch = figures.find(*large, "ours, one epoch, batches")
    inference = figures.seconds(*large, "ours, inference after batches")
    return [
        ["GCN probe, 60,000 images: one epoch", _time(full),
         f"PyG's GCNConv: edge list {_time(edges)}, CSR {_time(csr)}",
         f"{_ratio(edges, full)} and {_ratio(csr, full)} times faster", "`clorg-scale bench run gcn`"],
        ["the same in minibatches, fan-out 10", _time(batched),
         f"PyG's NeighborLoader with torch-sparse, {_time(loader)}", _faster(loader, batched), ""],
        ["GCN probe, 1,000,000 nodes x 15: one epoch, inference",
         f"{_time(epoch.seconds)}, {_time(inference)}, {_memory(epoch)}", "", "", ""],
    ]  # fmt: skip


def _avx512(figures: Figures) -> str:
    exact = [figures.find("rld", f"exact, compact 60,000 x {d}", "ours, exact", avx512=True) for d in (784, 128)]
    floors = " and ".join(f"{(record.seconds or 0) / (record.floor or 1):.2f}" for record in exact)
    key = "kernel-sums", "exact, compact 10,000 x 512"
    ours, dense = (figures.seconds(*key, name, avx512=True) for name in ("ours, exact", "dense"))
    return _paragraph(
        "Two cores of an Intel Xeon with AVX-512 take less than half the time. There exact RLD takes "
        f"{floors} times its matrix products, and the dense definition in torch {_ratio(dense, ours)} times as long as "
        "ours ([rld_avx512.jsonl](bench/results/rld_avx512.jsonl))."
    )


def _cluster(figures: Figures) -> str:
    def ratio(stage: str) -> str:
        key = "cluster", f"{stage}, fashion-mnist 20,000 x 784"
        return _ratio(figures.seconds(*key, "Dask workers"), figures.seconds(*key, "one process"))

    return _paragraph(
        "Sharing has a cost: workers on the two cores of one machine, compared with one process on both (20,000 "
        f"images, `clorg-scale bench run cluster`), take {ratio('exact RLD')} times as long for exact RLD, "
        f"{ratio('sampled RLD')} times for sampled RLD, {ratio('k-NN, ivf')} times for k-NN with `ivf` and "
        f"{ratio('k-NN, flat')} times with `flat`."
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
    return _paragraph(
        f"The standard errors of sampled RLD, over {records[0].size['seeds']} seeds on each of {_word(cases)} "
        "data sets at five temperatures (`clorg-scale bench run rld-coverage`): the exact value lies in the 95 % "
        f"interval in {_range(covered)} of the runs, and within three standard errors in {_range(within)}. With a "
        "target error of "
        f"{records[0].settings['target_error']:g}, {reaching} of the runs on each data set reach it. The order of the "
        "points does not matter."
    )


def _probes(figures: Figures) -> str:
    names = {"linear": "linear", "knn": "k-NN vote", "label_propagation": "label propagation", "gcn": "GCN",
             "sage": "GraphSAGE"}  # fmt: skip
    by_name = {r.contender.removeprefix("ours, "): r for r in figures.all("probes", "fashion-mnist, 60,000 + 10,000")}
    rows = []
    for name, title in names.items():
        if name not in by_name:
            raise InputError(f"The records lack the probe {name}; run 'clorg-scale bench run probes'.")
        q = by_name[name].quality
        interval = f"{_share(q['low'])} - {_share(q['high'])}"
        seconds = f"{by_name[name].seconds:.1f}"
        rows.append([title, _share(q["accuracy"]), interval, f"{q['parameters']:,.0f}", seconds])
    return _table(("probe", "accuracy", "95 % interval", "parameters", "seconds"), rows)


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
        shares = f"{_share(ours.quality['recall'])} and {_share(best.quality['recall'])}"
        rows.append([data, f"{target:g}".removeprefix("0"), pipeline, shares, f"{ratios[-1]:.2f}"])
    if not ratios:
        raise InputError("The records lack knn-rule; run 'clorg-scale bench run knn-rule'.")
    ahead = sum(ratio >= KEPT for ratio in ratios)
    heads = ("data", "recall asked", "best FAISS pipeline", "recall: ours, FAISS", "its time / ours")
    return (
        _table(heads, rows)
        + "\n"
        + _paragraph(
            f"Times are CPU seconds, index and training included, k = {records[0].size['k']}, median of "
            f"{_word(min(len(record.times) for record in records))} alternating run(s) "
            f"(`clorg-scale bench run knn-rule`). Ours, a compiled search by list then, was at least "
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
        ["exact RLD, both passes, 50,000 x 512", _time(hopper.seconds),
         f"the same with our Triton kernels, {_time(triton.seconds)}", _faster(triton.seconds, hopper.seconds)],
        ["", "", f"the paper's way, dense tensors, {_time(dense.seconds)} and {_memory(dense)}",
         _faster(dense.seconds, hopper.seconds)],
        ["exact RLD, both passes, 1,280,000 x 2048", f"{_time(large.seconds)}, {_memory(large)}",
         f"its matrix products alone, {_time(large.floor)}", f"{(large.seconds or 0) / (large.floor or 1):.1f}"],
        ["the same as a whole, `rld(method=\"exact\")`", _time(whole.seconds), "", ""],
        [f"sampled RLD, 200,000 x 512, {sampled.quality['landmarks']:,.0f} landmarks a tile",
         f"{_time(sampled.seconds)}, off by {sampled.quality['off_by']:.4f}",
         f"exact, {_time(exact.seconds)}", f"{(sampled.seconds or 0) / (exact.seconds or 1):.1f} times slower"],
        ["exact k-NN, k = 15, 1,280,000 x 2048", _time(find("k-NN flat 1280000 x 2048").seconds), "", ""],
        ["Leiden, Louvain on its graph", f"{_time(leiden.seconds)}, {_time(louvain.seconds)}, Q {found}", "", ""],
    ]  # fmt: skip
    return _table(("what", "measured", "compared with", "ratio"), rows)


BLOCKS: dict[str, Callable[[Figures], str]] = {
    "measured": _measured,
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


# ---- numbers ---------------------------------------------------------------------------------------------------------


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def _time(seconds: float | None) -> str:
    """Two digits: 74 ms, 1.4 s, 616 s."""
    seconds = seconds or 0.0
    if seconds < 0.95:
        return f"{1000 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.2g} ms"
    return f"{seconds:.1f} s" if seconds < 20 else f"{seconds:,.0f} s"


def _memory(record: Record) -> str:
    size = (record.memory or 0) / 1e6
    return f"{size:,.0f} MB" if size < 1000 else f"{size / 1000:.1f} GB"


def _ratio(theirs: float | None, ours: float | None) -> str:
    ratio = (theirs or 0.0) / (ours or 1.0)
    return f"{ratio:.2f}" if ratio < 2 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def _faster(theirs: float | None, ours: float | None) -> str:
    return f"{_ratio(theirs, ours)} times faster"


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.0%} to {max(values):.0%}".replace("%", " %")


def _word(number: int) -> str:
    return ("no", "one", "two", "three", "four", "five", "six")[number] if number < 7 else str(number)
