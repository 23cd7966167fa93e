"""Tests and timings of everything that runs on a GPU: the pieces of `bench/gpu_check.py`."""
