"""Ctrl-C waits for compiled loops."""

import signal
import threading

import pytest

from clorg_scale.numerics.interrupts import held_interrupts


def test_a_block_is_finished_before_ctrl_c_is_heard():
    before, done = signal.getsignal(signal.SIGINT), []
    if before is not signal.default_int_handler:
        pytest.skip("Ctrl-C is ignored by whoever started the tests")

    def press():
        with held_interrupts():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        press()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is before
    with held_interrupts():
        pass  # nothing pressed, nothing raised


def test_an_error_of_the_block_comes_through():
    with pytest.raises(ZeroDivisionError), held_interrupts():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is not None


def test_other_threads_are_left_alone():
    seen = []

    def work():
        with held_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
