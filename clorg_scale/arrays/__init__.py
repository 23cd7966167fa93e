"""Input of embeddings and labels of any array library, checked once, never copied as a whole.

Every stage starts here. `as_embeddings` returns a 2-D array that can be read block by block, `row_block` converts rows
of it to the contiguous floats that kernels need, `encode_labels` converts labels of any kind to codes.
"""

from clorg_scale.arrays.adoption import as_array
from clorg_scale.arrays.blocks import BLOCK_BYTES, row_block, row_slices
from clorg_scale.arrays.device import (
    Array,
    Device,
    _gpu_problem,
    array_module,
    on_host,
    resolve_device,
    resolve_torch_device,
)
from clorg_scale.arrays.embeddings import as_embeddings, column_means, column_range
from clorg_scale.arrays.gpu import free_device_memory, on_default_stream, within_device_memory
from clorg_scale.arrays.labels import (
    UNLABELLED,
    ClassLabels,
    encode_labels,
    is_unlabelled,
    label_array,
    warn_of_lookalike,
)
from clorg_scale.arrays.memory import available_memory, parse_memory
from clorg_scale.arrays.scale import to_unit_range

__all__ = [
    "BLOCK_BYTES",
    "UNLABELLED",
    "Array",
    "ClassLabels",
    "Device",
    "_gpu_problem",
    "array_module",
    "as_array",
    "as_embeddings",
    "available_memory",
    "column_means",
    "column_range",
    "encode_labels",
    "free_device_memory",
    "is_unlabelled",
    "label_array",
    "on_default_stream",
    "on_host",
    "parse_memory",
    "resolve_device",
    "resolve_torch_device",
    "row_block",
    "row_slices",
    "to_unit_range",
    "warn_of_lookalike",
    "within_device_memory",
]
