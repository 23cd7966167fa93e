"""Benchmarks of clorg-scale and of its peers, installed as `clorg_scale.bench`: `clorg-scale bench list`.

The modules of this folder hold one benchmark each (`harness.registry` names them); `harness` holds what they share:
data, timing, records, floors, peers, comparison and report. `gpu` and `gpu_check.py` need a checkout.
"""
