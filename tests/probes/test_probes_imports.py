"""What importing the probes loads, and the parameters of those that are no scikit-learn estimators."""

import subprocess
import sys

import pytest
from sklearn.base import clone

from clorg_scale.errors import InputError
from clorg_scale.probes import GCNProbe, LabelPropagationProbe, SAGEProbe


def test_graph_probes_are_made_without_heavy_packages():
    script = (
        "import sys\n"
        "from clorg_scale.probes import GCNProbe, LabelPropagationProbe, SAGEProbe, compare_probes\n"
        "GCNProbe(), LabelPropagationProbe(), SAGEProbe()\n"
        "heavy = ('sklearn', 'torch', 'faiss', 'scipy.stats', 'scipy.optimize')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", [GCNProbe, SAGEProbe, LabelPropagationProbe])
def test_parameters_are_read_set_shown_and_cloned(kind):
    probe = kind(seed=7)
    assert repr(probe) == f"{kind.__name__}(seed=7)"
    assert probe.get_params()["seed"] == 7
    assert clone(probe.set_params(seed=8)).get_params() == probe.get_params() | {"seed": 8}
    with pytest.raises(InputError, match="has no parameter 'sede'; choose from"):
        probe.set_params(sede=1)
