"""Leading eigenpairs of the normalized affinity graph: its clusters, and how much of the classes they capture."""

from clorg_scale.spectrum.decomposition import Spectrum, memory_needed, solver_device, spectrum

__all__ = ["Spectrum", "memory_needed", "solver_device", "spectrum"]
