"""Embeddings of images: in order, in the precision that is stored, resumed where they were cut off."""

import contextlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from small_backbones import shapes, small

from clorg_scale import backbones
from clorg_scale.errors import InputError


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_embeddings_keep_order_and_labels_and_are_those_of_the_network(dtype, tmp_path):
    images, network = shapes(n=100), small().eval()
    stored = backbones.embed(network, images, out=tmp_path / "e", dtype=dtype, batch_size=32, device="cpu")
    np.testing.assert_array_equal(stored.labels, images.labels)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images.pixels).float() / 255).numpy()
    np.testing.assert_allclose(stored.embeddings, expected, rtol=1e-2 if dtype == "float16" else 1e-4, atol=1e-3)
    unit = backbones.embed(network, images, out=tmp_path / "u", dtype=dtype, normalize=True, device="cpu")
    np.testing.assert_allclose(np.linalg.norm(unit.embeddings.astype(np.float64), axis=1), 1, atol=2e-3)


@pytest.mark.parametrize(("dtype", "mixed"), [("float16", True), ("float32", False)])
def test_a_gpu_embeds_in_the_precision_that_is_stored(dtype, mixed, tmp_path, monkeypatch):
    """The settings alone: a CPU that is called a GPU."""
    from clorg_scale.backbones import embedding, features

    seen = []
    monkeypatch.setattr(torch, "autocast", lambda *_, enabled: seen.append(enabled) or contextlib.nullcontext())
    monkeypatch.setattr(features, "to_pixels", lambda read, _: torch.from_numpy(read).float() / 255)
    monkeypatch.setattr(embedding, "resolve_torch_device", lambda _: "cuda")
    network = small().eval()
    monkeypatch.setattr(network, "to", lambda *_, **__: network)
    backbones.embed(network, shapes(n=8), out=tmp_path / "e", dtype=dtype, batch_size=4)
    assert seen[1:] == [mixed, mixed]  # the first image is for the width


def test_embedding_goes_on_where_it_was_cut_off(tmp_path):
    images, network = shapes(n=100), small().eval()

    class CutOff(torch.nn.Module):
        calls = 0

        def forward(self, x):
            CutOff.calls += 1
            if CutOff.calls == 4:
                raise KeyboardInterrupt
            return network(x)

    with pytest.raises(KeyboardInterrupt):
        backbones.embed(CutOff(), images, out=tmp_path / "e", batch_size=25, device="cpu")
    CutOff.calls = 4
    stored = backbones.embed(CutOff(), images, out=tmp_path / "e", batch_size=25, device="cpu")
    assert CutOff.calls == 4 + 1 + 2  # the width, and the two batches that were missing
    whole = backbones.embed(network, images, out=tmp_path / "w", batch_size=25, device="cpu")
    np.testing.assert_array_equal(stored.labels, whole.labels)
    np.testing.assert_allclose(stored.embeddings, whole.embeddings, rtol=2e-3, atol=1e-5)  # a bit of float16


def test_embedding_does_not_go_on_with_other_weights(tmp_path):
    images = shapes(n=100)
    batches = iter([None, None, None, KeyboardInterrupt])

    def stop(*_):
        if (error := next(batches)) is not None:
            raise error

    first = small(0).eval()
    first.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        backbones.embed(first, images, out=tmp_path / "e", batch_size=25, device="cpu")
    other = backbones.embed(small(1).eval(), images, out=tmp_path / "e", batch_size=25, device="cpu")
    whole = backbones.embed(small(1).eval(), images, out=tmp_path / "w", batch_size=25, device="cpu")
    np.testing.assert_array_equal(other.embeddings, whole.embeddings)


def test_networks_and_images_that_do_not_fit(tmp_path):
    colors = shapes(n=8, n_channels=3)
    with pytest.raises(InputError, match="takes images of 1 channels, not 3"):
        backbones.embed(small(), colors, out=tmp_path / "e", device="cpu")
    with pytest.raises(InputError, match="does not take images of 16 x 16 pixels and 3 channels"):
        backbones.embed(torch.nn.Conv2d(1, 2, 3), colors, out=tmp_path / "e", device="cpu")
    with pytest.raises(InputError, match=r"features of shape \(1, 2, 14, 14\)"):
        backbones.embed(torch.nn.Conv2d(3, 2, 3), colors, out=tmp_path / "e", device="cpu")
    with pytest.raises(InputError, match="takes images of 1 channels, not 3"):
        backbones.train(colors, small(), method="supervised", epochs=1, batch_size=4, out=tmp_path / "t", device="cpu")
    assert list(tmp_path.rglob("*.pt")) == list(tmp_path.rglob("*.npy")) == []


def test_pixels_of_one_channel_are_not_taken_for_channels_last():
    """The gradient of convolutions in that format writes out of bounds on some CPUs (see `backbones.memory`)."""
    from clorg_scale.backbones.features import to_pixels

    read = np.zeros((5, 28, 28), np.uint8)[:, None][np.arange(3)]
    assert to_pixels(read, torch.device("cpu")).stride() == (784, 784, 28, 1)
