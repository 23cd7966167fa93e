// The data of the page, elements, colors, and lines over a logarithmic axis. The scripts share one scope (page.py).

const pageData = JSON.parse(document.getElementById("data").textContent), { analyses } = pageData;
const several = analyses.length > 1;
const tip = document.getElementById("tip");
const SVG = "http://www.w3.org/2000/svg";
const titles = { linear: "Linear", knn: "k-NN vote", label_propagation: "Label propagation", gcn: "GCN", sage: "GraphSAGE" };

// ---- small helpers: elements, text, colors -------------------------------------------------------------------

function svg(name, attributes = {}, parent = null) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.append(node);
  return node;
}
function text(parent, x, y, content, attributes = {}) {
  const node = svg("text", { x, y, ...attributes }, parent);
  node.textContent = content;
  return node;
}
function html(name, attributes = {}, content = null, parent = null) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (content !== null) node.textContent = content;
  if (parent) parent.append(node);
  return node;
}
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fontFamily = () => getComputedStyle(document.body).fontFamily;
const COLORS = 10;
const modelColor = i => `var(--c${i % COLORS})`;
const chart = name => document.querySelector(`[data-chart="${name}"]`);
const widthOf = (parent, most = 760) => Math.max(250, Math.min(most, Math.floor(parent.clientWidth) || 540));  // letters stay at their size
const short = value => Number.isInteger(value) ? value.toLocaleString("en") : String(+value.toPrecision(3));
const clip = (name, length) => name.length > length ? name.slice(0, length - 1) + "…" : name;

function showTip(event, content) {
  tip.textContent = content;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.min(event.clientX + 14, innerWidth - box.width - 8) + "px";
  tip.style.top = (event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18) + "px";
}
const hideTip = () => { tip.hidden = true; };
function explain(node, content) {
  node.addEventListener("pointermove", event => showTip(event, content));
  node.addEventListener("pointerleave", hideTip);
  node.addEventListener("click", event => showTip(event, content));
  node.explanation = content;
}
function makeWalkable(root) {  // the arrow keys go from mark to mark of a drawing and tell of each
  const marks = [...root.querySelectorAll("*")].filter(node => node.explanation);
  if (!marks.length) return;
  root.setAttribute("tabindex", "0");
  root.setAttribute("aria-label", `${root.getAttribute("aria-label") || "Chart"}. Arrow keys go from mark to mark.`);
  let at = -1;
  root.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hideTip();
    if (!step) return;
    event.preventDefault();
    if (at >= 0) marks[at].classList.remove("current");
    at = at < 0 ? 0 : (at + step + marks.length) % marks.length;
    marks[at].classList.add("current");
    const box = marks[at].getBoundingClientRect();
    showTip({ clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 }, marks[at].explanation);
  });
  root.addEventListener("blur", () => { if (at >= 0) marks[at].classList.remove("current"); hideTip(); });
}

// Shapes beside colors: a model is known by either.
const SHAPES = [
  r => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
  r => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  r => `M0 ${-1.25 * r}L${1.2 * r} ${0.9 * r}H${-1.2 * r}z`,
  r => `M0 ${-1.35 * r}L${1.35 * r} 0L0 ${1.35 * r}L${-1.35 * r} 0z`,
  r => `M0 ${1.25 * r}L${1.2 * r} ${-0.9 * r}H${-1.2 * r}z`,
  r => { const a = r / 3; return `M${-a} ${-r}h${2 * a}v${r - a}h${r - a}v${2 * a}h${a - r}v${r - a}h${-2 * a}v${a - r}h${a - r}v${-2 * a}h${r - a}z`; },
  r => `M${-1.2 * r} 0L${-0.6 * r} ${-r}H${0.6 * r}L${1.2 * r} 0L${0.6 * r} ${r}H${-0.6 * r}z`,
  r => `M${-r} ${-r}L${r} ${-r}L${-r} ${r}L${r} ${r}z`,
];
function mark(root, i, x, y, color, r = 4.5, attributes = {}) {
  return svg("path", { d: SHAPES[i % SHAPES.length](r), transform: `translate(${x} ${y})`, fill: color, stroke: "var(--card)", "stroke-width": 1.2, class: "mark", ...attributes }, root);
}
function swatch(parent, i) {
  const root = svg("svg", { viewBox: "-8 -8 16 16", class: "key", "aria-hidden": "true" }, parent);
  mark(root, i, 0, 0, modelColor(i), 5.5);
  return root;
}

// Ten colors that color-blind readers can tell apart (style.css; tests/report/test_colors.py measures it).
const RAMP = [[165, 0, 38], [244, 109, 67], [254, 224, 139], [102, 189, 180], [0, 88, 150]];
function densityColor(value) {
  if (value === null) return css("--rest");
  const at = Math.min(3.9999, Math.max(0, value * 4)), i = Math.floor(at), f = at - i;
  return `rgb(${RAMP[i].map((c, j) => Math.round(c + f * (RAMP[i + 1][j] - c))).join(",")})`;
}
function rgb(color) {  // [red, green, blue] of "#rrggbb" or "rgb(r,g,b)"
  return color.startsWith("#") ? [1, 3, 5].map(at => parseInt(color.slice(at, at + 2), 16)) : color.match(/\d+/g).map(Number);
}
const localAt = a => a.rld.temperatures.indexOf(Math.min(...a.rld.temperatures));
const globalAt = a => a.rld.temperatures.indexOf(Math.max(...a.rld.temperatures));

