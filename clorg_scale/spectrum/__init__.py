"""Leading eigenpairs of the normalized affinity graph: its own clusters, and the share of the classes in them."""

from clorg_scale.spectrum.decomposition import Spectrum, spectrum

__all__ = ["Spectrum", "spectrum"]
