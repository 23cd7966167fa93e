"""Results whose arrays are on the device: frames, files and notebooks hold the numbers of those in main memory."""

import pytest
from gpu_data import points, tables

import clorg_scale as cs

pandas = pytest.importorskip("pandas", reason="pandas is not installed")


def results(table, codes, X):
    """One of each kind that may be on the device."""
    graph = cs.affinity_graph(table)
    return {
        "KNN": table,
        "AffinityGraph": graph,
        "Communities": cs.communities(graph, method="leiden"),
        "Spectrum": cs.spectrum(graph, 4, labels=codes, device="cpu"),
        "RLDResult": cs.rld(X, codes, temperatures=(0.1,), unlabelled=-1, device="cpu"),
    }


@pytest.mark.filterwarnings("ignore:.*labels are -1")
@pytest.mark.parametrize("kind", ["KNN", "AffinityGraph", "Communities", "Spectrum", "RLDResult"])
def test_handed_out_as_those_in_main_memory(cupy, kind, tmp_path):
    table, on_device, codes = tables(cupy)
    X, _ = points()
    ours, theirs = results(on_device, codes, cupy.asarray(X))[kind], results(table, codes, X)[kind]
    assert repr(theirs).startswith(repr(ours)[:-1])  # the recall, which only the search in main memory has measured
    for name in theirs._tables():
        found, expected = ours.to_frame(name), theirs.to_frame(name)
        pandas.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-4, atol=1e-5)
    assert ours._repr_html_().count("<tr>") == theirs._repr_html_().count("<tr>")
    again = type(ours).from_json(ours.to_json(tmp_path / "result.json"))
    pandas.testing.assert_frame_equal(again.to_frame(), ours.to_frame())
