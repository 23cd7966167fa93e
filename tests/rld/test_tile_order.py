"""The order in which sampled RLD takes the points."""

import numpy as np
import pytest

from clorg_scale.rld.sampled.tile_order import BLOCK_ROWS, ROWS, RUN, tile_order


@pytest.mark.parametrize("n", [3, ROWS, BLOCK_ROWS, BLOCK_ROWS + 1, 5 * BLOCK_ROWS + 777])
def test_every_row_once_and_the_same_for_a_seed(n):
    order = tile_order(n, 1)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(order, tile_order(n, 1))
    assert n < 10 or not np.array_equal(order, tile_order(n, 2))


def test_blocks_take_runs_of_rows_from_all_over_and_tiles_are_mixed():
    n = 10 * BLOCK_ROWS
    order = tile_order(n, 0)
    for block in order.reshape(10, -1):
        runs = np.sort(block).reshape(-1, RUN)
        np.testing.assert_array_equal(np.diff(runs, axis=1), 1)
        assert np.diff(runs[:, 0]).max() <= 2 * 10 * RUN
    # Of ten classes one after the other, each tile has about as many points: binomial, 5 standard deviations.
    of_class = (order // BLOCK_ROWS).reshape(-1, ROWS)
    counts = (of_class[:, :, None] == np.arange(10)).sum(axis=1)
    assert np.abs(counts - ROWS / 10).max() < 5 * np.sqrt(ROWS * 0.09)
