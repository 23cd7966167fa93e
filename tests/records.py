"""Complete analyses for the report's tests, of any number of classes, with numbers in their real ranges."""

import numpy as np

from clorg_scale.analysis import Analysis
from clorg_scale.analysis.summaries import (
    CommunitySummary,
    IssueSummary,
    Leak,
    LookAlike,
    NeighborSummary,
    PointMap,
    RLDSummary,
    StageNote,
    Suspect,
)
from clorg_scale.probes import ProbeResult, StudyRow

HOSTILE = "<script>document.title='broken'</script>\"'&amp;</script>"


def record(
    name="model", n_classes=10, n_map=500, n_communities=14, n_suspects=30, temperatures=(1.0, 0.2, 0.05), seed=0
):
    rng = np.random.default_rng(seed)
    classes = [f"class {c}" for c in range(n_classes)]
    classes[0] = HOSTILE
    t = len(temperatures)
    shares = rng.random((t, n_classes)) / n_classes * np.linspace(0.1, 0.8, t)[:, None]
    purity = np.linspace(0.3, 0.95, t)[:, None] * rng.uniform(0.8, 1, (t, n_classes))
    code, community = rng.integers(-1, n_classes, n_map), rng.integers(0, n_communities, n_map)
    sizes = np.sort(rng.integers(10, 900, n_communities))[::-1]
    density = rng.random(n_map)
    return Analysis(
        name=name,
        n_points=10_000,
        n_features=512,
        n_test=2_000,
        test_source="given",
        classes=classes,
        class_sizes=rng.integers(10, 2_000, n_classes).tolist(),
        n_unlabelled=12,
        rld=RLDSummary(
            temperatures=list(temperatures),
            values=shares.sum(1).tolist(),
            stderr=[0.002] * t,
            per_class=shares.tolist(),
            purity=[[None if c == 1 else float(v) for c, v in enumerate(row)] for row in purity],
            null_mean=[-0.0001] * t,
            null_std=[0.0002] + [None] * (t - 1),
            mean_distance=11.4,
            method="sampled",
            details={"n_landmarks": 2_600},
        ),
        class_homogeneity={1: 0.87, 10: 0.85, 100: 0.8, 1000: 0.53},
        class_homogeneity_stderr={1: 0.004, 10: 0.003, 100: 0.002, 1000: 0.002},
        calinski_harabasz=745.9,
        neighbors=NeighborSummary(15, "euclidean", "IVF", 0.993),
        communities=CommunitySummary(
            "leiden",
            1.0,
            n_communities,
            0.88,
            0.71,
            0.62,
            0.45,
            sizes.tolist(),
            rng.integers(0, 200, (n_classes, n_communities)).tolist(),
        ),
        probes=[
            ProbeResult("linear", 0.8643, (0.857, 0.871), 5_130, 3.2, {"lr": 0.1}),
            ProbeResult("knn", 0.86, (0.853, 0.867), 0, 1.1, {"k": 15}),
            ProbeResult("gcn", 0.8774, (0.870, 0.884), 652, 9.0, {"layers": 2}),
        ],
        point_map=PointMap(
            "t-SNE of a stratified sample.",
            rng.permutation(10_000)[:n_map].tolist(),
            rng.normal(0, 30, n_map).tolist(),
            rng.normal(0, 30, n_map).tolist(),
            code.tolist(),
            community.tolist(),
            [None if c < 0 else float(v) for c, v in zip(code, density, strict=True)],
            0.1,
        ),
        suspects=[Suspect(int(i), classes[i % n_classes], HOSTILE, i / 100) for i in range(n_suspects)],
        stages=[StageNote("RLD", "Sampled with 2,600 landmarks.", 12.3, 1_200_000_000)],
        settings={"k": 15, "affinity_temperature": 0.1, "method": "auto", "seed": 0},
        versions={"clorg-scale": "0.1.0"},
        probe_study=[
            StudyRow(share, k, temperature, ProbeResult(name, 0.5 + 0.1 * share, (0.5, 0.7), 0, 1.0, {}))
            for share, k, temperature, name in (
                (1.0, None, None, "linear"),
                (0.1, None, None, "linear"),
                (1.0, 15, None, "knn"),
                (1.0, 15, 0.1, "gcn"),
                (0.1, 15, 0.1, "gcn"),
                (1.0, 5, 0.1, "gcn"),
                (1.0, 15, 0.5, "gcn"),
            )
        ],
        issues=IssueSummary(
            n_suspects=4_321,
            n_near_duplicates=7,
            n_near_duplicate_sets=3,
            n_outliers=12,
            n_test_in_train=1,
            leaks=[Leak(5, 17, HOSTILE, classes[1], 0.001)],
            look_alikes=[LookAlike(i, i + 1, classes[0], HOSTILE, 0.1 + i / 100) for i in range(30)],
        ),
    )
