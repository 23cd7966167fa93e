"""One cluster of two workers for the tests of this folder; a worker that a test kills is replaced by its nanny."""

import warnings
from contextlib import ExitStack
from pathlib import Path

import pytest

HERE = Path(__file__).parent

BACK_WITHIN = 40
"""Seconds in which a nanny replaces a killed worker, which now and then it never does."""


class Room(ExitStack):
    """What is open while tests of this folder run, one after the other."""

    client = None

    def close(self):
        super().close()
        self.client = None


ROOM = Room()


@pytest.fixture
def client():
    """Client of the cluster, which the first test that asks for it starts; of a new one where workers stay away."""
    distributed = pytest.importorskip("distributed")
    if ROOM.client is not None:
        try:
            ROOM.client.wait_for_workers(2, timeout=BACK_WITHIN)
        except TimeoutError:
            warnings.warn("A worker that was killed did not come back; the cluster is replaced.", stacklevel=1)
            ROOM.close()
    if ROOM.client is None:
        cluster = distributed.LocalCluster(
            2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs="CRITICAL"
        )
        ROOM.enter_context(cluster)
        ROOM.client = ROOM.enter_context(distributed.Client(cluster))
        ROOM.client.wait_for_workers(2, timeout=120)
    return ROOM.client


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem):
    """Close the cluster before tests of another folder run: workers that wait still look around now and then."""
    result = yield
    if nextitem is None or HERE not in nextitem.path.parents:
        ROOM.close()
    return result
