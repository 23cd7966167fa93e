"""GPU kernels: Triton for the matrix-shaped stages, CUDA C++ for the graph-shaped ones.

Exact RLD: `rld_tiles` (Triton) and ``rld_hopper.cu`` (CUDA C++ for Hopper) have a kernel for each pass, `kernel_sums`
for pass 1 and `affinity_sums` for pass 2; `rld_reference` has the plain functions that they must equal, `rld_launch`
and `rld_hopper` their launchers. The graph: ``symmetrize.cu``, ``label_modularity.cu``, ``sample_neighbors.cu``,
``class_matches.cu``, ``pair_keys.cu``, each with its reference named in the head; `graph` launches them.

`rld_tiles` and `rld_launch` import Triton; `graph` imports CuPy when a kernel is launched. `import clorg_scale` imports
nothing of this package.
"""
