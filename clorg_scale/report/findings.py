"""Findings in plain sentences, each computed from the numbers of a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from clorg_scale.counted import counted

if TYPE_CHECKING:
    from clorg_scale.analysis.record import AnalysisRecord
    from clorg_scale.probes.result import ProbeResult

__all__ = [
    "comparison_findings",
    "comparison_headline",
    "comparison_title",
    "findings",
    "headline",
    "homogeneity_basis",
    "normalization",
    "probe_title",
    "quantity_rows",
    "trajectory_findings",
    "trajectory_headline",
    "unit_of",
]

GRAPH_PROBES = ("label_propagation", "gcn", "sage")

MOST_NAMED = 3
"""Models that the title of a comparison names, and that have findings of their own."""

MOST_LISTED = 4
"""Models whose values a sentence lists."""

_PROBE_TITLES = {
    "linear": "Linear",
    "knn": "k-NN vote",
    "label_propagation": "Label propagation",
    "gcn": "GCN",
    "sage": "GraphSAGE",
}
_PROBES_IN_SENTENCES = {
    "linear": "the linear one",
    "knn": "the k-NN vote",
    "label_propagation": "label propagation",
    "gcn": "the GCN",
    "sage": "GraphSAGE",
}


def probe_title(name: str) -> str:
    """Name of a probe in print."""
    return _PROBE_TITLES.get(name, name)


def headline(analysis: AnalysisRecord) -> str:
    """State in one sentence at which scales the classes are dense."""
    (far, at_far), (near, at_near) = _ends(analysis)
    bound = 1 - sum((size / sum(analysis.class_sizes)) ** 2 for size in analysis.class_sizes)
    numbers = (
        f"RLD is {at_near:.2f} among near neighbors (T = {near:g}) and {at_far:.2f} across the whole set (T = {far:g})"
    )
    if len(analysis.rld.temperatures) == 1:
        return f"RLD is {at_near:.2f} at T = {near:g}; the largest possible value for these classes is {bound:.2f}."
    if at_near < 0.1 * bound:
        return f"The classes are hardly denser than their surroundings at any scale: {numbers}."
    if at_far < 0.2 * at_near:
        return f"The classes are dense locally but hardly globally: {numbers}."
    if at_far < 0.6 * at_near:
        return f"The classes are denser locally than globally: {numbers}."
    return f"The classes are dense at every scale: {numbers}."


def findings(analysis: AnalysisRecord) -> list[str]:
    """State the other results, a sentence each."""
    sentences = []
    chi = analysis.class_homogeneity
    if len(chi) > 1:
        sentences.append(_homogeneity_sentence(chi))
    found = analysis.communities
    sentences.append(
        f"{found.method.capitalize()} finds {counted(found.n_communities, 'community', plural='communities')} with "
        f"modularity {found.modularity:.2f}; the class labels reach {found.class_modularity:.2f} on the same graph "
        f"(agreement of both: NMI {found.nmi:.2f})."
    )
    if analysis.probes:
        sentences.append(_probe_sentence(analysis.probes))
    sentences.append(normalization(analysis))
    return sentences


def normalization(analysis: AnalysisRecord) -> str:
    """State whether embeddings were normalized, and which choice fits which metric."""
    if analysis.settings.get("normalize"):
        return (
            "Embeddings were normalized to length 1 (L2), as in the paper's notebooks, so every measure compares "
            "directions, which is what contrastive training with cosine similarity arranges."
        )
    return (
        "Embeddings were not normalized: RLD, Calinski-Harabasz, the graph and the probes compare Euclidean distances, "
        "class homogeneity compares directions. For models trained or used with cosine similarity, normalize "
        "(--normalize, as in the paper's notebooks). When comparing models, normalize all of them or none."
    )


def homogeneity_basis(analyses: Mapping[str, AnalysisRecord]) -> str:
    """Points that class homogeneity is the mean over; "" where a record does not say."""
    sizes = {name: (a.class_homogeneity_points, sum(a.class_sizes)) for name, a in analyses.items()}
    described = {name: _basis(size, n_labeled) for name, (size, n_labeled) in sizes.items() if size is not None}
    if len(described) < len(sizes):
        return ""
    if len(set(described.values())) == 1:
        basis = next(iter(described.values()))
    else:
        basis = "; ".join(f"“{name}”: {text}" for name, text in described.items())
    is_sample = any(size != n_labeled for size, n_labeled in sizes.values())
    return basis + ("; ± is one standard error, bars are 95 % intervals" if is_sample else "")


def _basis(size: int, n_labeled: int) -> str:
    if size == n_labeled:
        return f"mean over all {size:,} labeled points"
    return f"mean over a random sample of {size:,} of the {n_labeled:,} labeled points"


def comparison_title(names: Sequence[str]) -> str:
    """Name the models where they are few."""
    if len(names) > MOST_NAMED:
        return f"{len(names)} models compared"
    if len(names) == MOST_NAMED:
        return f"{names[0]}, {names[1]} and {names[2]}"
    return " against ".join(names)


def comparison_headline(analyses: Mapping[str, AnalysisRecord]) -> str:
    """State in one sentence which model's classes are denser locally, and which globally."""
    (far, _), (near, _) = _ends(next(iter(analyses.values())))
    at_far = {name: _ends(analysis)[0][1] for name, analysis in analyses.items()}
    at_near = {name: _ends(analysis)[1][1] for name, analysis in analyses.items()}
    if any(_ends(analysis)[0][0] != far or _ends(analysis)[1][0] != near for analysis in analyses.values()):
        return "The analyses used different temperatures; compare their curves where they overlap."
    best_far, best_near = max(at_far, key=at_far.__getitem__), max(at_near, key=at_near.__getitem__)
    far_list, near_list = _listed(at_far), _listed(at_near)
    if best_far == best_near:
        return (
            f"The classes are densest in “{best_far}” both globally and locally: RLD across the whole set (T = "
            f"{far:g}) is {far_list}; among near neighbors (T = {near:g}) it is {near_list}."
        )
    return (
        f"Across the whole set (T = {far:g}) the classes are densest in “{best_far}” (RLD {far_list}), "
        f"and among near neighbors (T = {near:g}) in “{best_near}” ({near_list})."
    )


