"""Checks of the settings of graph networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from clorg_scale.errors import InputError
from clorg_scale.probes.settings import check_number, check_whole, is_number, is_whole

__all__ = ["GCNSettings", "check_settings", "given_fanouts"]


class GCNSettings(Protocol):
    """Settings of `clorg_scale.probes.GCNProbe` and `SAGEProbe` as they were given, unchecked."""

    inputs: Any
    hidden: Any
    n_layers: Any
    fanout: Any
    batch_size: Any
    learning_rate: Any
    weight_decay: Any
    label_smoothing: Any
    validation_fraction: Any
    validate_every: Any
    mask_share: Any
    max_epochs: Any
    max_seconds: Any
    patience: Any
    checkpoint_every: Any
    seed: Any


def check_settings(probe: GCNSettings) -> None:
    """Check all settings of a probe.

    Raises
    ------
    InputError
        If one is out of range.
    """
    if probe.inputs not in ("labels", "features", "both"):
        raise InputError(f"inputs must be 'labels', 'features' or 'both', not {probe.inputs!r}.")
    check_number("learning_rate", probe.learning_rate, "positive", lambda rate: rate > 0)
    check_number("weight_decay", probe.weight_decay, "at least 0", lambda decay: decay >= 0)
    for name in ("label_smoothing", "validation_fraction"):
        check_number(name, getattr(probe, name), "at least 0 and below 1", lambda share: 0 <= share < 1)
    share = probe.mask_share
    if not (isinstance(share, Sequence) and len(share) == 2 and all(map(is_number, share))):
        raise InputError(f"mask_share must be two numbers, not {share!r}.")
    if not 0 < share[0] <= share[1] < 1:
        raise InputError(f"mask_share must be a range within (0, 1), not {share!r}.")
    for name in ("hidden", "n_layers", "max_epochs", "patience", "checkpoint_every"):
        check_whole(name, getattr(probe, name), least=1)
    if probe.max_seconds not in ("auto", None):
        check_number("max_seconds", probe.max_seconds, "positive", lambda seconds: seconds > 0)
    if probe.validate_every != "auto":
        check_whole("validate_every", probe.validate_every, least=1)
    if probe.batch_size not in ("auto", "full"):
        check_whole("batch_size", probe.batch_size, least=1)
    check_whole("seed", probe.seed, least=0)
    if probe.fanout == "auto":
        return
    fanouts = given_fanouts(probe)
    if len(fanouts) != probe.n_layers or not all(is_whole(fanout) and fanout >= 1 for fanout in fanouts):
        raise InputError(
            f"fanout must be at least 1, one number or one for each of {probe.n_layers} layers, not {probe.fanout!r}."
        )


def given_fanouts(probe: GCNSettings) -> tuple[int, ...]:
    """Neighbors sampled at each hop, where they are not chosen by degree."""
    fanouts = probe.fanout if isinstance(probe.fanout, Sequence) else (probe.fanout,) * int(probe.n_layers)
    return tuple(int(fanout) if is_whole(fanout) else fanout for fanout in fanouts)
