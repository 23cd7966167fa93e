"""Shares of compiled loops on threads: every row once, Numba's limits, one thread of BLAS, errors, forks."""

import multiprocessing
import signal
import threading
import time

import numba
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from clorg_scale.numerics.threads import LEAST_NUMBERS, on_threads, over_rows, shares_of


@pytest.fixture(params=[1, 2])
def n_threads(request):
    if request.param > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("one thread only")
    before = numba.get_num_threads()
    numba.set_num_threads(request.param)
    yield request.param
    numba.set_num_threads(before)


@pytest.mark.parametrize("n_rows", [0, 1, 7, LEAST_NUMBERS - 1, 2 * LEAST_NUMBERS, 3 * LEAST_NUMBERS + 1])
def test_every_row_is_taken_once(n_rows, n_threads):
    taken, spans = np.zeros(n_rows, int), []

    def loop(rows, value):
        spans.append(rows)
        taken[rows[0] : rows[1]] += value

    over_rows(loop, n_rows, 1, 3)
    assert (taken == 3).all()
    assert len(spans) == (n_threads if n_rows >= 2 * LEAST_NUMBERS else 1)


def test_numbas_limit_is_that_of_the_calling_thread(n_threads):
    assert [shares_of(n) for n in (0, 1, 1000)] == [1, 1, n_threads]


def test_shares_run_at_the_same_time():
    meeting = threading.Barrier(2, timeout=20)
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    on_threads(lambda share: meeting.wait(), 2)


def test_blas_has_one_thread_for_each_of_ours():
    def threads_of_blas():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    seen = {}
    with threadpool_limits(2, user_api="blas"):  # the surroundings may give it one
        before = threads_of_blas()
        assert set(before) <= {2}
        on_threads(lambda share: seen.update({share: threads_of_blas()}), 2, products=True)
        assert threads_of_blas() == before
    assert sorted(seen) == [0, 1]
    assert all(set(numbers) == {1} for numbers in seen.values())


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_waits_for_the_other_shares(failing):
    done = []

    def work(share):
        if share == failing:
            raise MemoryError("too little")
        time.sleep(0.05)
        done.append(share)

    with pytest.raises(MemoryError, match="too little"):
        on_threads(work, 2)
    assert done == [1 - failing]


def test_ctrl_c_waits_for_all_shares():
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        pytest.skip("Ctrl-C is ignored by whoever started the tests")
    done = []

    def work(share):
        if share == 0:
            signal.raise_signal(signal.SIGINT)
        else:
            time.sleep(0.05)
        done.append(share)

    with pytest.raises(KeyboardInterrupt):
        on_threads(work, 2)
    assert sorted(done) == [0, 1]


def _sum_in_child(queue):
    seen = []
    on_threads(seen.append, 2)
    queue.put(sorted(seen))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    on_threads(lambda share: None, 2)  # the parent's threads exist
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_sum_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == [0, 1]
    child.join(60)
    assert child.exitcode == 0
