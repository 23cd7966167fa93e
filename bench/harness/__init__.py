"""Code that the benchmarks share: registry, data, timing, records, floors, peers, comparison, report."""
