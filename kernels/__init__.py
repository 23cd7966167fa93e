"""GPU kernels: Triton for the matrix-shaped stages, CUDA C++ for the graph-shaped ones.

`rld_tiles` and `rld_launch` (Triton) import Triton; `graph` (CUDA C++) imports CuPy when a kernel is launched.
Nothing here is imported by `import clorg_scale`.
"""
