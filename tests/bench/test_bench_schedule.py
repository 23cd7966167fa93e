"""Simulated schedules agree with what can be worked out by hand."""

import pytest
from clorg_scale.bench.harness.schedule import Stage, simulate

pytest.importorskip("distributed")

FREE = Stage(n_tasks=640, task=1.0, client=0.0, scheduler=0.0, sent=0.0, alone=0.0)


@pytest.mark.parametrize(
    ("stage", "workers", "seconds", "bottleneck"),
    [
        (FREE, 64, 10.0, "workers"),
        (FREE._replace(n_tasks=10), 64, 1.0, "last tasks"),
        (FREE._replace(client=0.1), 64, 64.0, "client"),
        (FREE._replace(scheduler=0.1), 64, 65.0, "scheduler"),
        (FREE._replace(sent=1e8), 64, 65.0, "network"),
        (FREE._replace(alone=30.0), 64, 40.0, "what the client does alone"),
        (FREE._replace(n_tasks=400_000), 64, 6250.0, "workers"),
    ],
)
def test_schedules(stage, workers, seconds, bottleneck):
    found = simulate(stage, workers, bandwidth=1e9)
    assert found.seconds == pytest.approx(seconds, rel=0.02)
    assert found.efficiency == pytest.approx(stage.n_tasks * stage.task / workers / seconds, rel=0.02)
    assert found.bottleneck.startswith(bottleneck)


def test_no_tasks():
    found = simulate(FREE._replace(n_tasks=0, alone=3.0), 8, bandwidth=1e9)
    assert (found.seconds, found.efficiency) == (3.0, 0.0)
