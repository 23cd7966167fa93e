"""Every mistake a user can make on the command line: exit code 2, one sentence, nothing written."""

import json
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from command_line import CONSOLE_SCRIPT, assert_one_sentence, run, run_process, tree
from records import record

import clorg_scale as cs
from clorg_scale.arrays import resolve_device
from clorg_scale.errors import InputError

N, D = 40, 4


def points():
    """Three separate classes, no row of zeros."""
    labels = np.arange(N) % 3
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32) + 6 * labels[:, None] + 3


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with good embeddings and labels, in which commands run."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", points())
    np.save("y.npy", np.arange(N) % 3)
    return tmp_path


OUT = {"analyze": "results", "rld": "result.json", "knn": "result.npz", "communities": "result.npy"}
STAGES = tuple(OUT)
QUICK = {"analyze": ("--probes", "none", "--map-points", "0", "--k", "5")}


def command(name, embeddings="x.npy", labels="y.npy", *more):
    """Arguments of a command that computes and writes something."""
    labeled = () if name == "knn" or labels is None else ("--labels", labels)
    return (name, embeddings, *labeled, "--out", OUT[name], *QUICK.get(name, ()), *more)


def refused(here, arguments, *words):
    """Run a command that must fail: in a clean folder, and again where earlier results lie."""
    before = tree(here)
    assert_one_sentence(run(*arguments), *words)
    assert tree(here) == before
    out = here / OUT[arguments[0]]
    if out.suffix:
        out.write_bytes(b"earlier result")
    else:
        out.mkdir()
        for name in ("analysis.json", "report.html", "RLD-0123456789abcdef.npz"):
            (out / name).write_bytes(b"earlier result")
    before = tree(here)
    assert_one_sentence(run(*arguments), *words)
    assert tree(here) == before


# ---- embeddings ------------------------------------------------------------------------------------------------


def spoilt(rows, value):
    X = points()
    X[rows, 1] = value
    return X


BAD_ARRAYS = {
    "nan": (lambda: spoilt([3, 7], np.nan), ("NaN or infinite", f"2 of {N} rows", "rows 3, 7", "repair")),
    "inf": (lambda: spoilt(slice(10, 20), -np.inf), (f"10 of {N} rows", "rows 10, 11, 12, 13, 14, ...")),
    "inf in float16": (lambda: spoilt([5], np.inf).astype(np.float16), (f"1 of {N} rows", "rows 5)")),
    "one dimension": (lambda: points()[:, 0], ("no two-dimensional array", "'x'")),
    "three dimensions": (lambda: points().reshape(N, 2, 2), ("no two-dimensional array",)),
    "two points": (lambda: points()[:2], ("shape (2, 4)", "at least 3 points")),
    "no point": (lambda: points()[:0], ("at least 3 points",)),
    "no feature": (lambda: points()[:, :0], ("at least 1 feature",)),
    "complex": (lambda: points().astype(complex), ("complex128", "real numbers")),
    "text": (lambda: points().astype(str), ("real numbers",)),
    "identical": (lambda: np.full((N, D), 2.5), ("identical", "mean distance is 0")),
    "sum overflows": (lambda: np.full((N, D), 1e308) * np.linspace(0.9, 1, N)[:, None], ("so large", "divide")),
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("bad", BAD_ARRAYS)
def test_bad_embeddings(here, name, bad):
    make, words = BAD_ARRAYS[bad]
    np.save("x.npy", make())
    refused(here, command(name), *words)


@pytest.mark.parametrize("arguments", [command("analyze"), command("knn", "x.npy", None, "--metric", "cosine")])
def test_zero_vectors_under_cosine(here, arguments):
    X = points()
    X[[4, 9]] = 0
    np.save("x.npy", X)
    refused(here, arguments, "zero", "4")


def write_objects(path):
    np.save(path, np.array([[1, "a"], [None, 2.0], [3, 4]], dtype=object), allow_pickle=True)


def write_object_archive(path):
    np.savez(path, embeddings=np.array([[1, "a"], [None, 2.0], [3, 4]], dtype=object))


class Bomb:
    """Unpickling it writes a file."""

    def __reduce__(self):
        return (open, ("unpickled", "w"))


def write_pickle(path):
    Path(path).write_bytes(pickle.dumps(Bomb()))


def write_bomb(path):
    np.save(path, np.array([[Bomb(), Bomb()]] * 3, dtype=object), allow_pickle=True)


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(
    ("file", "write"),
    [("o.npy", write_objects), ("o.npz", write_object_archive), ("o.npy", write_pickle), ("o.npy", write_bomb)],
)
def test_python_objects_are_refused(here, name, file, write):
    write(file)
    refused(here, command(name, file), file)
    assert not (here / "unpickled").exists()


def write_safetensors(path):
    from safetensors.numpy import save_file

    save_file({"embeddings": points()}, path)


def write_parquet(path):
    import pyarrow
    import pyarrow.parquet

    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(points().ravel()), D)
    pyarrow.parquet.write_table(pyarrow.table({"embeddings": lists}), path)


