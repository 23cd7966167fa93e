"""`bench run`: every benchmark runs at small sizes, its options do what they say, its numbers agree with oracles."""

import sys

import numpy as np
import pytest
from clorg_scale.bench.harness.data import load_ann_benchmarks, load_data
from clorg_scale.bench.harness.floors import Rates, floor_of
from clorg_scale.bench.harness.isolated import run_isolated
from clorg_scale.bench.harness.machine import describe_machine
from clorg_scale.bench.harness.peers import MissingPeerError, import_peer, peers_folder
from clorg_scale.bench.harness.records import read_records
from clorg_scale.bench.harness.registry import MODULES, all_benchmarks
from clorg_scale.bench.harness.session import Case, Contender, Session, Settings
from clorg_scale.bench.knn_truth import true_neighbors
from command_line import assert_one_sentence, run

from clorg_scale.errors import InputError

CLUSTER = {"cluster", "cluster-schedule", "cluster-kills"}

HEAVY = {"knn", "knn-rule", "probes", "linear-probe", "training", "gcn", "tsne", "rld-coverage"} | CLUSTER
"""More than some seconds even when small; most need PyTorch."""


def measured(tmp_path, *arguments):
    outcome = run("bench", "run", *arguments, "--quick", "--out", tmp_path / "r.jsonl")
    assert outcome.code == 0, outcome.err
    return read_records(tmp_path / "r.jsonl"), outcome


# ---- every benchmark -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in HEAVY else []) for n in MODULES])
def test_every_benchmark_runs_at_small_sizes_and_says_what_it_measured_on(tmp_path, name):
    if name in ("gcn", "training", "probes", "cluster-kills"):
        pytest.importorskip("torch")
        pytest.importorskip("torchvision")
    if name in CLUSTER:
        pytest.importorskip("distributed")
    peers = () if name == "knn-rule" else ("--no-peers",)
    records, outcome = measured(tmp_path, name, *peers)
    assert {record.benchmark for record in records} == {name}
    assert any(record.role == "ours" and (record.times or record.quality) for record in records)
    for record in records:
        assert record.quick
        assert record.machine == describe_machine()
        assert record.machine["cores"] > 0
        assert {"python", "numpy", "faiss-cpu"} <= set(record.versions)
        assert record.blas
        assert record.seed == 0
        assert record.date
        assert record.floor is None or record.floor > 0
    assert "small sizes, no figure to cite" in outcome.out
    assert outcome.err.count("\n") > 2  # progress


def test_the_list_names_every_benchmark_with_sizes_and_time():
    outcome = run("bench", "list")
    assert outcome.code == 0
    for benchmark in all_benchmarks():
        assert benchmark.name in outcome.out
        assert benchmark.sizes in outcome.out
        assert benchmark.minutes > 0


# ---- options ---------------------------------------------------------------------------------------------------------


def test_sizes_repeats_seed_and_threads_are_what_was_asked_for(tmp_path):
    options = ["--points", "700", "--features", "24", "--repeats", "3", "--seed", "5", "--threads", "1"]
    records, _ = measured(tmp_path, "rld", *options)
    assert {(r.size["n"], r.size["d"]) for r in records} == {(700, 24)}
    assert {len(r.times) for r in records if "sampled" in r.contender or r.case.startswith("exact")} == {3}
    assert {r.seed for r in records} == {5}
    assert {r.threads for r in records} == {1}
    assert any("(1 threads)" in blas for blas in records[0].blas)


