"""k nearest neighbors of embeddings, with FAISS on the CPU, cuVS, FAISS or torch on the GPU.

`knn` gives every point's neighbors, `knn_of` those of a sample of the points (exact, for large k),
`knn_between` those of other points, such as a test set, among the embeddings.
"""

from clorg_scale.neighbors.result import KNN
from clorg_scale.neighbors.search import knn, knn_between, knn_of

__all__ = ["KNN", "knn", "knn_between", "knn_of"]