// ---- lines over a logarithmic axis ----------------------------------------------------------------------------

function niceStep(low, high, n = 5) {
  const raw = (high - low) / n, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= raw * (1 - 1e-9));
}
function niceTicks(low, high, n = 5) {
  const step = niceStep(low, high, n), ticks = [];
  for (let t = Math.ceil(low / step) * step; t <= high + 1e-9; t += step) ticks.push(+t.toFixed(10));
  return ticks;
}
function separate(labels, gap) {  // moves direct labels apart, keeping their order
  labels.sort((a, b) => a.y - b.y);
  for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + gap);
}
function ticksOnLog(xs, X) {  // labels that do not touch, the last value always among them
  const kept = [xs[xs.length - 1]];
  for (const x of xs.slice(0, -1).reverse()) if (X(kept[kept.length - 1]) - X(x) >= 34 && (x === xs[0] || X(x) - X(xs[0]) >= 34)) kept.push(x);
  return kept;
}
function figures(parent, captions) {  // all of them before any is drawn, so that each has its width
  return captions.map(caption => {
    const figure = html("figure", {}, null, parent);
    if (caption) html("figcaption", {}, caption, figure);
    return figure;
  });
}
function lines(parent, series, { xLabel, yLabel, title, named = several, fromZero = true, linear = false }) {
  if (!series.some(s => s.points.length)) return;
  const W = widthOf(parent), H = W < 420 ? 270 : 320, longest = Math.max(0, ...series.filter(s => named && (!s.dotted || s.named)).map(s => Math.min(W < 420 ? 14 : 24, s.name.length)));
  const left = 46, right = longest ? Math.min(0.34 * W, 30 + 7 * longest) : 26, top = 26, bottom = 44;
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title }, parent);
  const xs = [...new Set(series.flatMap(s => s.points.map(p => p.x)))].sort((a, b) => a - b);
  const ys = series.flatMap(s => s.points.flatMap(p => [p.y - (p.e || 0), p.y + (p.e || 0)]));
  const [least, most] = [Math.min(...ys), Math.max(...ys)], pad = Math.max(0.01, 0.05 * (most - least));
  const ends = [!fromZero ? least - pad : least > -0.04 * most ? 0 : least, fromZero ? Math.max(most, 0.05) : most + pad], step = niceStep(...ends);
  const low = Math.floor(ends[0] / step + 1e-9) * step, high = Math.ceil(ends[1] / step - 1e-9) * step;
  const scale = linear ? x => x : Math.log, [x0, x1] = [scale(xs[0]), scale(xs[xs.length - 1])];
  const X = x => x1 > x0 ? left + (scale(x) - x0) / (x1 - x0) * (W - left - right) : (left + W - right) / 2;
  const Y = y => H - bottom - (y - low) / (high - low) * (H - top - bottom);
  for (const t of niceTicks(low, high)) {
    svg("line", { x1: left, x2: W - right, y1: Y(t), y2: Y(t), class: "axis" }, root);
    text(root, left - 8, Y(t) + 4, String(t), { "text-anchor": "end" });
  }
  for (const x of ticksOnLog(xs, X)) text(root, X(x), H - bottom + 18, x.toLocaleString("en", { maximumSignificantDigits: 3 }), { "text-anchor": "middle" });
  text(root, (left + W - right) / 2, H - 6, xLabel, { "text-anchor": "middle" });
  text(root, left - 34, 11, yLabel, {});
  const names = [];
  series.forEach((s, which) => {
    const path = s.points.map((p, i) => `${i ? "L" : "M"}${X(p.x)} ${Y(p.y)}`).join("");
    svg("path", { d: path, class: "curve", fill: "none", stroke: s.color, "stroke-width": s.dotted ? 1.5 : 2.5, "stroke-dasharray": s.dotted ? "2 4" : "none", "stroke-linejoin": "round" }, root);
    for (const p of s.points) {
      if (s.dotted) continue;
      if (p.e) svg("line", { x1: X(p.x), x2: X(p.x), y1: Y(p.y - p.e), y2: Y(p.y + p.e), stroke: s.color, "stroke-width": 1.5 }, root);
      mark(root, which, X(p.x), Y(p.y), s.color, s.points.length > 30 ? 3 : 4.5);
      explain(svg("circle", { cx: X(p.x), cy: Y(p.y), r: 12, class: "reach" }, root), `${named ? s.name + "\n" : ""}${p.label}`);
    }
    const end = s.points.reduce((a, b) => b.x > a.x ? b : a);
    if (named && (!s.dotted || s.named)) names.push({ y: Y(end.y), s, which });
  });
  separate(names, Math.min(16, (H - 12) / Math.max(1, names.length)));
  const excess = names.length ? Math.max(0, names[names.length - 1].y - (H - 6)) : 0;
  for (const name of names) name.y = Math.max(8, name.y - excess);
  separate(names, Math.min(16, (H - 12) / Math.max(1, names.length)));
  for (const { y, s, which } of names) {
    if (!s.dotted) mark(root, which, W - right + 14, y, s.color);
    text(root, W - right + 22, y + 4, clip(s.name, W < 420 ? 14 : 24), { class: "strong" });
  }
  makeWalkable(root);
}
