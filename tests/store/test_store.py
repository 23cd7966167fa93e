"""Reading and writing embeddings: every format, every damage, every crash."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from clorg_scale.arrays import row_slices, spool
from clorg_scale.errors import InputError, MissingDependencyError
from clorg_scale.store import EmbeddingsWriter, load_embeddings, load_labels, save, save_embeddings
from clorg_scale.store.atomic import write_whole
from clorg_scale.store.readers import npz, parquet


def names(folder: Path) -> list[str]:
    """Names of everything in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_write_whole_gives_the_file_its_name_only_at_the_end(tmp_path):
    target = tmp_path / "numbers.bin"
    with write_whole(target) as file:
        file.write(b"1234")
        assert not target.exists()
    assert target.read_bytes() == b"1234"
    assert names(tmp_path) == ["numbers.bin"]


def test_write_whole_text_is_utf8_with_unix_line_ends(tmp_path):
    with write_whole(tmp_path / "words.txt", "w") as file:
        file.write("Größe\nzwei\n")
    assert (tmp_path / "words.txt").read_bytes() == "Größe\nzwei\n".encode()


def test_write_whole_that_raises_leaves_the_old_file(tmp_path):
    target = tmp_path / "numbers.bin"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with write_whole(target) as file:
            file.write(b"half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["numbers.bin"]


def test_write_whole_obeys_the_umask_and_follows_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "file")
    mask = os.umask(0o027)
    try:
        with write_whole(link) as file:
            file.write(b"x")
    finally:
        os.umask(mask)
    assert link.is_symlink()
    assert stat.S_IMODE((tmp_path / "elsewhere" / "file").stat().st_mode) == 0o640


def test_write_whole_survives_a_long_name(tmp_path):
    target = tmp_path / ("n" * 250)
    with write_whole(target) as file:
        file.write(b"x")
    assert target.read_bytes() == b"x"


def test_write_whole_explains_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="its folder does not exist"), write_whole(tmp_path / "no" / "file"):
        pass
    with pytest.raises(InputError, match="is not a file"), write_whole(tmp_path):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="a part of its path is a file"),
        write_whole(tmp_path / "file" / "x"),
    ):
        pass


def test_write_whole_does_not_blame_the_target_for_an_unreadable_source(tmp_path):
    with (
        pytest.raises(FileNotFoundError),
        write_whole(tmp_path / "out") as file,
        (tmp_path.parent / "no_such_source").open("rb") as source,
    ):
        file.write(source.read())
    assert names(tmp_path) == []


