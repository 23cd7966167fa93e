"""Methods of training: each learns, against the losses that it is defined by."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from small_backbones import shapes, small

from clorg_scale import backbones
from clorg_scale.backbones.losses import QueueContrast
from clorg_scale.backbones.methods import METHODS, build_method


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lowers_its_loss(method):
    if method != "supervised":
        pytest.importorskip("lightly")
    log = []
    backbones.train(
        shapes(),
        small(),
        method=method,
        epochs=6,
        batch_size=32,
        learning_rate=3e-3,
        device="cpu",
        on_epoch=lambda _, epoch: log.append(epoch),
    )
    assert [epoch.epoch for epoch in log] == [1, 2, 3, 4, 5, 6]
    first = 1 if method.startswith("moco") else 0  # queues start as noise or empty, which makes it easy
    assert log[-1].loss < log[first].loss
    assert all(epoch.images_per_second > 0 and 0 < epoch.augmentation < 1 for epoch in log)


def test_moco_v3_contrasts_with_the_keys_of_the_batch_and_of_those_before():
    rng = np.random.default_rng(0)
    loss, size, temperature = QueueContrast(6, 5, temperature=0.3), 6, 0.3
    kept = np.zeros((2, 0, 5))
    for _ in range(4):  # batches of 4 in queues of 6: from the second on, the oldest give way
        queries, keys = (rng.normal(size=(2, 4, 5)) for _ in range(2))
        found = float(loss(torch.from_numpy(queries).float(), torch.from_numpy(keys).float()))
        queries, keys = (z / np.linalg.norm(z, axis=2, keepdims=True) for z in (queries, keys))
        expected = []
        for view in range(2):
            for q, k in zip(queries[view], keys[view], strict=True):
                others = np.concatenate([keys[view], kept[view]])
                expected.append(-q @ k / temperature + np.log(np.exp(others @ q / temperature).sum()))
        assert found == pytest.approx(2 * temperature * np.mean(expected), rel=1e-5)
        kept = np.concatenate([kept, keys], axis=1)[:, -size:]


def test_teachers_learn_by_moving_only_and_see_the_other_view():
    pytest.importorskip("lightly")
    for name in ("moco", "mocov3", "byol", "dino"):
        method = build_method(name, small(), n_classes=3, n_images=64)
        views = [torch.rand(8, 1, 16, 16) for _ in range(2)]
        method(views, torch.zeros(8, dtype=torch.int64)).backward()
        assert all(parameter.grad is None for parameter in method.teacher.parameters())
        student = [*method.backbone.parameters(), *method.projection.parameters()]
        assert all(parameter.grad is not None for parameter in student if parameter.requires_grad)
        before = [parameter.clone() for parameter in method.teacher.parameters()]
        with torch.no_grad():
            for parameter in student:
                parameter.add_(1)
        method.after_step(0.0)
        for own, old, theirs in zip(method.teacher.parameters(), before, student, strict=True):
            torch.testing.assert_close(own, 0.99 * old + 0.01 * theirs)


@pytest.mark.parametrize("name", METHODS)
def test_losses_are_in_full_precision_where_the_network_is_not(name):
    if name != "supervised":
        pytest.importorskip("lightly")
    method = build_method(name, small(), n_classes=3, n_images=64)
    seen = []

    def look(_, arguments):
        tensors = [t for argument in arguments for t in (argument if isinstance(argument, list) else [argument])]
        seen.append({t.dtype for t in tensors if t.is_floating_point()} | {torch.is_autocast_enabled("cpu")})

    method.loss.register_forward_pre_hook(look)
    inner = []
    method.backbone.network.layer4.register_forward_hook(lambda _, __, output: inner.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss = method([torch.rand(8, 1, 16, 16) for _ in range(method.n_views)], torch.arange(8) % 3)
    assert set(inner) == {torch.bfloat16}
    assert seen
    assert all(found == {torch.float32, False} for found in seen)
    loss.backward()
    assert torch.isfinite(loss)