def write_h5ad(path):
    import anndata

    anndata.AnnData(points()).write_h5ad(path)


FORMATS = {
    "t.npy": lambda path: np.save(path, points()),
    "t.npz": lambda path: np.savez(path, embeddings=points()),
    "c.npz": lambda path: np.savez_compressed(path, embeddings=points()),
    "t.safetensors": write_safetensors,
    "t.parquet": write_parquet,
    "t.h5ad": write_h5ad,
}


@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.99])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_truncated_files(here, file, share):
    FORMATS[file](file)
    whole = Path(file).read_bytes()
    assert run(*command("rld", file)).code == 0
    (here / OUT["rld"]).unlink()
    Path(file).write_bytes(whole[: int(share * len(whole))])
    refused(here, command("rld", file), file)
    refused_later = run(*command("analyze", file))
    assert_one_sentence(refused_later, file)
    assert not (here / OUT["analyze"]).exists()


@pytest.mark.parametrize("file", [*FORMATS, "t.bin", "t", "t.pt"])
@pytest.mark.parametrize("contents", [b"", b"once upon a time\n" * 100, bytes(range(256)) * 40])
def test_foreign_files(here, file, contents):
    if file.endswith(".pt"):
        pytest.importorskip("torch", reason="torch is not installed")
    Path(file).write_bytes(contents)
    refused(here, command("rld", file), file)


@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bytes_that_changed(here, file):
    """Whatever byte is wrong: the file is refused in one sentence, or read where nothing shows the damage."""
    FORMATS[file](file)
    whole = Path(file).read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(12):
        damaged = bytearray(whole)
        for place in rng.integers(min(len(whole), 400), size=3):
            damaged[place] = rng.integers(256)
        Path(file).write_bytes(damaged)
        outcome = run("knn", file, "--k", "3", "--json")
        if outcome.code:
            assert_one_sentence(outcome, file)


def test_headers_that_break_the_parsers(here):
    """An open bracket in a .npy header, an unknown compression in a .npz archive."""
    FORMATS["t.npy"]("t.npy")
    Path("t.npy").write_bytes(Path("t.npy").read_bytes().replace(b"}", b"(", 1))
    refused(here, command("rld", "t.npy"), "t.npy is not a .npy file, or it is damaged")
    (here / OUT["rld"]).unlink()
    FORMATS["c.npz"]("c.npz")
    archive = bytearray(Path("c.npz").read_bytes())
    central = archive.rindex(b"PK\x01\x02")
    archive[8] = archive[central + 10] = 97
    Path("c.npz").write_bytes(archive)
    refused(here, command("rld", "c.npz"), "c.npz is not a .npz file", "compression method")


