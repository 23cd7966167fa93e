"""Folders of images, data that are not there, and the embeddings that ship."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
from fashion_images import SHIPPED, first_images, has_all_images
from small_backbones import save_images

import clorg_scale as cs
from clorg_scale.datasets import load_images
from clorg_scale.errors import InputError


def test_folders_of_images(tmp_path):
    save_images(tmp_path / "train", 3)
    images = load_images(str(tmp_path), "train", image_size=32)
    assert (len(images), images.classes, images.n_channels, images.image_size) == (6, ["cat", "dog"], 3, 32)
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.batch(np.array([5, 0])).shape == (2, 3, 32, 32)
    assert len(images.first(2)) == 2
    assert images.spread(4).labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(images.spread(2).batch(np.array([1])), images.batch(np.array([3])))
    with pytest.raises(InputError, match="images to take must be a whole number from 1 to 6, not 7"):
        images.spread(7)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png cannot be read"):
        images.batch(np.array([0]))
    with pytest.raises(InputError, match="no folder test or val"):
        load_images(str(tmp_path), "test")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_data_that_is_not_there_gets_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.delenv("CLORG_SCALE_DATA", raising=False)
    with pytest.raises(InputError, match="data folder"):
        load_images(name)
    with pytest.raises(InputError, match=rf"{name} is not in"):
        load_images(name, root=tmp_path)
    with pytest.raises(InputError, match="no data set"):
        load_images("imaginary")


@pytest.mark.parametrize("network", ["contrastive", "supervised"])
def test_embeddings_that_ship_are_those_of_the_images(network):
    from clorg_scale.datasets import load_fashion_mnist, load_fashion_mnist_embeddings

    parts = {split: load_fashion_mnist_embeddings(network, split) for split in ("train", "test")}
    for split, stored in parts.items():
        assert (stored.embeddings.shape, stored.embeddings.dtype) == ((10_000, 128), np.float16)
        assert np.isfinite(stored.embeddings).all()
        assert stored.metadata["split"] == split
        training = stored.metadata["training"]
        assert training["method"] == {"contrastive": "simclr"}.get(network, network)
        assert training["epochs_done"] == training["epochs"]
        if has_all_images():
            np.testing.assert_array_equal(stored.labels, load_fashion_mnist(split)[1][:10_000])
    np.testing.assert_array_equal(parts["train"].labels[:SHIPPED], first_images(SHIPPED)[1])
    probe = cs.probes.KNNProbe(20, metric="cosine", device="cpu")
    probe.fit(parts["train"].embeddings[:2000], parts["train"].labels[:2000])
    accuracy = probe.score(parts["test"].embeddings[:1000], parts["test"].labels[:1000])
    assert accuracy > {"contrastive": 0.7, "supervised": 0.88}[network]


def test_embeddings_that_do_not_ship():
    from clorg_scale.datasets import load_fashion_mnist_embeddings

    with pytest.raises(InputError, match="not of 'pixels'"):
        load_fashion_mnist_embeddings("pixels")
    with pytest.raises(InputError, match="'validation'"):
        load_fashion_mnist_embeddings("contrastive", "validation")
