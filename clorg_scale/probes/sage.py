"""GraphSAGE probe: the GCN probe with other layers."""

from __future__ import annotations

from clorg_scale.probes.gcn import GCNProbe

__all__ = ["SAGEProbe"]


class SAGEProbe(GCNProbe):
    """`GCNProbe` with GraphSAGE layers: H' = act( D^-1 A H W_n + H W_s + b ).

    The mean over neighbors, by weight, and the node itself have a matrix each (Hamilton, Ying, Leskovec,
    Inductive representation learning on large graphs, 2017). Everything else is as for `GCNProbe`.
    """

    _layer = "SAGEConvolution"
    _normalization = "row"