def test_damaged_zarr_stores(here):
    import zarr

    zarr.save_array("t.zarr", points())
    assert run(*command("knn", "t.zarr")).code == 0
    (here / OUT["knn"]).unlink()
    chunk = max((path for path in Path("t.zarr").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    refused(here, command("knn", "t.zarr"), "t.zarr")
    (here / OUT["knn"]).unlink()
    chunk.write_bytes(whole)
    metadata = Path("t.zarr/zarr.json")
    metadata.write_bytes(metadata.read_bytes()[:50])
    refused(here, command("knn", "t.zarr"), "t.zarr")


@pytest.mark.parametrize("name", STAGES)
def test_missing_files_and_folders(here, name):
    (here / "empty").mkdir()
    for embeddings, words in (
        ("no.npy", ("no.npy does not exist",)),
        ("no/x.npy", ("no/x.npy does not exist",)),
        ("empty", ("empty is a folder", "save_embeddings")),
        ("x.npy:other", ("'other'", "'x'")),
        ("", ("folder",)),
    ):
        shutil.rmtree(here / "results", ignore_errors=True)
        (here / OUT[name]).unlink(missing_ok=True) if Path(OUT[name]).suffix else None
        refused(here, command(name, embeddings), *words)


# ---- labels ----------------------------------------------------------------------------------------------------

LABELS = np.arange(N) % 3
BAD_LABELS = {
    "too few": (lambda: LABELS[:-1], (f"{N - 1} labels", f"{N} embeddings")),
    "too many": (lambda: np.arange(N + 1) % 3, (f"{N + 1} labels",)),
    "fractions": (lambda: LABELS + np.where(LABELS == 1, 0.5, 0), ("not whole numbers", "1.5 at row 1")),
    "nan": (lambda: np.where(LABELS == 2, np.nan, LABELS), ("missing", "row 2", "-1")),
    "infinite": (lambda: np.where(LABELS == 2, np.inf, LABELS), ("not whole numbers",)),
    "one class": (lambda: np.full(N, 3), ("single class", "two")),
    "unlabelled": (lambda: np.full(N, -1), ("unlabelled",)),
    "one class beside unlabelled": (lambda: np.where(LABELS == 0, 4, -1), ("single class",)),
    "one-hot": (lambda: np.eye(3)[LABELS], ("holds no labels",)),
    "dates": (lambda: LABELS.astype("datetime64[s]"), ("dtype", "integers or strings")),
}


@pytest.mark.parametrize("name", ["analyze", "rld", "communities"])
@pytest.mark.parametrize("bad", BAD_LABELS)
def test_bad_labels(here, name, bad):
    make, words = BAD_LABELS[bad]
    np.save("y.npy", make())
    refused(here, command(name), *words)


def test_every_point_a_class_of_its_own(here):
    np.save("y.npy", np.arange(N))
    refused(here, command("analyze"), "class of its own")


@pytest.mark.parametrize("name", ["analyze", "rld", "communities"])
def test_label_files_that_cannot_be_read(here, name):
    (here / "y.xlsx").write_bytes(b"PK")
    (here / "empty.txt").touch()
    (here / "y.json").write_text('{"labels": [1, 2')
    (here / "folder").mkdir()
    np.save("objects.npy", np.array([1, None, "a"] * 20, dtype=object), allow_pickle=True)
    for file, words in (
        ("y.xlsx", ("y.xlsx", "unknown format", ".csv")),
        ("empty.txt", ("empty.txt is empty",)),
        ("y.json", ("y.json",)),
        ("folder", ("folder is a folder",)),
        ("objects.npy", ("Python objects",)),
        ("no.txt", ("no.txt does not exist",)),
        ("no_such_array", ("no array 'no_such_array'",)),
    ):
        shutil.rmtree(here / "results", ignore_errors=True)
        (here / OUT[name]).unlink(missing_ok=True) if Path(OUT[name]).suffix else None
        refused(here, command(name, "x.npy", file), *words)


@pytest.mark.parametrize("name", ["analyze", "rld"])
def test_labels_that_are_not_there(here, name):
    refused(here, command(name, "x.npy", None), "x.npy holds no labels", "--labels")


def test_test_points_that_do_not_fit(here):
    X, y = points(), LABELS
    np.save("few.npy", X[:2])
    np.save("wide.npy", np.hstack([X, X]))
    np.save("nan.npy", spoilt([1], np.nan))
    np.save("names.npy", LABELS.astype(str))
    np.save("new.npy", LABELS + 1)
    np.save("none.npy", np.full(N, -1))
    np.save("two.npy", y[:2])
    for test, labels, words in (
        ("few.npy", "two.npy", ("few.npy have shape (2, 4)", "at least 3 points")),
        ("wide.npy", "y.npy", ("test embeddings have 8 features", "4")),
        ("nan.npy", "y.npy", ("test embeddings hold NaN", "rows 1")),
        ("x.npy", "names.npy", ("in one way",)),
        ("x.npy", "new.npy", ("test labels hold a class", "3")),
        ("x.npy", "none.npy", ("None of the test points has a label",)),
        ("x.npy", "two.npy", ("2 labels",)),
        ("x.npy", None, ("x.npy holds no labels",)),
        (None, "y.npy", ("--test-labels", "without --test-embeddings")),
    ):
        shutil.rmtree(here / "results", ignore_errors=True)
        given = [] if test is None else ["--test-embeddings", test]
        given += [] if labels is None else ["--test-labels", labels]
        refused(here, (*command("analyze"), *given), *words)


# ---- settings --------------------------------------------------------------------------------------------------

ALL = [
    (("--k", "0"), ("k must be a whole number from 1 to 39",)),
    (("--k", "-3"), ("k must be a whole number from 1 to 39",)),
    (("--k", str(N)), ("k must be a whole number from 1 to 39", str(N))),
    (("--k", "many"), ("--k",)),
    (("--seed", "-1"), ("--seed", "-1")),
    (("--seed", str(2**32)), ("--seed",)),
    (("--seed", "1.5"), ("--seed",)),
    (("--device", "tpu"), ("'auto', 'cpu' or 'cuda'", "'tpu'")),
    (("--memory-limit", "much"), ("'much' is not an amount of memory", "8GB")),
    (("--memory-limit", "-8GB"), ("'-8GB'",)),
    (("--memory-limit", "0"), ("positive",)),
    (("--memory-limit", "10kB"), ("at least", "MB")),
    (("--bogus", "1"), ("--bogus", "--help")),
]
TEMPERATURES = [
    (("--temperatures", "0.1,0"), ("positive", "0.0")),
    (("--temperatures", "-1"), ("positive", "-1.0")),
    (("--temperatures", "nan"), ("positive",)),
    (("--temperatures", "inf"), ("positive",)),
    (("--temperatures", "1e-9"), ("1e-09 is too small",)),
    (("--temperatures", "hot"), ("separated by commas", "'hot'")),
    (("--temperatures", ","), ("No temperature",)),
    (("--method", "magic"), ("method", "'exact'", "'magic'")),
    (("--target-error", "0"), ("target_error", "positive")),
    (("--target-error", "nan"), ("target_error", "positive")),
]
SETTINGS = {
    "analyze": [
        *ALL,
        *TEMPERATURES,
        (("--probes", "linear,oracle"), ("'oracle'", "linear", "gcn")),
        (("--communities", "magic"), ("community_method", "'leiden'", "'magic'")),
        (("--resolution", "0"), ("resolution", "positive")),
        (("--resolution", "nan"), ("resolution", "positive")),
        (("--map-points", "-5"), ("map_points", "0 for no map")),
        (("--map-points", "1"), ("map_points", "3 or more")),
    ],
    "rld": [*(case for case in ALL if case[0][0] != "--k"), *TEMPERATURES],
    "knn": [
        *ALL,
        (("--metric", "manhattan"), ("metric", "'cosine'", "'manhattan'")),
        (("--index", "magic"), ("index", "'magic'", "'hnsw'")),
        (("--index", ""), ("index",)),
    ],
    "communities": [
        *ALL,
        (("--method", "magic"), ("method", "'louvain'", "'magic'")),
        (("--resolution", "-1"), ("resolution", "positive")),
        (("--temperature", "0"), ("temperature", "positive")),
        (("--temperature", "nan"), ("temperature", "positive")),
    ],
}


@pytest.mark.parametrize(
    ("name", "given", "words"), [(name, *case) for name, cases in SETTINGS.items() for case in cases]
)
def test_bad_settings(here, name, given, words):
    refused(here, command(name, "x.npy", "y.npy", *given), *words)


@pytest.mark.parametrize("k", [0, N])
def test_neighbors_of_the_graph_method(here, k):
    refused(here, command("rld", "x.npy", "y.npy", "--method", "graph", "--k", k), "k must be a whole number")


@pytest.mark.parametrize("name", STAGES)
def test_a_gpu_that_is_not_there(here, name):
    try:
        resolve_device("cuda")
    except InputError:
        refused(here, command(name, "x.npy", "y.npy", "--device", "cuda"), "device='cuda'", "doctor")
    else:
        pytest.skip("this machine has a GPU")


@pytest.mark.parametrize("name", STAGES)
def test_the_memory_limit_named_does(here, name):
    """The least that the error sentence names is enough, and one percent less is not."""
    arguments = command(name)
    sentence = run(*arguments, "--memory-limit", "10kB").err
    amount, unit = re.search(r"at least ([\d.]+) (MB|GB)", sentence).groups()
    assert run(*arguments, "--memory-limit", f"{0.99 * float(amount) - 1}{unit}").code == 2
    assert not (here / OUT[name]).exists()
    assert run(*arguments, "--memory-limit", f"{amount}{unit}").code == 0


def test_wrong_arguments(here):
    for arguments, words in (
        (("bogus",), ("'bogus'", "clorg-scale --help")),
        (("rld",), ("EMBEDDINGS", "clorg-scale rld --help")),
        (("analyze", "x.npy"), ("--out",)),
        (("compare",), ("FOLDERS",)),
        (("doctor", "all"), ("all", "clorg-scale doctor --help")),
        (("doctor", "--fast"), ("--fast",)),
        (("demo", "--seed", "-1"), ("--seed",)),
        (("demo", "fashion"), ("fashion",)),
        (("--bogus",), ("--bogus",)),
    ):
        before = tree(here)
        assert_one_sentence(run(*arguments), *words)
        assert tree(here) == before


# ---- where results go ------------------------------------------------------------------------------------------


def test_output_folders_that_cannot_be(here):
    (here / "file").write_text("mine")
    (here / "loop").symlink_to("loop")
    record().to_json(here / "a.json")
    record(name="b").to_json(here / "b.json")
    before = tree(here)
    for out, words in (
        ("file", ("file", "another folder")),
        ("file/below/it", ("file/below/it", "is a file")),
        ("/proc/nothing/can/be/made/here", ("/proc/nothing/can/be/made/here",)),
        ("loop", ("loop",)),
        ("n" * 300, ("too long",)),
    ):
        for arguments in (
            ("analyze", "x.npy", "--labels", "y.npy", "--k", "5"),
            ("compare", "a.json", "b.json"),
            ("demo",),
        ):
            assert_one_sentence(run(*arguments, "--out", out), "cannot be written", *words)
            assert tree(here) == before


@pytest.mark.parametrize("name", ["rld", "knn", "communities"])
def test_output_files_that_cannot_be(here, name):
    (here / "file").write_text("mine")
    (here / "folder").mkdir()
    (here / "loop").symlink_to("loop")
    before = tree(here)
    for out, words in (
        ("folder", ("not a file",)),
        ("/dev/full", ("not a file",)),
        ("no/such/folder", ("folder does not exist",)),
        ("file/below", ("is a file",)),
        ("/proc/result", ("/proc/result",)),
        ("n" * 300, ("too long",)),
    ):
        assert_one_sentence(run(*command(name), "--out", out), "cannot be written", *words)
        assert tree(here) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_without_permission(here):
    closed = here / "closed"
    closed.mkdir(mode=0o555)
    assert_one_sentence(run(*command("rld"), "--out", closed / "result.json"), "not permitted")
    assert_one_sentence(run(*command("analyze"), "--out", closed / "results"), "not permitted")


def limited(n_bytes):
    """Options of a process none of whose files may exceed this size: the write fails as on a full disk."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))}


@pytest.mark.parametrize(("name", "earlier"), [("rld", True), ("knn", False)])
def test_disk_full_for_a_file(here, name, earlier):
    assert run(*command(name)).code == 0  # whatever is compiled is kept now
    (here / OUT[name]).unlink()
    if earlier:
        (here / OUT[name]).write_bytes(b"earlier result")
    before = tree(here)
    assert_one_sentence(run_process(*command(name), **limited(64)), OUT[name], "cannot be written", "free some space")
    assert tree(here) == before


@pytest.mark.slow
def test_disk_full_for_an_analysis(here):
    """No folder is left where nothing could be kept; finished stages are kept, and used when there is space again."""
    arguments = command("analyze")
    assert run(*arguments, "--out", "undisturbed").code == 0
    largest_stage = max(path.stat().st_size for path in Path("undisturbed").glob("*.npz"))
    page = Path("undisturbed/report.html").stat().st_size
    assert largest_stage < page // 2
    before = tree(here)
    assert_one_sentence(run_process(*arguments, **limited(64)), "results", "cannot be written")
    assert tree(here) == before
    assert_one_sentence(run_process(*arguments, **limited(page // 2)), "report.html", "cannot be written")
    kept = tree(here / "results")
    assert not [name for name in kept if name.endswith(".tmp")]
    assert {name for name in kept if name.endswith(".npz")} == {path.name for path in Path("undisturbed").glob("*.npz")}
    assert run(*arguments).code == 0
    again = tree(here / "results")
    assert {name: again[name] for name in kept if name.endswith(".npz")} == {
        name: contents for name, contents in kept.items() if name.endswith(".npz")
    }
    earlier = tree(here / "results")
    assert_one_sentence(run_process(*arguments, "--seed", "1", **limited(64)), "cannot be written")
    assert tree(here / "results") == earlier


def test_disk_full_for_standard_output(here):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*CONSOLE_SCRIPT, "rld", "x.npy", "--labels", "y.npy"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: The output cannot be written: No space left on device.\n"


def test_a_reader_that_goes_away(here):
    """`clorg-scale ... | head` ends quietly."""
    process = subprocess.Popen(
        [*CONSOLE_SCRIPT, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 0)


# ---- comparisons -----------------------------------------------------------------------------------------------


def written(folder, **changes):
    """A folder with an analysis."""
    folder.mkdir()
    record(**changes).to_json(folder / "analysis.json")
    return folder


def altered(here, change):
    """A folder whose analysis.json was altered by hand."""
    folder = written(here / "altered", name="altered")
    file = folder / "analysis.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return folder


def refused_comparison(here, folders, *words):
    before = tree(here)
    assert_one_sentence(run("compare", *folders, "--out", "comparison"), *words)
    assert tree(here) == before


def test_comparisons_of_what_is_no_analysis(here):
    good = written(here / "good")
    (here / "empty").mkdir()
    refused_comparison(here, [good], "at least two")
    refused_comparison(here, [good, good], "twice")
    refused_comparison(here, [good, "empty"], "no analysis at empty/analysis.json", "clorg-scale analyze")
    refused_comparison(here, [good, "nowhere"], "nowhere")
    refused_comparison(here, [good, "x.npy"], "x.npy is not an analysis")
    for contents in (b"", b"\xff\xfe", b"[1, 2]", b"null", b"{}", b"[" * 100_000, b'{"format": "something else"}'):
        (here / "empty" / "analysis.json").write_bytes(contents)
        refused_comparison(here, [good, "empty"], "empty/analysis.json is not an analysis")
    whole = (good / "analysis.json").read_bytes()
    for share in (0.1, 0.5, 0.999):
        (here / "empty" / "analysis.json").write_bytes(whole[: int(share * len(whole))])
        refused_comparison(here, [good, "empty"], "empty/analysis.json is not an analysis")


ALTERATIONS = {
    "part missing": lambda document: document.pop("communities"),
    "part unknown": lambda document: document.update(extra=1),
    "inner part missing": lambda document: document["rld"].pop("values"),
    "text for a number": lambda document: document["rld"]["values"].__setitem__(0, "high"),
    "number for a list": lambda document: document["rld"].update(values=3),
    "nothing for a number": lambda document: document["communities"].update(modularity=None),
    "list too short": lambda document: document["rld"]["values"].pop(),
    "class too many": lambda document: document["classes"].append("another"),
    "not a number": lambda document: document["rld"]["values"].__setitem__(0, float("nan")),
    "k is no number": lambda document: document["class_homogeneity"].update(ten=0.5),
    "interval of three": lambda document: document["probes"][0].update(accuracy_interval=[0.1, 0.2, 0.3]),
}


@pytest.mark.parametrize("change", ALTERATIONS)
def test_comparisons_of_an_altered_analysis(here, change):
    good = written(here / "good")
    refused_comparison(here, [good, altered(here, ALTERATIONS[change])], "altered/analysis.json is not")


def test_comparisons_of_different_data(here):
    good = written(here / "good")
    refused_comparison(here, [good, written(here / "classes", name="b", n_classes=4)], "different classes")
    fewer = altered(here, lambda document: document.update(n_points=9_999))
    refused_comparison(here, [good, fewer], "10000 and 9999 points", "same data")


def test_disk_full_for_a_comparison(here):
    folders = [written(here / "a", name="a"), written(here / "b", name="b")]
    before = tree(here)
    assert_one_sentence(run_process("compare", *folders, "--out", "c", **limited(64)), "cannot be written")
    assert tree(here) == before


# ---- interruption ----------------------------------------------------------------------------------------------


def interrupted(arguments, ready):
    """Run a command in a process and press Ctrl-C half a second after `ready(pid)`; gives exit code and stderr."""
    process = subprocess.Popen(
        [*CONSOLE_SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # Tests started in the background of a shell are deaf to Ctrl-C, and so would be their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and not ready(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        assert process.poll() is None, "the command ended before it could be interrupted"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, err


def large(n, d):
    rng = np.random.default_rng(1)
    np.save("large.npy", rng.normal(size=(n, d)).astype(np.float32))
    np.save("many.npy", rng.integers(0, 5, n))


def test_interrupted_analysis(here):
    large(6_000, 60)
    arguments = ("analyze", "large.npy", "--labels", "many.npy", "--out", "results", "--probes", "linear")
    code, err = interrupted(arguments, lambda _: any(Path("results").glob("Calinski*.npz")))
    assert re.fullmatch(r"\n?Interrupted; [^\n]+\.\n", err), err
    assert code == 130
    names = set(tree(here / "results"))
    assert "analysis.json" not in names
    assert not [name for name in names if name.endswith(".tmp")]


def test_interrupted_stage(here):
    """Within compiled code, where Ctrl-C comes out as another error."""
    large(100_000, 32)
    # Compiled before: in the seconds of the first compilation Ctrl-C may end the process without a word.
    rng = np.random.default_rng(0)
    cs.rld(rng.normal(size=(1200, 32)).astype(np.float32), rng.integers(0, 5, 1200), method="exact")
    code, err = interrupted(
        ("rld", "large.npy", "--labels", "many.npy", "--out", "result.json"),
        lambda pid: "large.npy" in Path(f"/proc/{pid}/maps").read_text(),
    )
    assert re.fullmatch(r"\n?Interrupted; [^\n]+\.\n", err), err
    assert (code, "result.json" in tree(here)) == (130, False)


# ---- as a user runs it -----------------------------------------------------------------------------------------


def test_installed_script(here):
    """The same through the script that pip installs."""
    script = Path(sys.executable).with_name("clorg-scale")
    np.save("x.npy", spoilt([3, 7], np.nan))
    before = tree(here)
    for name in ("analyze", "knn"):
        done = subprocess.run(
            [script, *map(str, command(name))], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == (
            f"error: The embeddings hold NaN or infinite values in 2 of {N} rows (rows 3, 7); "
            "remove or repair these rows.\n"
        )
        assert tree(here) == before


# ---- what is accepted ------------------------------------------------------------------------------------------

ACCEPTED = {
    "class of one point": lambda X, y: (X, np.where(np.arange(N) == 7, 9, y)),
    "unlabelled points": lambda X, y: (X, np.where(np.arange(N) % 8 == 1, -1, y)),
    "few labels": lambda X, y: (X, np.where(np.arange(N) < 34, -1, y)),
    "duplicates": lambda X, y: (np.repeat(X[::4], 4, axis=0), y),
    "one point apart": lambda X, y: (np.where(np.arange(N)[:, None] == 3, X, X[:1]), y),
    "columns first": lambda X, y: (np.asfortranarray(X), y),
    "big-endian": lambda X, y: (X.astype(">f8"), y.astype(">i4")),
    "float16": lambda X, y: (X.astype(np.float16), y),
    "float64": lambda X, y: (X.astype(np.float64), y.astype(np.float64)),
    "bytes": lambda X, y: ((10 * X).astype(np.int8), y.astype(np.uint8)),
    "long integers": lambda X, y: ((1000 * X).astype(np.int64), y),
    "truth values": lambda X, y: (X > X.mean(), y == 1),
    "one feature": lambda X, y: (X[:, :1], y),
    "names": lambda X, y: (X, np.array(["cat", "dog", "horse"])[y]),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(here, case):
    X, y = ACCEPTED[case](points(), LABELS)
    X[~X.astype(bool).any(axis=1)] = 1  # no row of zeros
    np.save("x.npy", X)
    np.save("y.npy", y)
    Path("x.npy").chmod(0o444)
    before = tree(here)
    for name in STAGES:
        outcome = run(*command(name))
        assert (outcome.code, outcome.err) == (0, "")
        assert (here / OUT[name]).exists()
    assert {name: contents for name, contents in tree(here).items() if name in before} == before


def test_records_are_what_the_tests_alter():
    assert {"rld", "classes", "class_homogeneity", "probes", "communities"} <= asdict(record()).keys()


@pytest.mark.parametrize(
    ("library", "sentence"),
    [("numpy", ("main memory does not suffice",)), ("torch", ("device's memory does not suffice", "--device cpu"))],
)
def test_memory_that_runs_out(here, monkeypatch, library, sentence):
    """NumPy and CuPy raise a MemoryError, torch an error of its own."""
    kind = MemoryError if library == "numpy" else pytest.importorskip("torch").OutOfMemoryError

    def full(*_, **__):
        raise kind("Unable to allocate 8.00 TiB.\nMore that nobody reads.")

    monkeypatch.setattr(sys.modules["clorg_scale.rld"], "rld", full)
    refused(here, command("rld"), "Unable to allocate 8.00 TiB", *sentence)
