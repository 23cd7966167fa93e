// Drawings by Observable Plot, with tooltips for pointer and keyboard, and names that do not overlap.

const NARROW = 420;  // pixels: the width of a phone
const widthOf = (parent, most = 760) => Math.max(250, Math.min(most, Math.floor(parent.clientWidth) || 540));  // drawn at true size, so that letters keep theirs

const ruler = document.createElement("canvas").getContext("2d");
function wide(content, weight = 400) {  // pixels that a text of a drawing takes
  ruler.font = `${weight} 12px ${fontFamily()}`;
  return ruler.measureText(content).width;
}
function clipTo(name, room) {  // a bold name, clipped to so many pixels
  let length = name.length;
  while (length > 1 && wide(clip(name, length), 600) > room) length--;
  return clip(name, length);
}
function drawing(parent, title, options) {  // a drawing at its true size, whose marks the arrow keys reach
  const root = Plot.plot({ ariaLabel: title, ...options });
  root.setAttribute("role", "img");
  for (const group of root.querySelectorAll("g[aria-label]")) group.removeAttribute("aria-label");  // screen readers announce the drawing as a whole
  parent.append(root);
  makeWalkable(root);
  return root;
}
// Options of a mark whose elements each show a tooltip on their entry in `data`; `each(node, entry)` may change them further.
function withTooltips(data, describe, options, each = null) {
  return {
    ...options,
    render(index, scales, values, dimensions, context, next) {
      const group = next(index, scales, values, dimensions, context);
      index.forEach((i, at) => {
        explain(group.children[at], describe(data[i]));
        if (each) each(group.children[at], data[i]);
      });
      return group;
    },
  };
}
// Options of a mark whose elements move apart vertically until there are `gap` pixels between them, in their order.
function spread(gap, options) {
  return {
    ...options,
    render(index, scales, values, dimensions, context, next) {
      const order = [...index].sort((i, j) => values.y[i] - values.y[j]), y = Float64Array.from(values.y), { height, marginBottom } = dimensions;
      const lowest = height - (order.length * gap < height - marginBottom - 8 ? marginBottom + 2 : 6);
      const step = Math.min(gap, (lowest - 8) / Math.max(1, order.length));
      order.forEach((i, at) => { if (at) y[i] = Math.max(y[i], y[order[at - 1]] + step); });
      order.reverse().forEach((i, at) => { y[i] = Math.min(y[i], at ? y[order[at - 1]] - step : lowest); });
      return next(index, scales, { ...values, y }, dimensions, context);
    },
  };
}
const horizontal = ({ ticks, tickFormat }, label) => [
  Plot.gridY({ ticks, stroke: "var(--line)", strokeOpacity: 1 }),
  Plot.axisY({ ticks, tickFormat, tickSize: 0, tickPadding: 8, label, labelAnchor: "top", labelArrow: "none" }),
];
// Axis of values that ends at its first and last: its domain, some `n` ticks (both ends, and round values between them that stay
// `apart`, a share of its length, from them), and how these are written.
function valueAxis([low, high], n, apart) {
  const span = high - low, power = 10 ** Math.floor(Math.log10(span / n)), ratio = span / n / power;
  const step = power * (ratio >= Math.sqrt(50) ? 10 : ratio >= Math.sqrt(10) ? 5 : ratio >= Math.sqrt(2) ? 2 : 1);
  const digits = Math.min(20, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))), round = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) if (Math.min(i * step - low, high - i * step) >= apart * span) round.push(i * step);
  const isEnd = value => value === low || value === high, written = (value, least, most) => value.toLocaleString("en", { minimumFractionDigits: least, maximumFractionDigits: most });
  return { domain: [low, high], ticks: [low, ...round, high], tickFormat: value => (isEnd(value) ? written(value, 0, Math.min(20, digits + 1)) : written(value, digits, digits)) };
}
const below = (ticks, label, more = {}) => Plot.axisX({ ticks, tickSize: 0, tickPadding: 8, label, labelAnchor: "center", labelArrow: "none", labelOffset: 38, ...more });