def run_python(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own."""
    command = [*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_write_whole_killed_in_the_middle_leaves_the_old_file(tmp_path):
    target = tmp_path / "numbers.bin"
    target.write_bytes(b"old")
    killed = run_python(
        """
        import os, signal, sys
        from clorg_scale.store.atomic import write_whole
        with write_whole(sys.argv[1]) as file:
            file.write(b"x" * 1_000_000)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        target,
    )
    assert killed.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_write_whole_on_a_file_that_grows_too_large(tmp_path):
    limited = run_python(
        """
        import resource, sys
        from clorg_scale.errors import InputError
        from clorg_scale.store.atomic import write_whole
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with write_whole(sys.argv[1]) as file:
                for _ in range(100):
                    file.write(b"x" * 10_000)
        except InputError as error:
            print(error)
        """,
        tmp_path / "large.bin",
    )
    assert "the largest file size allowed is exceeded" in limited.stdout, limited.stderr
    assert names(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> tuple[str, ...]:
    """Prefix of a command that runs it with a file system of 64 KiB mounted on tmp_path / "disk"."""
    disk = tmp_path / "disk"
    disk.mkdir()
    prefix = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    script = f'mount -t tmpfs -o size=64k none "{disk}" && exec "$@"'
    try:
        probe = subprocess.run([*prefix, script, "sh", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if probe.returncode:
        pytest.skip(f"no file system can be mounted: {probe.stderr.decode().strip()}")
    return (*prefix, script, "sh")


def test_write_whole_on_a_full_disk(tmp_path, small_disk):
    full = run_python(
        """
        import os, sys
        from clorg_scale.errors import InputError
        from clorg_scale.store.atomic import write_whole
        target = sys.argv[1]
        with write_whole(target) as file:
            file.write(b"old")
        try:
            with write_whole(target) as file:
                file.write(b"x" * 1_000_000)
        except InputError as error:
            print(error)
        print(open(target, "rb").read(), os.listdir(os.path.dirname(target)))
        """,
        tmp_path / "disk" / "file.bin",
        prefix=small_disk,
    )
    assert "the disk is full; free some space" in full.stdout, full.stderr
    assert "b'old' ['file.bin']" in full.stdout


# --- the folder

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
Y = np.arange(50) % 3


def check(stored, embeddings=X, labels=Y):
    """The stored arrays are these."""
    assert np.array_equal(stored.embeddings, embeddings)
    assert stored.embeddings.dtype == embeddings.dtype
    if labels is None:
        assert stored.labels is None
    else:
        assert stored.labels.tolist() == list(labels)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i2", "u1", "?"])
def test_save_and_load_keep_the_type(tmp_path, dtype):
    data = np.asfortranarray((X * 10).astype(dtype))[::2]
    metadata = {"model": "resnet18", "epochs": (1, 2), "accuracy": np.float32(0.5), "ids": np.arange(2)}
    save_embeddings(tmp_path / "new" / "store", data, Y[::2], metadata)
    stored = load_embeddings(tmp_path / "new" / "store")
    check(stored, data, Y[::2])
    assert isinstance(stored.embeddings, np.memmap)
    assert not stored.embeddings.flags.writeable
    assert stored.metadata == {"model": "resnet18", "epochs": [1, 2], "accuracy": 0.5, "ids": [0, 1]}
    assert names(tmp_path / "new" / "store") == ["embeddings.npy", "labels.npy", "metadata.json"]
    assert np.array_equal(np.load(tmp_path / "new" / "store" / "embeddings.npy"), data)


def test_save_without_labels_with_strings_and_with_one_class(tmp_path):
    save_embeddings(tmp_path / "a", X)
    check(load_embeddings(tmp_path / "a"), labels=None)
    words = np.array(["Ärmel", "b"], object)[Y % 2]
    save_embeddings(tmp_path / "b", X, words)
    check(load_embeddings(tmp_path / "b"), labels=words)
    save_embeddings(tmp_path / "c", X, np.zeros(50))
    assert load_labels(tmp_path / "c").tolist() == [0] * 50


def test_save_takes_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(save, "row_slices", lambda n, d, itemsize: row_slices(n, d, block_bytes=100))
    save_embeddings(tmp_path / "store", X, Y)
    check(load_embeddings(tmp_path / "store"))


def test_replacing_a_store_keeps_its_memory_maps_alive(tmp_path):
    save_embeddings(tmp_path / "store", X, Y)
    old = load_embeddings(tmp_path / "store")
    save_embeddings(tmp_path / "store", old.embeddings[:40], None, {"version": 2})
    check(old)
    new = load_embeddings(tmp_path / "store")
    check(new, X[:40], None)
    assert new.metadata == {"version": 2}
    assert len(names(tmp_path / "store")) == 2


def test_save_refuses_what_is_not_a_store(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(InputError, match=r"not empty and not a store of embeddings \('chapter1.tex' lies in it\)"):
        save_embeddings(tmp_path / "thesis", X)
    assert names(tmp_path / "thesis") == ["chapter1.tex"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        save_embeddings(tmp_path / "file", X)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "metadata.json").write_text('{"format": "something else"}')
    with pytest.raises(InputError, match="does not belong to a store"):
        save_embeddings(tmp_path / "foreign", X)


def test_save_that_fails_leaves_the_old_store_or_nothing(tmp_path):
    for wrong, sentence in (((X, Y[:9]), "There are 9 labels"), ((X, Y, {"a": {1j}}), "cannot be stored as JSON")):
        with pytest.raises(InputError, match=sentence):
            save_embeddings(tmp_path / "store", *wrong)
        assert names(tmp_path) == []
    with pytest.raises(InputError, match="cannot be stored as JSON"):
        save_embeddings(tmp_path / "store", X, Y, {"loss": float("nan")})


def test_save_on_a_full_disk_leaves_the_old_store(tmp_path, small_disk):
    full = run_python(
        """
        import os, sys
        import numpy as np
        from clorg_scale.errors import InputError
        from clorg_scale.store import load_embeddings, save_embeddings
        store = sys.argv[1]
        for size, path in ((10, store), (10_000, store), (10_000, store + "2")):
            try:
                save_embeddings(path, np.ones((size, 4)), np.arange(size) % 2)
            except InputError as error:
                print(error)
        print(load_embeddings(store).embeddings.shape, sorted(os.listdir(store)), os.listdir(os.path.dirname(store)))
        """,
        tmp_path / "disk" / "store",
        prefix=small_disk,
    )
    assert full.stdout.count("the disk is full") == 2, full.stderr
    assert "(10, 4) ['embeddings.npy', 'labels.npy', 'metadata.json'] ['store']" in full.stdout


def test_unfinished_and_damaged_stores(tmp_path):
    store = tmp_path / "store"
    save_embeddings(store, X, Y)
    whole = (store / "embeddings.npy").read_bytes()
    (store / "embeddings.npy").write_bytes(whole[:-5])
    with pytest.raises(InputError, match=r"embeddings.npy is truncated: 1200 bytes of data are announced, 1195"):
        load_embeddings(store)
    np.save(store / "embeddings.npy", X[:5])
    with pytest.raises(InputError, match=r"has shape \(5, 6\), but its metadata.json says \(50, 6\)"):
        load_embeddings(store)
    (store / "embeddings.npy").unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_embeddings(store)
    record = (store / "metadata.json").read_text()
    (store / "metadata.json").write_text(record.replace("embeddings.npy", "../secret.npy"))
    with pytest.raises(InputError, match="names files outside its folder"):
        load_embeddings(store)
    (store / "metadata.json").write_text(record[:30])
    with pytest.raises(InputError, match="is not a store of embeddings"):
        load_embeddings(store)
    (store / "metadata.json").write_text('{"format": "clorg-scale embeddings 1"}')
    with pytest.raises(InputError, match="is incomplete; the store is damaged"):
        load_embeddings(store)


# --- the writer


def test_writer_resumes_where_it_stopped(tmp_path):
    settings = {"metadata": {"model": "a"}, "sync_bytes": 1}
    with EmbeddingsWriter(tmp_path / "s", 6, **settings) as writer:
        writer.append(X[:20], Y[:20])
    with pytest.raises(InputError, match=r"is unfinished \(20 rows are written\); run the command"):
        load_embeddings(tmp_path / "s")
    with EmbeddingsWriter(tmp_path / "s", 6, **settings) as writer:
        assert writer.rows == 20
        writer.append(X[20:], Y[20:])
        writer.finish()
    check(load_embeddings(tmp_path / "s"))
    assert load_embeddings(tmp_path / "s").metadata == {"model": "a"}


def interrupt(path, rows, **settings):
    """Write some rows, then fail."""
    with EmbeddingsWriter(path, 6, **settings) as writer:
        writer.append(X[writer.rows : rows])
        raise KeyboardInterrupt


def test_writer_keeps_everything_when_it_is_interrupted(tmp_path):
    for rows in (20, 30):
        with pytest.raises(KeyboardInterrupt):
            interrupt(tmp_path / "s", rows)
    with EmbeddingsWriter(tmp_path / "s", 6) as writer:
        assert writer.rows == 30
        writer.append(X[30:])
        writer.finish(["a", "b"] * 25)
    check(load_embeddings(tmp_path / "s"), labels=["a", "b"] * 25)


def test_writer_starts_again_with_other_settings_or_a_damaged_part(tmp_path):
    def rows_found(**settings):
        with EmbeddingsWriter(tmp_path / "s", 6, **settings) as writer:
            return writer.rows

    def write_20():
        with EmbeddingsWriter(tmp_path / "s", 6, metadata={"model": "a"}) as writer:
            writer.append(X[:20])

    for other in ({"metadata": {"model": "b"}}, {"metadata": {"model": "a"}, "dtype": "f2"}, {"resume": False}):
        write_20()
        assert rows_found(metadata={"model": "a"}) == 20
        assert rows_found(**other) == 0
    write_20()
    os.truncate(tmp_path / "s" / "embeddings.npy", 200)
    assert rows_found(metadata={"model": "a"}) == 0


def test_writer_over_a_complete_store_replaces_it_at_the_end(tmp_path):
    save_embeddings(tmp_path / "s", X, Y)
    with EmbeddingsWriter(tmp_path / "s", 6) as writer:
        assert writer.rows == 0
        writer.append(X[:10])
    check(load_embeddings(tmp_path / "s"))
    with EmbeddingsWriter(tmp_path / "s", 6) as writer:
        assert writer.rows == 10
        writer.finish()
    check(load_embeddings(tmp_path / "s"), X[:10], None)
    assert len(names(tmp_path / "s")) == 2


def test_writer_checks_its_batches(tmp_path):
    with EmbeddingsWriter(tmp_path / "s", 6) as writer:
        with pytest.raises(InputError, match=r"has shape \(50, 5\), but .* takes \(points, 6\)"):
            writer.append(X[:, :5])
        with pytest.raises(InputError, match="must be integers; hand strings to finish"):
            writer.append(X, ["a"] * 50)
    with EmbeddingsWriter(tmp_path / "t", 6) as writer:
        writer.append(X, Y)
        with pytest.raises(InputError, match="with every batch or with none"):
            writer.append(X)
        with pytest.raises(InputError, match="came with the batches already"):
            writer.finish(Y)


@pytest.mark.parametrize("moment", ["batch", "finish", "committed"])
def test_writer_killed_at_any_moment_resumes_to_the_same_store(tmp_path, moment):
    code = """
        import os, pathlib, signal, sys
        import numpy as np
        from clorg_scale.store import EmbeddingsWriter, writer as module
        path, moment = sys.argv[1:]
        X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
        def die(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)
        real = module.write_record
        def write_record(target, record):
            if target.name == "metadata.json":
                if moment == "finish":
                    die()
                real(target, record)
                if moment == "committed":
                    die()
            else:
                real(target, record)
        module.write_record = write_record
        with EmbeddingsWriter(path, 6, sync_bytes=240) as writer:
            print(writer.rows)
            for start in range(writer.rows, 50, 5):
                writer.append(X[start : start + 5], np.arange(start, start + 5) % 3)
                if moment == "batch" and start == 25:
                    die()
            writer.finish()
    """
    killed = run_python(code, tmp_path / "s", moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if moment == "committed":
        check(load_embeddings(tmp_path / "s"))
    resumed = run_python(code, tmp_path / "s", "never")
    # Synced after every second batch: of the 30 rows appended before the kill, 30 are safe.
    assert resumed.stdout.split() == [{"batch": "30", "finish": "50", "committed": "0"}[moment]], resumed.stderr
    check(load_embeddings(tmp_path / "s"))
    assert len(names(tmp_path / "s")) == 3


def test_writer_killed_while_bytes_are_written(tmp_path):
    """A real kill from outside, at no chosen moment; what follows the safe rows is cut off."""
    code = """
        import sys
        import numpy as np
        from clorg_scale.store import EmbeddingsWriter
        with EmbeddingsWriter(sys.argv[1], 64, sync_bytes=1 << 18) as writer:
            print(writer.rows, flush=True)
            for row in range(writer.rows, int(sys.argv[2])):
                writer.append(np.full((1, 64), row, np.float32), [row])
            writer.finish()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "s")]
    with subprocess.Popen([*command, str(10**9)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        while (
            not (tmp_path / "s" / "progress.json").exists()
            or '"rows": 0' in (tmp_path / "s" / "progress.json").read_text()
        ):
            time.sleep(0.01)
        process.kill()
    with EmbeddingsWriter(tmp_path / "s", 64) as writer:
        safe = writer.rows
        assert safe >= 1024
        writer.append(np.full((1, 64), safe, np.float32), [safe])
        writer.finish()
    stored = load_embeddings(tmp_path / "s")
    assert np.array_equal(stored.embeddings[:, 0], np.arange(safe + 1))
    assert np.array_equal(stored.labels, np.arange(safe + 1))


def test_writer_that_cannot_write_the_labels_at_the_end_resumes(tmp_path):
    def finish(labels):
        with EmbeddingsWriter(tmp_path / "s", 6) as writer:
            if writer.rows == 0:
                writer.append(X)
            writer.finish(labels)

    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "progress.json").write_text('{"format": "clorg-scale embeddings 1"}')
    (tmp_path / "s" / "labels.npy").mkdir()  # in the way of the file
    with pytest.raises(OSError, match="directory"):
        finish(["a", "b"] * 25)
    (tmp_path / "s" / "labels.npy").rmdir()
    finish(["a", "b"] * 25)
    check(load_embeddings(tmp_path / "s"), labels=["a", "b"] * 25)


def test_writer_takes_tensors_and_empty_batches(tmp_path):
    torch = pytest.importorskip("torch")
    with EmbeddingsWriter(tmp_path / "s", 6, np.float16) as writer:
        writer.append(torch.from_numpy(X[:20]).bfloat16().requires_grad_(), torch.from_numpy(Y[:20]))
        writer.append(X[20:20], Y[20:20])
        writer.append(X[20:], Y[20:])
        writer.finish()
    expected = np.concatenate([torch.from_numpy(X[:20]).bfloat16().float().numpy(), X[20:]])
    check(load_embeddings(tmp_path / "s"), expected.astype(np.float16))


# --- formats


def test_npy(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.asfortranarray(X))
    check(load_embeddings(path), labels=None)
    assert isinstance(load_embeddings(path).embeddings, np.memmap)
    np.save(tmp_path / "y.npy", Y)
    check(load_embeddings(path, labels=tmp_path / "y.npy"))
    whole = path.read_bytes()
    for damaged, sentence in (
        (whole[:-1], "is truncated: 1200 bytes of data are announced, 1199 are there"),
        (whole[:20], "is not a .npy file, or it is damaged"),
        (b"", "is not a .npy file"),
        (pickle.dumps([1, 2]), "is not a .npy file"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': bad}  ", "is not a .npy file, or it is damaged"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=sentence):
            load_embeddings(path)
    np.save(path, np.array([{}, 1, 2], object), allow_pickle=True)
    with pytest.raises(InputError, match="holds Python objects, which are never unpickled"):
        load_embeddings(path)


def test_npz_is_mapped_in_place(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, odd_name=np.zeros(3, np.uint8), embeddings=X, labels=Y)
    stored = load_embeddings(path)
    check(stored)
    assert isinstance(stored.embeddings, np.memmap)
    assert stored.embeddings.filename == path
    np.savez_compressed(path, features=np.asfortranarray(X), y=Y, other=X[:, :2])
    check(load_embeddings(path))
    check(load_embeddings(f"{path}:other"), X[:, :2])
    assert load_labels(path).tolist() == Y.tolist()


def test_compressed_npz_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "available_memory", lambda: 0)
    monkeypatch.setattr(npz, "BLOCK_BYTES", 100)
    np.savez_compressed(tmp_path / "x.npz", X=X, y=Y)
    stored = load_embeddings(tmp_path / "x.npz")
    check(stored)
    assert isinstance(stored.embeddings, np.memmap)


@pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
def test_damaged_npz(tmp_path, save_npz):
    path = tmp_path / "x.npz"
    save_npz(path, embeddings=X)
    whole = path.read_bytes()
    for damaged in (whole[:-30], whole[: len(whole) // 2], b"", pickle.dumps(X)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"is not a .npz file, or it is truncated"):
            load_embeddings(path)
    if save_npz is np.savez:
        path.write_bytes(whole.replace(b"(50, 6)", b"(50, 7)"))
        with pytest.raises(InputError, match=r"is damaged|Bad CRC-32"):
            load_embeddings(path)
    if save_npz is np.savez_compressed:
        path.write_bytes(whole[:300] + bytes(50) + whole[350:])
        with pytest.raises(InputError, match=r"is damaged|or it is truncated"):
            load_embeddings(path)
    save_npz(path, embeddings=np.array([{}] * 3, object), allow_pickle=True)
    with pytest.raises(InputError, match="holds no two-dimensional array of numbers; it holds 'embeddings'"):
        load_embeddings(path)
    with pytest.raises(InputError, match="holds Python objects, which are never unpickled"):
        load_embeddings(f"{path}:embeddings")


def test_safetensors(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "x.safetensors"
    tensor = torch.from_numpy(X)
    save_file = safetensors.save_file
    save_file({"embeddings": tensor, "labels": torch.from_numpy(Y)}, path, metadata={"model": "vit"})
    stored = load_embeddings(path)
    check(stored)
    assert isinstance(stored.embeddings, np.memmap)
    assert stored.metadata == {"model": "vit"}
    save_file({"a": tensor.half()}, path)
    check(load_embeddings(path), X.astype(np.float16), None)
    save_file({"a": tensor.bfloat16(), "y": torch.zeros(50, dtype=torch.bool)}, path)
    check(load_embeddings(path), tensor.bfloat16().float().numpy(), [False] * 50)
    save_file({"embeddings": tensor.to(torch.float8_e4m3fn)}, path)
    with pytest.raises(InputError, match="has type F8_E4M3; store it as"):
        load_embeddings(f"{path}:embeddings")


def test_damaged_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    safetensors.save_file({"embeddings": X}, path)
    whole = path.read_bytes()
    for damaged, sentence in (
        (whole[:-1], "is truncated: tensor 'embeddings' ends at byte"),
        (whole[:40], "is not a .safetensors file, or it is truncated"),
        (b"", "is not a .safetensors file"),
        (pickle.dumps(X), "is not a .safetensors file"),
        (whole[:8] + b"!" + whole[9:], "its header is damaged"),
        (whole.replace(b"[50,6]", b"[50,7]"), "does not fit its shape"),
        (whole.replace(b'"shape"', b'"shade"'), "its header is damaged"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=sentence):
            load_embeddings(path)


def test_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(tmp_path / "one.zarr", data=X, chunks=(7, 3))
    check(load_embeddings(tmp_path / "one.zarr"), labels=None)
    for version in (2, 3):
        path = tmp_path / f"group{version}"
        group = zarr.open_group(path, mode="w", zarr_format=version)
        group.attrs["model"] = "vit"
        group.create_array("X", data=X.astype(np.float16), chunks=(20, 6))
        group.create_array("label", data=Y)
        group.create_group("obsm").create_array("X_pca", data=X[:, :2])
        stored = load_embeddings(path)
        check(stored, X.astype(np.float16))
        assert stored.metadata == {"model": "vit"}
        check(load_embeddings(f"{path}:obsm/X_pca"), X[:, :2])
    (tmp_path / "one.zarr" / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="is not a Zarr store, or it is damaged"):
        load_embeddings(tmp_path / "one.zarr")


def test_zarr_with_a_damaged_chunk(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(tmp_path / "x.zarr", data=X, chunks=(25, 6))
    chunk = tmp_path / "x.zarr" / "c" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(InputError, match=r"x.zarr cannot be read"):
        load_embeddings(tmp_path / "x.zarr")


def test_parquet(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 7)
    path = tmp_path / "x.parquet"
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 6)
    pq.write_table(pa.table({"id": np.arange(50), "emb": fixed, "label": Y}), path, row_group_size=13)
    check(load_embeddings(path))
    check(load_embeddings(path, labels="id"), labels=range(50))
    pq.write_table(pa.table({"emb": list(X), "class": [f"c{label}" for label in Y]}), path)
    check(load_embeddings(path), labels=[f"c{label}" for label in Y])
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "name": ["x"] * 50, "y": Y}), path)
    check(load_embeddings(path), X[:, :2])
    monkeypatch.setattr(spool, "available_memory", lambda: 0)
    assert isinstance(load_embeddings(path).embeddings, np.memmap)
    assert load_labels(f"{path}:name").tolist() == ["x"] * 50


def test_damaged_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"emb": list(X)}), path)
    whole = path.read_bytes()
    for damaged in (whole[:-9], b"", pickle.dumps(X)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is not a Parquet file, or it is truncated"):
            load_embeddings(path)
    pq.write_table(pa.table({"emb": [[1.0, 2.0], [1.0], [1.0, 2.0]]}), path)
    with pytest.raises(InputError, match="differ in length: 2 and 1 numbers"):
        load_embeddings(path)
    pq.write_table(pa.table({"emb": [[1.0, 2.0]] * 3 + [[1.0]] * 3}), path, row_group_size=3)
    with pytest.raises(InputError, match="differ in length"):
        load_embeddings(path)
    pq.write_table(pa.table({"emb": [[1.0, 2.0], None, [1.0, 2.0]]}), path)
    with pytest.raises(InputError, match="1 missing values"):
        load_embeddings(path)
    pq.write_table(pa.table({"words": ["a", "b", "c"]}), path)
    with pytest.raises(InputError, match="holds no two-dimensional array of numbers; it holds 'words'"):
        load_embeddings(path)


@pytest.fixture
def anndata_parts():
    ad = pytest.importorskip("anndata")
    pd = pytest.importorskip("pandas")
    return ad, pd.DataFrame({"label": pd.Categorical([f"c{label}" for label in Y]), "batch": Y}).rename(str)


def test_h5ad(tmp_path, anndata_parts):
    ad, obs = anndata_parts
    path = tmp_path / "x.h5ad"
    ad.AnnData(X, obs=obs, obsm={"X_pca": X[:, :3].astype(np.float64)}).write_h5ad(path)
    stored = load_embeddings(path)
    check(stored, labels=[f"c{label}" for label in Y])
    assert isinstance(stored.embeddings, np.memmap)
    check(load_embeddings(f"{path}:obsm/X_pca", labels="obs/batch"), X[:, :3].astype(np.float64))
    check(load_embeddings(f"{path}:X_pca", labels="batch"), X[:, :3].astype(np.float64))
    assert load_labels(f"{path}:obs/batch").tolist() == Y.tolist()
    ad.AnnData(X, obs=obs).write_h5ad(path, compression="gzip")
    check(load_embeddings(path), labels=[f"c{label}" for label in Y])


def test_h5ad_with_sparse_counts_or_missing_labels(tmp_path, anndata_parts):
    ad, obs = anndata_parts
    sparse = pytest.importorskip("scipy.sparse")
    path = tmp_path / "x.h5ad"
    ad.AnnData(sparse.csr_matrix(X), obs=obs).write_h5ad(path)
    with pytest.raises(InputError, match="holds no two-dimensional array of numbers"):
        load_embeddings(path)
    with pytest.raises(InputError, match=r"'X' in .* is a sparse matrix; choose a dense embedding"):
        load_embeddings(f"{path}:X")
    ad.AnnData(sparse.csr_matrix(X), obs=obs, obsm={"X_pca": X[:, :3]}).write_h5ad(path)
    check(load_embeddings(path), X[:, :3], [f"c{label}" for label in Y])
    ad.AnnData(sparse.csr_matrix(X), obs=obs, obsm={"X_pca": X[:, :3], "X_umap": X[:, :2]}).write_h5ad(path)
    with pytest.raises(InputError, match=r"several arrays that may be the embeddings .*'obsm/X_pca', 'obsm/X_umap'"):
        load_embeddings(path)
    obs.loc["4", "label"] = None
    ad.AnnData(X, obs=obs).write_h5ad(path)
    with pytest.raises(InputError, match=r"1 of the labels in .* are missing .*row 4\); write -1"):
        load_embeddings(path)


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["features"] = X.astype(">f8")
        file.create_dataset("labels", data=[b"a", b"b"] * 25)
        file.create_dataset("flags", data=Y > 0)
    stored = load_embeddings(path)
    check(stored, X.astype(">f8"), ["a", "b"] * 25)
    assert isinstance(stored.embeddings, np.memmap)
    assert load_labels(f"{path}:flags").tolist() == (Y > 0).tolist()
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["X"] = h5py.ExternalLink(str(path), "features")
    check(load_embeddings(tmp_path / "link.h5", allow_external=True), X.astype(">f8"), None)
    with h5py.File(tmp_path / "user.h5", "w", userblock_size=512) as file:
        file["X"] = X
    check(load_embeddings(tmp_path / "user.h5"), X, None)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["X"] = h5py.SoftLink("/nowhere")
    with pytest.raises(InputError, match=r"link.h5 holds no two-dimensional array"):
        load_embeddings(tmp_path / "link.h5")
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:-200], b"", pickle.dumps(X)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is not an HDF5 file, or it is truncated"):
            load_embeddings(path)


# --- which array is meant


def test_ambiguous_and_missing_names(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, X=X, features=X[:, :2], labels=Y, y=Y)
    with pytest.raises(InputError, match=r"several arrays that may be the embeddings \('X', 'features'\); choose"):
        load_embeddings(path)
    with pytest.raises(InputError, match=r"several arrays that may be the labels \('labels', 'y'\); choose"):
        load_embeddings(f"{path}:X")
    check(load_embeddings(f"{path}:X", labels="y"))
    check(load_embeddings(f"{path}:X", labels=f"{path}:labels"))
    with pytest.raises(InputError, match=r"holds no array 'Z'; it holds 'X', 'features', 'labels', 'y'"):
        load_embeddings(f"{path}:Z")
    np.savez(path, a=X, b=X)
    with pytest.raises(InputError, match=r"several arrays that may be the embeddings \('a', 'b'\)"):
        load_embeddings(path)
    with pytest.raises(InputError, match="holds no labels; it holds 'a', 'b'"):
        load_labels(path)
    np.savez(path, a=X, embeddings=X * 2)
    check(load_embeddings(path), X * 2, None)
    np.savez(path, X=X, y=Y[:7])
    with pytest.raises(InputError, match=r"There are 7 labels in .*, but 50 embeddings"):
        load_embeddings(path)


def test_unknown_formats(tmp_path):
    with pytest.raises(InputError, match=r"nothing.npy does not exist"):
        load_embeddings(tmp_path / "nothing.npy")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(X))
    with pytest.raises(InputError, match=r"unknown format for embeddings; known are .*\.npy, \.npz, \.safetensors"):
        load_embeddings(tmp_path / "x.pkl")
    with pytest.raises(InputError, match=r"unknown format for labels; known are .*\.txt, \.csv, \.tsv, \.json"):
        load_labels(tmp_path / "x.pkl")
    with pytest.raises(InputError, match="neither one that save_embeddings wrote nor a Zarr store"):
        load_embeddings(tmp_path)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match=r"labels.csv does not exist"):
        load_embeddings(tmp_path / "x.npy", labels="labels.csv")
    with pytest.raises(InputError, match="holds no array 'species'"):
        load_embeddings(tmp_path / "x.npy", labels="species")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "x.h5ad").touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"Reading .h5ad files needs .*pip install .*'h5py"):
        load_embeddings(tmp_path / "x.h5ad")


# --- label files


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("y.txt", "3\n-1\n3\n", [3, -1, 3]),
        ("y.txt", "cat\r\ndog\r\n\r\n", ["cat", "dog"]),
        ("y.txt", "\ufeff1.0\n2.0", [1, 2]),
        ("y.txt", "label\ncat\n", ["label", "cat"]),
        ("y.csv", 'cat\n"dog, big"\n', ["cat", "dog, big"]),
        ("y.csv", "species\n3\n-1\n", [3, -1]),
        ("y.csv", "label\na\nb\n", ["a", "b"]),
        ("y.csv", "id,label\n7,a\n8,b\n", ["a", "b"]),
        ("y.csv:id", "id,label\n7,a\n8,b\n", [7, 8]),
        ("y.tsv", "id\ty\n7\ta b\n8\tb\n", ["a b", "b"]),
        ("y.json", "[3, 1, -1]", [3, 1, -1]),
        ("y.json", '{"labels": ["a", "b"], "n": 2}', ["a", "b"]),
        ("y.json:kind", '{"labels": ["a", "b"], "kind": [true, false]}', [True, False]),
        ("y.json", '["a", -1, "b"]', ["a", "-1", "b"]),
    ],
)
def test_label_files(tmp_path, name, text, labels):
    (tmp_path / name.partition(":")[0]).write_bytes(text.encode())
    assert load_labels(f"{tmp_path}/{name}").tolist() == labels


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("y.txt", b"", "is empty"),
        ("y.txt", b"1\n\n2\n", "has no label in row 2; write -1"),
        ("y.txt", b"1.5\n2\n", "not whole numbers"),
        ("y.txt", b"\xff\xfe\x00", "cannot be read as text"),
        ("y.csv", b"a,b\n1\n", "has 2 columns in row 1, but 1 in row 2"),
        ("y.csv", b"a,b\n1,2\n", "several arrays that may be the labels"),
        ("y.csv", b'"open\n', "cannot be read as text"),
        ("y.json", b"{", "is not a JSON file"),
        ("y.json", b"3", "must hold a list of labels"),
        ("y.json", b'{"n": 3}', "must hold a list of labels"),
        ("y.json", b"[1, null, 2]", "1 of the labels in .* are missing"),
        ("y.json", b"[[1], [2]]", "mix Python objects"),
        ("y.json", b"[" * 100_000, "is not a JSON file"),
    ],
)
def test_label_files_that_cannot_be_used(tmp_path, name, data, sentence):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=sentence):
        load_labels(tmp_path / name)


def test_labels_from_arrays(tmp_path):
    np.save(tmp_path / "y.npy", np.array(["a", "b"]))
    assert load_labels(tmp_path / "y.npy").tolist() == ["a", "b"]
    np.savez(tmp_path / "y.npz", whatever=Y, X=X)
    assert load_labels(tmp_path / "y.npz").tolist() == Y.tolist()
    save_embeddings(tmp_path / "s", X, Y)
    assert load_labels(tmp_path / "s").tolist() == Y.tolist()


def test_a_state_that_does_not_fit_on_the_disk_gets_a_sentence(tmp_path):
    torch = pytest.importorskip("torch")
    import resource

    from clorg_scale.store.states import write_state

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match=r"state\.pt cannot be written: the largest file size"):
            write_state(tmp_path / "state.pt", {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    write_state(tmp_path / "state.pt", {"weights": torch.arange(3), "epoch": 2})
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["weights"].tolist() == [0, 1, 2]