def test_records_are_added_to_a_file_and_those_there_stay(tmp_path):
    first, _ = measured(tmp_path, "kmeans", "--points", "900", "--no-peers")
    both, _ = measured(tmp_path, "kmeans", "--points", "1000", "--no-peers")
    assert both[: len(first)] == first
    assert len(both) == 2 * len(first)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], ["nothing", "bench list"]),
        (["knnn"], ["did you mean 'knn'?"]),
        (["probes", "--points", "100"], ["probes", "--points", "--k"]),
        (["tsne", "-k", "3"], ["tsne", "--k"]),
        (["knn", "--points", "0"], ["--points", "at least 1"]),
        (["knn", "--repeats", "-1"], ["--repeats"]),
        (["knn", "--data", "no-such.hdf5"], ["no-such.hdf5", "fashion-mnist"]),
        (["knn", "--threads", "100000"], ["--threads", "at most"]),
        (["graph", "--data", "contrastive", "--points", "99999"], ["10,000 points"]),
        (["graph", "--data", "contrastive", "--features", "3"], ["--features"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].islower() else "",
)
def test_mistakes_are_one_sentence_and_nothing_is_written(tmp_path, arguments, words):
    outcome = run("bench", "run", *arguments, "--out", tmp_path / "r.jsonl")
    lines = outcome.err.splitlines()
    assert outcome.code == 2
    assert lines[-1].startswith("error: ")
    assert all(word in lines[-1] for word in words), lines[-1]
    assert not (tmp_path / "r.jsonl").exists()


def test_an_output_that_cannot_be_written_is_noticed_before_anything_runs(tmp_path):
    assert_one_sentence(run("bench", "run", "knn", "--out", tmp_path / "no" / "r.jsonl"), "no")


# ---- contenders and peers --------------------------------------------------------------------------------------------


