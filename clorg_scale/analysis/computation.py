"""The stages of an analysis, one after another."""

from __future__ import annotations

from typing import Any

from clorg_scale.affinity import affinity_graph
from clorg_scale.analysis import steps
from clorg_scale.analysis.assembly import Results
from clorg_scale.analysis.inputs import Inputs
from clorg_scale.analysis.plan import AnalysisPlan
from clorg_scale.analysis.probing import (
    AFFINITY_TEMPERATURE,
    FEWEST_TEST_POINTS,
    VARIED,
    Probing,
    joint_neighbors,
    probe_scores,
    study_scores,
)
from clorg_scale.analysis.sizes import spectrum_size
from clorg_scale.analysis.stages import Stages
from clorg_scale.neighbors.shared import first_neighbors

__all__ = ["compute"]


def compute(stage: Stages, data: Inputs, plan: AnalysisPlan) -> Results:
    """Compute each stage, or take what an earlier run has computed with the same arguments."""
    points, classes, test, sizes = data.points, data.coded, data.test, plan.sizes(data)
    k, resources = plan.k, plan.resources
    common: dict[str, Any] = {"seed": plan.seed, "resources": resources}
    rld_settings: dict[str, Any] = {"temperatures": plan.temperatures, "method": plan.method}
    exact = plan.method == "exact"
    rld_settings["approximation"] = {} if exact else {"target_error": plan.target_error, "k": k}
    spread = stage(steps.spread_ratio, points, classes, resources=resources)
    # One search of all points: every stage takes the first columns that it needs, or the rows in another order.
    searched = stage(steps.neighbors, points, k=sizes.table, **common)
    table, wide = first_neighbors(searched, k), first_neighbors(searched, sizes.probes)
    chi_table = first_neighbors(searched, sizes.chi_k) if sizes.chi_from_table else None
    chi = stage(steps.homogeneity, points, classes, chi_table, n_asked=sizes.n_asked, k=sizes.chi_k, **common)
    density = stage(steps.density, points, classes, None if exact else table, **rld_settings, **common)
    mu = density.mean_distance
    between = None if test is None else stage(steps.leakage, points, test, resources=resources)
    graph = stage.derived(affinity_graph, table, temperature=AFFINITY_TEMPERATURE, mean_distance=mu)
    found = stage(steps.partition, graph, method=plan.community_method, resolution=plan.resolution, **common)
    spectrum = stage(steps.spectral, graph, classes, n_vectors=spectrum_size(data), resources=resources)
    if test is not None and plan.probes and len(test) >= FEWEST_TEST_POINTS:
        searched = stage(joint_neighbors, points, test, k=sizes.with_test, **common)
        wide = first_neighbors(searched, sizes.probes)
    split = points, classes, test, data.test_codes
    probing = Probing(*split, plan.probes, wide, k, mu, plan.seed, resources, plan.max_over_epochs)
    scores = stage(probe_scores, probing, left_out=plan.left_out)
    in_other_settings = VARIED if plan.probe_study and scores.rows else ()
    studies = [
        stage(study_scores[varied], probing, searched, varied=varied, tried=VARIED[varied])
        for varied in in_other_settings
    ]
    layout = stage(steps.point_layout, points, data.classes.codes, **plan.on_map, **common)
    kept_table = stage.files.get(steps.neighbors.name)
    return Results(spread, chi, density, table, graph, found, spectrum, scores, studies, layout, between, kept_table)
