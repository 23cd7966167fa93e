"""Probes: the accuracy of simple classifiers on embeddings or on their affinity graph.

`LinearProbe` and `KNNProbe` see the embeddings. `LabelPropagationProbe`, `GCNProbe` and `SAGEProbe` see the
graph over training and test points and the training labels. `compare_probes` runs them all on one split,
`study_probes` over numbers of neighbors, temperatures and shares of labels.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clorg_scale.probes.comparison import PROBES, compare_probes
    from clorg_scale.probes.gcn import GCNProbe
    from clorg_scale.probes.linear import LinearProbe
    from clorg_scale.probes.nearest import KNNProbe
    from clorg_scale.probes.propagation import LabelPropagationProbe
    from clorg_scale.probes.result import ProbeResult
    from clorg_scale.probes.sage import SAGEProbe
    from clorg_scale.probes.study import StudyRow, study_probes

__all__ = [
    "PROBES",
    "GCNProbe",
    "KNNProbe",
    "LabelPropagationProbe",
    "LinearProbe",
    "ProbeResult",
    "SAGEProbe",
    "StudyRow",
    "compare_probes",
    "study_probes",
]

# Imported at first use: scikit-learn and FAISS take a second that `import clorg_scale` should not.
_HOME = {
    "PROBES": "comparison",
    "ProbeResult": "result",
    "compare_probes": "comparison",
    "GCNProbe": "gcn",
    "SAGEProbe": "sage",
    "LinearProbe": "linear",
    "KNNProbe": "nearest",
    "LabelPropagationProbe": "propagation",
    "StudyRow": "study",
    "study_probes": "study",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
