"""Embeddings written batch by batch: interrupted, killed, resumed to the same store."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from stored_arrays import X, Y, check, names, run_python

from clorg_scale.errors import InputError
from clorg_scale.store import EmbeddingsWriter, load_embeddings, save_embeddings


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
        with pytest.raises(InputError, match="must be integers; pass strings to finish"):
            writer.append(X, ["a"] * 50)
    with EmbeddingsWriter(tmp_path / "t", 6) as writer:
        writer.append(X, Y)
        with pytest.raises(InputError, match="with every batch or with none"):
            writer.append(X)
        with pytest.raises(InputError, match="already came with the batches"):
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
