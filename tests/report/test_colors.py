"""The ten colors of the page, as readers with each kind of color blindness see them."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from color_vision import MACHADO, TO_XYZ, ciede2000, lab, linear

import clorg_scale.report

STYLE = (Path(clorg_scale.report.__file__).parent / "style.css").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("p", "q", "distance"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((50, -1, 2), (50, 0, 0), 2.3669),
    ],
)
def test_color_distance_is_that_of_the_published_pairs(p, q, distance):  # Sharma, Wu and Dalal 2005, table 1
    assert ciede2000(p, q) == pytest.approx(distance, abs=1e-4)


def themes():
    light, dark = re.findall(r":root \{\s*color-scheme.*?\}|:root \{\n\s+--ground: #12.*?\}", STYLE, re.DOTALL)
    return {name: dict(re.findall(r"--(\w+): (#\w{6})", text)) for name, text in (("light", light), ("dark", dark))}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("reader", MACHADO)
def test_colors_are_apart_for_every_reader(theme, reader):
    seen = [np.clip(MACHADO[reader] @ linear(themes()[theme][f"c{i}"]), 0, 1) for i in range(10)]
    nearest = min(ciede2000(lab(p), lab(q)) for p, q in combinations(seen, 2))
    assert nearest > 9.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colors_stand_out_from_the_ground(theme):
    def luminance(color):
        return TO_XYZ[1] @ linear(color)

    colors = themes()[theme]
    for ground in ("faint", "card"):
        for i in range(10):
            low, high = sorted([luminance(colors[f"c{i}"]), luminance(colors[ground])])
            assert (high + 0.05) / (low + 0.05) >= 3, (ground, i)
