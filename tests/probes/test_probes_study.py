import numpy as np
import pytest
from sklearn.datasets import load_digits

from clorg_scale.affinity import affinity_graph
from clorg_scale.errors import InputError
from clorg_scale.neighbors import knn
from clorg_scale.probes import compare_probes, study_probes


@pytest.fixture(scope="module")
def split():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    names = np.array([f"digit {label}" for label in y[order]])
    return X[order][:1300], names[:1300], X[order][1300:], names[1300:]


def test_rows_accuracy_and_agreement_with_the_comparison(split):
    probes = ("linear", "knn", "label_propagation")
    rows = study_probes(*split, probes=probes, ks=(3, 8), temperatures=(0.1, 0.5), label_fractions=(0.02, 1.0))
    settings = [(row.label_fraction, row.result.name, row.k, row.temperature) for row in rows]
    assert len(set(settings)) == len(settings) == 2 * (1 + 2 + 4)
    by_setting = dict(zip(settings, (row.result.accuracy for row in rows), strict=True))
    # 497 test points: an accuracy near .9 has a standard deviation of .013.
    for name, k, temperature in {setting[1:] for setting in settings}:
        assert by_setting[1.0, name, k, temperature] > by_setting[0.02, name, k, temperature] + 0.013
    assert by_setting[1.0, "label_propagation", 8, 0.1] > 0.9

    X, y, X_test, y_test = split
    table = knn(np.concatenate([X, X_test]), 8)
    graph = affinity_graph(table, temperature=0.5)
    alone = compare_probes(X, y, X_test, y_test, graph, probes=("label_propagation",))
    assert alone[0].accuracy == by_setting[1.0, "label_propagation", 8, 0.5]
    reused = study_probes(
        *split,
        probes=("label_propagation",),
        ks=(8,),
        temperatures=(0.5,),
        label_fractions=(1,),
        neighbors=table,
    )
    assert reused[0].result.accuracy == alone[0].accuracy


@pytest.fixture
def torch_on_one_thread():
    """A graph this small gains nothing from threads, and loses much where other work has the cores."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("torch_on_one_thread")
def test_graph_networks_in_the_comparison(split):
    X, y, X_test, y_test = split
    graph = affinity_graph(knn(np.concatenate([X, X_test]), 8))
    propagation, gcn, sage = compare_probes(X, y, X_test, y_test, graph, probes=("label_propagation", "gcn", "sage"))
    assert gcn.n_parameters == 652
    assert sage.n_parameters == 1066
    # Within four standard deviations of label propagation, .0095 each at an accuracy of .955.
    assert gcn.accuracy > propagation.accuracy - 4 * 0.0095
    assert sage.accuracy > propagation.accuracy - 4 * 0.0095
    assert gcn.settings["full_batch"] is True
    assert gcn.settings["n_epochs"] >= 1


def test_bad_input(split):
    with pytest.raises(InputError, match="label_fractions"):
        study_probes(*split, label_fractions=(0, 1))
    with pytest.raises(InputError, match="ks"):
        study_probes(*split, ks=())
    with pytest.raises(InputError, match="k = 4"):
        study_probes(*split, ks=(8,), neighbors=knn(np.concatenate([split[0], split[2]]), 4))
