"""Embeddings that arrays of every library are made from."""

import numpy as np

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
