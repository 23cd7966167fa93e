"""One cluster of two workers for the tests of this folder; a worker that a test kills is replaced by its nanny."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from clorg_scale.local_workers import PATIENT_RESTARTS

HERE = Path(__file__).parent


class Room(ExitStack):
    """What is open while tests of this folder run, one after the other."""

    client = None

    def close(self):
        super().close()
        self.client = None


ROOM = Room()


@pytest.fixture
def client():
    """Client of the cluster, which the first test that asks for it starts."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    if ROOM.client is None:
        ROOM.enter_context(dask.config.set(PATIENT_RESTARTS))
        cluster = distributed.LocalCluster(
            2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs="CRITICAL"
        )
        ROOM.enter_context(cluster)
        ROOM.client = ROOM.enter_context(distributed.Client(cluster))
    ROOM.client.wait_for_workers(2, timeout=300)
    return ROOM.client


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem):
    """Close the cluster before tests of another folder run: workers that wait still look around now and then."""
    result = yield
    if nextitem is None or HERE not in nextitem.path.parents:
        ROOM.close()
    return result
