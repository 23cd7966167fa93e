"""Search algorithms, one a file.

Exact ones are a function `search_block` (`clorg_scale.neighbors.exact.PairSearch`): the k best pairs of two
blocks. Approximate ones are a function `build` that returns `Candidates`.
"""
