"""Workers embed shards of images and write them into one store; those of a worker that is lost are written again."""

import json
import os
import pickle
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")
torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from command_line import assert_one_sentence, run
from small_backbones import save_images, shapes, small

from clorg_scale import backbones
from clorg_scale.backbones import embedding_on_workers
from clorg_scale.backbones.embedding_on_workers import EmbedShard, Settings
from clorg_scale.datasets import load_images
from clorg_scale.errors import InputError
from clorg_scale.store.growing import GrowingNpy
from clorg_scale.store.layout import PROGRESS

pytestmark = pytest.mark.slow


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(embedding_on_workers, "SHARD_IMAGES", 16)


class Slow(torch.nn.Module):
    """Three means of each image, a while after it was asked for; leaves a file for each batch."""

    def __init__(self, folder):
        super().__init__()
        self.folder = str(folder)

    def forward(self, x):
        (Path(self.folder) / f"{time.time_ns()}-{os.getpid()}").touch()
        time.sleep(0.05)
        return x.reshape(len(x), -1)[:, :48].reshape(len(x), 3, 16).mean(2)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_store_is_that_of_one_process(client, tmp_path, small_shards, dtype):
    images, network = shapes(n=100), small().eval()
    how = {"dtype": dtype, "batch_size": 8, "device": "cpu", "normalize": True, "metadata": {"split": "test"}}
    alone = backbones.embed(network, images, out=tmp_path / "one", **how)
    together = backbones.embed(network, images, out=tmp_path / "many", client=client, **how)
    np.testing.assert_allclose(
        together.embeddings, alone.embeddings, rtol=1e-2 if dtype == "float16" else 1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(together.labels, alone.labels)
    assert together.embeddings.dtype == np.dtype(dtype)
    assert together.metadata == alone.metadata
    assert not list((tmp_path / "many").glob("*.tmp"))
    assert not (tmp_path / "many" / PROGRESS).exists()


def test_a_shard_of_a_lost_worker_is_written_again(client, tmp_path, small_shards):
    images = shapes(n=160)
    (tmp_path / "calls").mkdir()
    network = Slow(tmp_path / "calls")
    alone = backbones.embed(network, images, out=tmp_path / "one", batch_size=8, dtype="float32", device="cpu")
    before = len(list((tmp_path / "calls").iterdir()))
    victim = next(iter(client.run(os.getpid).values()))

    def strike():
        while len(list((tmp_path / "calls").iterdir())) < before + 6:
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=strike)
    killer.start()
    together = backbones.embed(
        network, images, out=tmp_path / "many", batch_size=8, dtype="float32", device="cpu", client=client
    )
    killer.join()
    assert victim not in client.run(os.getpid).values()
    np.testing.assert_array_equal(together.embeddings, alone.embeddings)
    np.testing.assert_array_equal(together.labels, images.labels)


def test_an_interrupted_run_goes_on_without_a_cluster(client, tmp_path, small_shards):
    images = shapes(n=160)
    (tmp_path / "calls").mkdir()
    network, shown = Slow(tmp_path / "calls"), []
    how = {"batch_size": 8, "dtype": "float32", "device": "cpu", "out": tmp_path / "e"}

    def interrupt(*_):
        shown.append(json.loads((tmp_path / "e" / PROGRESS).read_text())["rows"])
        if shown[-1] >= 48:
            raise KeyboardInterrupt

    count = GrowingNpy.count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GrowingNpy, "count", lambda self, n: (count(self, n), interrupt())[0])
        with pytest.raises(KeyboardInterrupt):
            backbones.embed(network, images, client=client, **how)
    deadline = time.monotonic() + 20
    while any(client.processing().values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    stored = backbones.embed(network, images, **how)
    done = len(list((tmp_path / "calls").glob(f"*-{os.getpid()}")))  # a worker may still end the batch it was at
    assert 1 < done <= 2 + (160 - 48) // 8  # two are one image each, which tell the width
    whole = backbones.embed(network, images, **how | {"out": tmp_path / "w"})
    np.testing.assert_array_equal(stored.embeddings, whole.embeddings)


def test_what_goes_wrong_on_a_worker_is_one_sentence_and_leaves_nothing(client, tmp_path, small_shards):
    save_images(tmp_path / "images", 12)
    images = load_images(str(tmp_path / "images"), image_size=16)
    (tmp_path / "images" / "dog" / "7.png").write_bytes(b"no image")
    network = Slow(tmp_path)
    with pytest.raises(InputError, match=r"dog/7\.png cannot be read"):
        backbones.embed(network, images, out=tmp_path / "e", batch_size=4, device="cpu", client=client)
    assert not (tmp_path / "e").exists()
    pickled = pickle.dumps(EmbedShard(network, GrowingNpy(tmp_path / "x.npy", (3,), "f4").rows_of_file(), HOW))
    with pytest.raises(InputError, match="install the module that defines it on all workers"):
        pickle.loads(pickled.replace(b"test_embedding_on_workers", b"test_embedding_on_nothing"))


HOW = Settings(8, "cpu", "float32", normalize=False, mixed=False)


def test_images_that_workers_do_not_see(client, tmp_path, monkeypatch):
    save_images(tmp_path / "images", 2)
    images = load_images(str(tmp_path / "images"), image_size=16)
    ask = embedding_on_workers.ask_workers
    monkeypatch.setattr(embedding_on_workers, "ask_workers", lambda c, f, *a: [*ask(c, f, *a)[:-1], False])
    with pytest.raises(InputError, match="Not every Dask worker sees the images"):
        backbones.embed(Slow(tmp_path), images, out=tmp_path / "e", device="cpu", client=client)


def test_the_command_on_workers_of_this_machine(tmp_path):
    save_images(tmp_path / "images", 5)
    images, network = load_images(str(tmp_path / "images"), image_size=16), small_colors()
    backbones.train(
        images, network, method="supervised", epochs=1, batch_size=4, out=tmp_path / "t", device="cpu", strength=0.0
    )
    given = ["embed", "--checkpoint", tmp_path / "t", "--data", tmp_path / "images", "--device", "cpu"]
    result = run(*given, "--out", tmp_path / "many", "--dask", "local")
    assert result.code == 0, result.err
    assert "10 embeddings of" in result.out
    refused = run(*given, "--out", tmp_path / "e", "--dask", "nowhere")
    warning, error = refused.err.splitlines(keepends=True)
    assert "has no train/" in warning
    assert_one_sentence(replace(refused, err=error), "is not a Dask cluster")
    assert not (tmp_path / "e").exists()


def small_colors():
    return backbones.build("resnet18", n_channels=3, image_size=16, width=4, seed=0)