def test_a_peer_that_is_not_installed_is_named_and_the_others_are_measured(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    records, outcome = measured(tmp_path, "modularity", "--data", "mixture", "--points", "500")
    (missing,) = (r for r in records if r.role == "missing")
    assert missing.contender.startswith("NetworkX")
    assert "--install-peers" in missing.note
    assert "left out: networkx is not installed" in outcome.out
    values = [r.quality["value"] for r in records if r.role != "missing"]
    assert len(values) == 4
    np.testing.assert_allclose(values, values[0], atol=1e-6)


def test_contenders_take_turns_and_ours_must_not_fail():
    session, calls = Session(Settings()), []
    session.benchmark = "test"

    def contender(name, role="peer", fails=False):
        def once():
            calls.append(name)
            if fails:
                raise RuntimeError("broken")

        return Contender(name, once, role=role)

    records = session.compare(
        Case("c", {}), [contender("a", "ours"), contender("b"), contender("c", fails=True)], repeats=3
    )
    assert calls == ["a", "b", "c", "a", "b", "a", "b"]
    assert [len(r.times) for r in records] == [3, 3]
    assert [r.note for r in session.records if r.role == "missing"] == ["failed: RuntimeError: broken"]
    with pytest.raises(RuntimeError, match="broken"):
        session.compare(Case("c", {}), [contender("d", "ours", fails=True)], repeats=1)


def test_import_of_a_peer_says_how_to_get_it():
    with pytest.raises(MissingPeerError, match="pip install no-such-peer"):
        import_peer("no_such_peer", "no-such-peer")


def test_peers_in_environments_of_their_own_are_timed_there(tmp_path, monkeypatch):
    """With a Python of a cache folder that sees this one's NumPy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingPeerError, match="--install-peers"):
        run_isolated("cuml", "", "return 1", X=np.ones(3))
    python = peers_folder() / "cuml" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    session = Session(Settings())
    work = 'time.sleep(0.05)\nreturn 2 * arrays["X"]'
    twice = Contender("twice", lambda: run_isolated("cuml", "", work, X=np.arange(3)), lambda r: {"sum": r.sum()})
    broken = Contender("broken", lambda: run_isolated("cuml", "", 'raise ValueError("no GPU")', X=np.arange(3)))
    absent = Contender("absent", lambda: run_isolated("cuml", "import no_such_peer", "return 1", X=np.arange(3)))
    (record,) = session.compare(Case("c", {}), [twice, broken, absent], repeats=1)
    assert record.quality == {"sum": 6}
    assert record.times[0] >= 0.05
    notes = {r.contender: r.note for r in session.records if r.role == "missing"}
    assert "ValueError: no GPU" in notes["broken"]
    assert "no_such_peer" in notes["absent"]


def test_exact_kernel_sums_agree_with_the_peers(tmp_path):
    records, _ = measured(tmp_path, "kernel-sums")
    found = {r.contender: r.quality["difference"] for r in records if r.role == "peer"}
    assert "scikit-learn pairwise_distances_chunked" in found
    assert max(found.values()) < 1e-5, found


# ---- data, floors, recall --------------------------------------------------------------------------------------------


@pytest.fixture
def ann_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    train, test = rng.standard_normal((1300, 8), np.float32), rng.standard_normal((20, 8), np.float32)
    with h5py.File(tmp_path / "small-8-euclidean.hdf5", "w") as file:
        file.attrs["distance"] = "euclidean"
        file["train"], file["test"] = train, test
        file["neighbors"] = NearestNeighbors(n_neighbors=10).fit(train).kneighbors(test, return_distance=False)
    return tmp_path / "small-8-euclidean.hdf5"


def test_files_of_ann_benchmarks_are_data(tmp_path, ann_file):
    train, test, neighbors = load_ann_benchmarks(ann_file)
    nearest = ((test[:, None] - train) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(neighbors[:, 0], nearest)
    records, _ = measured(tmp_path, "kmeans", "--data", str(ann_file), "--no-peers")
    assert records[0].case.startswith("small-8-euclidean 1,300 x 8")
    with pytest.raises(InputError, match="1,300 points"):
        load_data(str(ann_file), 5000)


def test_angular_files_are_normalized_and_others_refused(tmp_path, ann_file):
    h5py = pytest.importorskip("h5py")
    with h5py.File(ann_file, "a") as file:
        file.attrs["distance"] = "angular"
    np.testing.assert_allclose(np.linalg.norm(load_ann_benchmarks(ann_file)[0], axis=1), 1, rtol=1e-6)
    with h5py.File(ann_file, "a") as file:
        file.attrs["distance"] = "jaccard"
    with pytest.raises(InputError, match="jaccard"):
        load_ann_benchmarks(ann_file)
    (tmp_path / "x.hdf5").write_text("no HDF5")
    with pytest.raises(InputError, match="ann-benchmarks"):
        load_ann_benchmarks(tmp_path / "x.hdf5")


def test_floors_are_the_longer_of_products_and_bytes():
    rates = Rates(1e9, (1, 1, 1), 1e8)
    assert floor_of(2e9, 1e7, rates).seconds == 2
    assert floor_of(1e6, 1e9, rates).seconds == 10
    assert "GB/s" in floor_of(1e6, 1e9, rates).work


def test_recall_is_that_of_brute_force():
    from sklearn.neighbors import NearestNeighbors

    X = np.random.default_rng(0).standard_normal((400, 6), np.float32)
    X[7] = X[8]  # duplicates are each other's neighbors
    truth = true_neighbors(X, 5, sample=400)
    exact = NearestNeighbors(n_neighbors=5).fit(X).kneighbors(return_distance=False)
    assert truth.recall(exact) == 1
    wrong = exact.copy()
    wrong[:, 0] = (exact[:, 0] + 200) % 400
    expected = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(wrong, exact, strict=True)])
    assert truth.recall(wrong) == pytest.approx(expected, abs=1e-9)
    wrong[:, 1:] = exact[:, :1]  # found five times, it counts once
    assert truth.recall(np.repeat(exact[:, :1], 5, axis=1)) == pytest.approx(0.2)


@pytest.mark.parametrize("by_list", [False, True])
def test_faiss_pipelines_reach_full_recall_with_all_lists(by_list):
    from clorg_scale.bench.faiss_pipelines import Effort, Index, Pipeline

    X = load_data("mixture", 1600, 16).X
    truth = true_neighbors(X, 10, sample=200)
    effort = Effort("nprobe=20,k_factor_rf=8")
    index = Index(Pipeline("PCA12,IVF20,Flat,RFlat", (effort,), by_list=by_list), X)
    table = index.search(None, 10, effort)
    assert table.shape == (1600, 10)
    assert not (table == np.arange(1600)[:, None]).any()
    assert truth.recall(table) > 0.99
    np.testing.assert_array_equal(np.sort(index.search(truth.rows, 10, effort)), np.sort(table[truth.rows]))
