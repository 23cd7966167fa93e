"""Embeddings that no command can work with: exit code 2, one sentence, nothing written."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_one_sentence, run
from mistakes import OUT, STAGES, D, N, command, points, refused, spoiled

# ---- embeddings ------------------------------------------------------------------------------------------------


BAD_ARRAYS = {
    "nan": (lambda: spoiled([3, 7], np.nan), ("NaN or infinite", f"2 of {N} rows", "rows 3, 7", "repair")),
    "inf": (lambda: spoiled(slice(10, 20), -np.inf), (f"10 of {N} rows", "rows 10, 11, 12, 13, 14, ...")),
    "inf in float16": (lambda: spoiled([5], np.inf).astype(np.float16), (f"1 of {N} rows", "(row 5)")),
    "one dimension": (lambda: points()[:, 0], ("no two-dimensional array", "'x'")),
    "three dimensions": (lambda: points().reshape(N, 2, 2), ("no two-dimensional array", f"of shape ({N}, 2, 2)")),
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
