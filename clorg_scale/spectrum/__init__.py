"""Leading eigenpairs of the normalized affinity graph: its own clusters, and the share of the classes in them."""

from clorg_scale.spectrum.decomposition import Spectrum, solver_device, spectrum

__all__ = ["Spectrum", "solver_device", "spectrum"]
