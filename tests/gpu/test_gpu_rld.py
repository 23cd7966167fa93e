"""Exact RLD's kernels on a GPU against torch's tiles, panel by panel; skips itself where there is none."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

SQUARE_OF = [-1, 0, -1, 2, -1]
TEMPERATURES = [1.0, 0.5, 0.2, 0.1, 0.05]


def panel(n, d, start, seed, classes):
    """Random points in fp16, two pairs of them equal, some unlabelled, sorted by class."""
    from clorg_scale.kernels.rld_panels import Panel

    generator = torch.Generator("cuda").manual_seed(seed)
    codes = torch.randint(-1, classes, (n,), device="cuda", generator=generator).sort().values.to(torch.int32)
    x = torch.randn(n, d, device="cuda", generator=generator).half()
    x[1], x[n // 2] = x[0], x[n // 2 + 3]
    return Panel(x, x.float().square().sum(1), codes, start)


@pytest.mark.parametrize(
    ("n", "m", "d", "classes"),
    [(300, None, 64, 3), (128, None, 64, 1), (1000, 700, 128, 5), (2048, 1024, 512, 40), (513, None, 192, 500)],
)
def test_kernels_for_hopper_give_what_torch_gives(n, m, d, classes):
    from clorg_scale.kernels import rld_hopper
    from clorg_scale.kernels.rld_panels import Exponents, Launch, Weights

    from clorg_scale.rld.exact import tiles_torch as torch_tiles
    from clorg_scale.rld.exact.launch_plan import choose_kernels
    from clorg_scale.rld.points import NEAR

    if choose_kernels("auto", "fp16", torch.device("cuda", 0), 5) != "hopper":
        pytest.skip("the GPU is not of the Hopper generation, or CuPy or cuda-core is not installed")
    X = panel(n, d, 0, 1, classes)
    Y = X if m is None else panel(m, d, n, 2, classes)
    square_of = torch.tensor(SQUARE_OF, dtype=torch.int32, device="cuda")
    rates = -1.4427 / ((2 * d) ** 0.5 * torch.tensor(TEMPERATURES, device="cuda"))
    exponents, launch = Exponents(rates.double(), square_of), Launch("fp16", NEAR, 64)
    ours = rld_hopper.kernel_sums(X, Y, exponents, launch)
    theirs = torch_tiles.kernel_sums(X, Y, exponents, launch)
    again = rld_hopper.kernel_sums(X, Y, exponents, launch)
    for found, expected, repeated in zip(ours[:3], theirs[:3], again[:3], strict=True):
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-6
        assert torch.equal(found, repeated)
    near = [sum(int(tiles.masks.sum()) for tiles in sums[-1]) for sums in (ours, theirs)]
    assert near[0] == near[1]
    weights = [torch.rand(5, len(side.x), device="cuda") + 0.5 for side in (X, Y)]
    weights[1] = weights[0] if m is None else weights[1]
    ours = rld_hopper.affinity_sums(X, Y, exponents, Weights(*weights, False), launch)
    theirs = torch_tiles.affinity_sums(X, Y, exponents, Weights(*weights, False), launch)
    for found, expected in zip(ours[:2], theirs[:2], strict=True):
        for part in (slice(0, 5), slice(5, 10)):  # between classes, within
            scale = expected[part].abs().max().clamp(min=1e-30)
            assert float((found[part] - expected[part]).abs().max() / scale) < 1e-6
