"""Embeddings on disk."""

from clorg_scale.store.atomic import write_whole

__all__ = ["write_whole"]