def comparison_findings(analyses: Mapping[str, AnalysisRecord]) -> list[str]:
    """State how class homogeneity falls, and which probe is most accurate on each model; of many, the extremes."""
    if len(analyses) > MOST_NAMED:
        return [*_homogeneity_of_many(analyses), *_probes_of_many(analyses)]
    sentences = []
    for name, analysis in analyses.items():
        chi = analysis.class_homogeneity
        if len(chi) > 1:
            first, last = min(chi), max(chi)
            sentences.append(
                f"“{name}”: class homogeneity goes from {chi[first]:.3f} at k = {first} "
                f"to {chi[last]:.3f} at k = {last:,}."
            )
    sentences += [f"“{name}”: {_probe_sentence(a.probes)}" for name, a in analyses.items() if a.probes]
    return sentences


def _homogeneity_of_many(analyses: Mapping[str, AnalysisRecord]) -> list[str]:
    """State class homogeneity among the fewest and among the most neighbors that all models share."""
    shared = set.intersection(*(set(analysis.class_homogeneity) for analysis in analyses.values()))
    return [
        f"Class homogeneity among {f'{k:,} nearest neighbors' if k > 1 else 'nearest neighbors (k = 1)'} "
        f"{_range({name: a.class_homogeneity[k] for name, a in analyses.items()})}."
        for k in sorted({min(shared), max(shared)} if shared else ())
    ]


def _probes_of_many(analyses: Mapping[str, AnalysisRecord]) -> list[str]:
    """State which probes are the most accurate on how many models, and where the best of them is worst and best."""
    best = {name: max(a.probes, key=lambda probe: probe.accuracy) for name, a in analyses.items() if a.probes}
    if not best:
        return []
    counts = Counter(probe.name for probe in best.values()).most_common()
    first, n_first = counts[0]
    if len(counts) == 1:
        which = (
            f"{_in_sentence(first)} on {'every model' if n_first == len(analyses) else f'all {n_first} with probes'}"
        )
    else:
        others = ", ".join(f"{_in_sentence(name)} on {n}" for name, n in counts[1:])
        which = f"{_in_sentence(first)} on {n_first} of {len(best)} models, {others}"
    accuracies = {name: probe.accuracy for name, probe in best.items()}
    return [f"The most accurate probe is {which}; its accuracy {_range(accuracies)}."]


def _range(values: Mapping[str, float]) -> str:
    """Lowest and highest of values by name, as a predicate."""
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if f"{values[low]:.4f}" == f"{values[high]:.4f}":
        return f"is {values[low]:.3f} in all models"
    digits = max(3, _digits(values[low], values[high]))
    return f"goes from {values[low]:.{digits}f} in “{low}” to {values[high]:.{digits}f} in “{high}”"


def trajectory_headline(analyses: Mapping[str, AnalysisRecord]) -> str:
    """State in one sentence how RLD changed at the smallest and the largest temperature."""
    first, *_, last = analyses.values()
    (far, far_before), (near, near_before) = _ends(first)
    (far_then, far_after), (near_then, near_after) = _ends(last)
    if (far, near) != (far_then, near_then):
        return "The checkpoints were analyzed at different temperatures; compare their curves where they overlap."
    return (
        f"Among near neighbors (T = {near:g}) RLD goes from {_change(near_before, near_after)}, and across the "
        f"whole set (T = {far:g}) from {_change(far_before, far_after)}."
    )


def _change(before: float, after: float) -> str:
    """Two values in two digits, or in as many as set different ones apart."""
    digits = _digits(before, after)
    if f"{before:.{digits}f}" == f"{after:.{digits}f}":
        digits = 2
    return f"{before:z.{digits}f} to {after:z.{digits}f}"


