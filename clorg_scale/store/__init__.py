"""Embeddings on disk: the package's own folder, readers of other formats, writes that survive a crash.

`load_embeddings` and `load_labels` read, `save_embeddings` and `EmbeddingsWriter` write the folder, `write_whole`
is for every other file.
"""

from clorg_scale.store.atomic import write_whole
from clorg_scale.store.contents import StoredEmbeddings
from clorg_scale.store.load import load_embeddings, load_labels
from clorg_scale.store.save import save_embeddings
from clorg_scale.store.writer import EmbeddingsWriter

__all__ = [
    "EmbeddingsWriter",
    "StoredEmbeddings",
    "load_embeddings",
    "load_labels",
    "save_embeddings",
    "write_whole",
]
