"""Search algorithms, one per file.

An exact one is a function `search_block` (`clorg_scale.neighbors.exact.PairSearch`): the k best pairs of two blocks.
An approximate one is a function `build` (`clorg_scale.neighbors.engines.Build`) that returns `Candidates`.
"""
