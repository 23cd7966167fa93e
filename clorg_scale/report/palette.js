// Colors and shapes. A model is known by its color or by its shape.

const COLORS = 10;  // that color-blind readers can tell apart (style.css; tests/report/test_colors.py measures it)
const modelColor = i => `var(--c${i % COLORS})`;
const SHAPES = [Plot.symbolCircle, Plot.symbolSquare, Plot.symbolTriangle, Plot.symbolDiamond, Plot.symbolCross, Plot.symbolStar, Plot.symbolWye];
const modelShape = i => SHAPES[i % SHAPES.length];

function swatch(parent, i) {
  const root = svg("svg", { viewBox: "-8 -8 16 16", class: "key", "aria-hidden": "true" }, parent);
  svg("path", { d: Plot.symbol(modelShape(i), 95)(), fill: modelColor(i) }, root);
  return root;
}

const RAMP = [[165, 0, 38], [244, 109, 67], [254, 224, 139], [102, 189, 180], [0, 88, 150]];
function densityColor(value) {
  if (value === null) return css("--rest");
  const at = Math.min(3.9999, Math.max(0, value * 4)), i = Math.floor(at), f = at - i;
  return `rgb(${RAMP[i].map((c, j) => Math.round(c + f * (RAMP[i + 1][j] - c))).join(",")})`;
}
function rgb(color) {  // [red, green, blue] of "#rrggbb" or "rgb(r,g,b)"
  return color.startsWith("#") ? [1, 3, 5].map(at => parseInt(color.slice(at, at + 2), 16)) : color.match(/\d+/g).map(Number);
}
