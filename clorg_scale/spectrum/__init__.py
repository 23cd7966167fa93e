"""Leading eigenpairs of the normalized affinity graph: its own clusters, and how much of the classes they hold."""

from clorg_scale.spectrum.decomposition import Spectrum, spectrum

__all__ = ["Spectrum", "spectrum"]