function ticksThatFit(xs, place) {  // ticks whose labels do not overlap, always with the last value
  const kept = [xs[xs.length - 1]];
  for (const x of xs.slice(0, -1).reverse()) if (place(kept[kept.length - 1]) - place(x) >= 34 && (x === xs[0] || place(x) - place(xs[0]) >= 34)) kept.push(x);
  return kept;
}
function figures(parent, captions) {  // creates all of them before any is drawn, so that each has its final width
  return captions.map(caption => {
    const figure = html("figure", {}, null, parent);
    if (caption) html("figcaption", {}, caption, figure);
    return figure;
  });
}
const MOST_OWN_TICKS = 12;  // of a linear axis, at the very values; where there are more, ticks are at round ones
// Curves. series: [{ name, color, points: [{ x, y, e, label }], dotted, unnamed }], e: half the length of an error bar; named: with
// their names at the end.
function curves(parent, series, { xLabel, yLabel, title, named, fromZero = true, linear = false }) {
  const points = series.flatMap((s, i) => s.points.map(p => ({ ...p, e: p.e || 0, s, i }))), solid = points.filter(p => !p.s.dotted);
  if (!points.length) return;
  const W = widthOf(parent), narrow = W < NARROW, room = Math.min(180, 0.38 * W - 28), gap = 16;
  const ends = named ? series.flatMap((s, i) => s.points.length && !s.unnamed ? [{ ...s, i, shown: clipTo(s.name, room), y: s.points.reduce((a, b) => b.x > a.x ? b : a).y }] : []) : [];
  const marginLeft = 46, marginRight = named ? 28 + Math.ceil(Math.max(0, ...ends.map(s => wide(s.shown, 600)))) : 26;
  const label = wide(xLabel) > W - marginLeft - marginRight ? xLabel.replace(/ \(.*\)$/, "") : xLabel;  // what fits under the axis
  const xs = [...new Set(points.map(p => p.x))].sort((a, b) => a - b), first = xs[0], last = xs[xs.length - 1], scale = linear ? x => x : Math.log;
  const place = x => (scale(x) - scale(first)) / Math.max(1e-12, scale(last) - scale(first)) * (W - marginLeft - marginRight);
  const height = narrow ? 270 : 320, marginTop = 26, marginBottom = 44, values = valueAxis(rangeOf(points, fromZero), 5, 19 / (height - marginTop - marginBottom));
  const across = linear && xs.length > MOST_OWN_TICKS ? valueAxis([first, last], narrow ? 3 : 6, 34 / (W - marginLeft - marginRight)) : { ticks: ticksThatFit(xs, place), tickFormat: x => x.toLocaleString("en", { maximumSignificantDigits: 3 }) };
  const look = { x: "x", y: "y", stroke: p => p.s.color, z: "i", strokeLinejoin: "round", className: "curve" };
  drawing(parent, title, {
    width: W, height, marginLeft, marginRight, marginTop, marginBottom,
    x: { type: linear ? "linear" : "log", domain: [first, last] }, y: { domain: values.domain },
    marks: [
      ...horizontal(values, yLabel), below(across.ticks, label, { tickFormat: across.tickFormat }),
      Plot.lineY(points.filter(p => p.s.dotted), { ...look, strokeWidth: 1.5, strokeDasharray: "2 4" }),
      Plot.lineY(solid, { ...look, strokeWidth: 2.5 }),
      Plot.ruleX(solid.filter(p => p.e), { x: "x", y1: p => p.y - p.e, y2: p => p.y + p.e, stroke: p => p.s.color, strokeWidth: 1.5 }),
      Plot.dot(solid, { x: "x", y: "y", fill: p => p.s.color, symbol: p => modelShape(p.i), stroke: "var(--card)", strokeWidth: 1.2, r: xs.length > 30 ? 3 : 4.5, className: "marks" }),
      Plot.dot(ends, spread(gap, { frameAnchor: "right", y: "y", dx: 13, fill: "color", symbol: s => modelShape(s.i), r: 4.5, stroke: "none" })),
      Plot.text(ends, spread(gap, { frameAnchor: "right", y: "y", dx: 23, textAnchor: "start", text: "shown", className: "strong" })),
      Plot.dot(solid, withTooltips(solid, p => `${named ? p.s.name + "\n" : ""}${p.label}`, { x: "x", y: "y", r: 12, fill: "transparent", stroke: "none", className: "reach" })),
    ],
  });
}
function rangeOf(points, fromZero) {  // where the values' axis begins and ends; the paddings keep equal values apart from nothing
  const least = Math.min(...points.map(p => p.y - p.e)), most = Math.max(...points.map(p => p.y + p.e));
  if (fromZero) return [least > -0.04 * most ? 0 : least, Math.max(most, 0.05)];
  const pad = most > least ? 0 : 0.01 * Math.abs(most) || 0.01;
  return [least - pad, most + pad];
}
