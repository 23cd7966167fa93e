"""Workers embed images that are packed into files, and a late one never writes into the store of another run."""

import io
import os
import signal
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")
torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from clorg_scale import backbones
from clorg_scale.backbones import embedding_on_workers
from clorg_scale.datasets import load_images
from clorg_scale.errors import InputError
from clorg_scale.store import EmbeddingsWriter, load_embeddings

pytestmark = pytest.mark.slow


class Slow(torch.nn.Module):
    """Sixteen means of each image, a while after it was asked for; leaves a file for each batch."""

    def __init__(self, folder):
        super().__init__()
        self.folder = str(folder)

    def forward(self, x):
        (Path(self.folder) / f"{time.time_ns()}-{os.getpid()}").touch()
        time.sleep(0.03)
        return torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)


def pictures(n):
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(n):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(file, "PNG")
        yield f"{number:04}", file.getvalue(), number % 3


def packed(kind, folder, n=96):
    """Pictures in three tar shards, or in a Parquet file of row groups of ten."""
    folder.mkdir()
    if kind == "tar":
        for number, (name, content, label) in enumerate(pictures(n)):
            with tarfile.open(folder / f"{number * 3 // n}.tar", "a") as archive:
                for ending, value in (("png", content), ("cls", str(label).encode())):
                    info = tarfile.TarInfo(f"{name}.{ending}")
                    info.size = len(value)
                    archive.addfile(info, io.BytesIO(value))
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        _, contents, labels = zip(*pictures(n), strict=True)
        table = pa.table({"image": [{"bytes": content, "path": None} for content in contents], "label": labels})
        pq.write_table(table, folder / "x.parquet", row_group_size=10)
    return load_images(str(folder), image_size=16)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_the_store_is_that_of_one_process_also_where_a_worker_dies(client, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(embedding_on_workers, "SHARD_IMAGES", 8)
    images = packed(kind, tmp_path / "images")
    calls = tmp_path / "calls"
    calls.mkdir()
    how = {"batch_size": 8, "dtype": "float32", "device": "cpu"}
    alone = backbones.embed(Slow(calls), images, out=tmp_path / "one", **how)
    before = len(list(calls.iterdir()))
    client.wait_for_workers(2)
    victim = next(iter(client.run(os.getpid).values()))

    def strike():
        deadline = time.monotonic() + 60
        while len(list(calls.iterdir())) < before + 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=strike)
    killer.start()
    together = backbones.embed(Slow(calls), images, out=tmp_path / "many", client=client, **how)
    killer.join()
    np.testing.assert_array_equal(together.embeddings, alone.embeddings)
    np.testing.assert_array_equal(together.labels, np.arange(96) % 3)
    assert together.metadata == alone.metadata


def test_a_late_worker_does_not_write_into_a_store_that_was_begun_anew(tmp_path):
    """After an interruption a worker may end the batch it was at, when a run with other settings has begun."""
    late = EmbeddingsWriter(tmp_path / "e", 3, np.float32, metadata={"weights": "a"}, shared=True)
    target = late.rows_of_file()
    target.write(0, [np.ones((2, 3), np.float32)])
    late.close()
    for shared in (True, False):
        with EmbeddingsWriter(tmp_path / "e", 3, np.float32, metadata={"weights": f"b{shared}"}, shared=shared) as new:
            if shared:
                new.rows_of_file().write(0, [np.zeros((4, 3), np.float32)])
                new.count(4)
            else:
                new.append(np.zeros((4, 3), np.float32))
            with pytest.raises(FileNotFoundError):
                target.write(2, [np.ones((2, 3), np.float32)])
            new.finish()
        np.testing.assert_array_equal(load_embeddings(tmp_path / "e").embeddings, np.zeros((4, 3)))


def test_shards_that_vanish_are_one_sentence_and_leave_nothing(client, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_on_workers, "SHARD_IMAGES", 8)
    images = packed("tar", tmp_path / "images", n=48)
    (tmp_path / "calls").mkdir()
    (tmp_path / "images" / "2.tar").unlink()
    with pytest.raises(InputError, match=r"2\.tar"):
        backbones.embed(Slow(tmp_path / "calls"), images, out=tmp_path / "e", device="cpu", client=client, batch_size=8)
    assert not (tmp_path / "e").exists()