def unit_of(names: Iterable[str]) -> str:
    """Unit of the numbers in the names of checkpoints: "epoch" where all names say so, else "step"."""
    return "epoch" if all("epoch" in name.lower() for name in names) else "step"


def trajectory_findings(analyses: Mapping[str, AnalysisRecord]) -> list[str]:
    """State where each of the main quantities is highest along the training."""
    chosen: dict[str, str] = {}
    for quantity in next(iter(analyses.values())).quantities():
        for start in ("RLD", "accuracy"):
            if quantity.startswith(start):
                chosen[quantity] = _title(quantity)
    sentences = []
    for quantity, title in chosen.items():
        found = {name: value for name, a in analyses.items() if (value := a.quantities().get(quantity)) is not None}
        best = max(found, key=found.__getitem__)
        sentences.append(f"{title}: highest at “{best}” ({found[best]:.3f}).")
    return sentences


def _title(quantity: str) -> str:
    """Name of a quantity at the beginning of a sentence."""
    start, _, probe = quantity.partition("accuracy, ")
    if start or not probe:
        return quantity
    return "Accuracy of the linear probe" if probe == "linear" else f"Accuracy of {_in_sentence(probe)}"


def quantity_rows(analyses: Mapping[str, AnalysisRecord]) -> list[dict[str, str | float | int | None]]:
    """Rows of one quantity each: its name, then each model's value (None where a model lacks it)."""
    rows: dict[str, dict[str, float | int | None]] = {}
    for name, analysis in analyses.items():
        for quantity, value in analysis.quantities().items():
            rows.setdefault(quantity, {})[name] = value
    return [{"quantity": quantity} | {name: values.get(name) for name in analyses} for quantity, values in rows.items()]


def _homogeneity_sentence(chi: Mapping[int, float]) -> str:
    """State class homogeneity among the fewest and among the most neighbors."""
    few, many = min(chi), max(chi)
    if few == 1:
        start = f"The nearest neighbor of a point has its class in {100 * chi[few]:.0f} % of cases"
    else:
        start = f"Of the {few:,} nearest neighbors of a point, {100 * chi[few]:.0f} % have its class"
    return f"{start}; of its {many:,} nearest neighbors, {100 * chi[many]:.0f} % do."


def _ends(analysis: AnalysisRecord) -> tuple[tuple[float, float], tuple[float, float]]:
    """(T, RLD) at the largest and at the smallest temperature."""
    points = sorted(zip(analysis.rld.temperatures, analysis.rld.values, strict=True))
    return points[-1], points[0]


def _listed(values: Mapping[str, float]) -> str:
    """Values by name; of many, the lowest and the highest. Two digits, or as many as set different ones apart."""
    if len(values) > MOST_LISTED:
        low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        digits = _digits(values[low], values[high])
        return f"from {values[low]:.{digits}f} in “{low}” to {values[high]:.{digits}f} in “{high}”"
    second, highest = sorted(values.values())[-2:] if len(values) > 1 else (0.0, 1.0)
    digits = _digits(second, highest)
    return ", ".join(f"{value:.{digits}f} for “{name}”" for name, value in values.items())


def _digits(one: float, other: float) -> int:
    """Digits after the point, two to four, in which the values differ."""
    return next((digits for digits in (2, 3) if f"{one:.{digits}f}" != f"{other:.{digits}f}"), 4)


def _in_sentence(probe: str) -> str:
    """Name of a probe within a sentence: "the linear one", "the k-NN vote", "label propagation", "GraphSAGE"."""
    return _PROBES_IN_SENTENCES.get(probe, probe)


def _probe_sentence(probes: list[ProbeResult]) -> str:
    """Name the best probe, and compare the best graph probe with the linear one where both ran."""
    best = max(probes, key=lambda probe: probe.accuracy)
    sentence = f"The most accurate probe is {_in_sentence(best.name)} ({best.accuracy:.3f})"
    linear = next((probe for probe in probes if probe.name == "linear"), None)
    on_graph = [probe for probe in probes if probe.name in GRAPH_PROBES]
    if linear is None or not on_graph:
        return sentence + "."
    graph = max(on_graph, key=lambda probe: probe.accuracy)
    better, worse = sorted((linear, graph), key=lambda probe: probe.accuracy, reverse=True)
    apart = better.accuracy_interval[0] > worse.accuracy_interval[1]
    overlap = f"their 95 % intervals {'do not overlap' if apart else 'overlap'}"
    of_graph = f"on the graph, {_in_sentence(graph.name)} scores {graph.accuracy:.3f} with {graph.n_parameters:,}"
    of_linear = f"the linear probe scores {linear.accuracy:.3f} with {linear.n_parameters:,}"
    if best in (linear, graph):
        other = of_graph if best is linear else of_linear
        return f"{sentence} with {best.n_parameters:,} parameters; {other}, and {overlap}."
    return f"{sentence}; {of_graph} parameters, {of_linear}, and {overlap}."
