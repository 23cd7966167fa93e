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
const modelColor = i => `var(--m${i % 5})`;
const chart = name => document.querySelector(`[data-chart="${name}"]`);
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
}

// Ten hues that stay apart for color-blind readers (after Tableau 10), then steps of the golden angle.
const HUES = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#ff9da7", "#8b8f97"];
const groupColor = (i, n) => i < 0 ? "#8b8f97" : n <= 10 ? HUES[i] : `hsl(${(i * 137.508) % 360} ${60 + (i % 3) * 12}% ${48 + (i % 4) * 6}%)`;
const RAMP = [[165, 0, 38], [244, 109, 67], [254, 224, 139], [102, 189, 180], [0, 88, 150]];
function densityColor(value) {
  if (value === null) return "#8b8f97";
  const at = Math.min(3.9999, Math.max(0, value * 4)), i = Math.floor(at), f = at - i;
  return `rgb(${RAMP[i].map((c, j) => Math.round(c + f * (RAMP[i + 1][j] - c))).join(",")})`;
}

// ---- lines over a logarithmic axis ----------------------------------------------------------------------------

function niceTicks(low, high, n = 5) {
  const raw = (high - low) / n, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= raw);
  const ticks = [];
  for (let t = Math.ceil(low / step) * step; t <= high + 1e-9; t += step) ticks.push(+t.toFixed(10));
  return ticks;
}
function separate(labels, gap) {  // moves direct labels apart, keeping their order
  labels.sort((a, b) => a.y - b.y);
  for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + gap);
}
function lines(parent, series, { xLabel, yLabel, title, named = several, fromZero = true, linear = false, right: room = 168, W = 540 }) {
  const H = 320, left = 46, right = !named ? 26 : W < 540 ? 120 : room, top = 14, bottom = 44;
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title }, parent);
  const xs = [...new Set(series.flatMap(s => s.points.map(p => p.x)))].sort((a, b) => a - b);
  const ys = series.flatMap(s => s.points.flatMap(p => [p.y - (p.e || 0), p.y + (p.e || 0)]));
  const [least, most] = [Math.min(...ys), Math.max(...ys)], pad = Math.max(0.01, 0.05 * (most - least));
  const low = fromZero ? Math.min(0, least) : least - pad, high = fromZero ? Math.max(most, 0.05) * 1.04 : most + pad;
  const scale = linear ? x => x : Math.log, [x0, x1] = [scale(xs[0]), scale(xs[xs.length - 1])];
  const X = x => x1 > x0 ? left + (scale(x) - x0) / (x1 - x0) * (W - left - right) : (left + W - right) / 2;
  const Y = y => H - bottom - (y - low) / (high - low) * (H - top - bottom);
  for (const t of niceTicks(low, high)) {
    svg("line", { x1: left, x2: W - right, y1: Y(t), y2: Y(t), class: "axis" }, root);
    text(root, left - 8, Y(t) + 4, String(t), { "text-anchor": "end" });
  }
  let last = -99;
  for (const x of xs) {
    if (X(x) - last < 34) continue;
    last = X(x);
    text(root, X(x), H - bottom + 18, x.toLocaleString("en", { maximumSignificantDigits: 3 }), { "text-anchor": "middle" });
  }
  text(root, (left + W - right) / 2, H - 6, xLabel, { "text-anchor": "middle" });
  text(root, left - 34, top - 6, yLabel, {});
  const names = [];
  for (const s of series) {
    const path = s.points.map((p, i) => `${i ? "L" : "M"}${X(p.x)} ${Y(p.y)}`).join("");
    svg("path", { d: path, fill: "none", stroke: s.color, "stroke-width": s.dotted ? 1.5 : 2.5, "stroke-dasharray": s.dotted ? "2 4" : "none", "stroke-linejoin": "round" }, root);
    for (const p of s.points) {
      if (s.dotted) continue;
      if (p.e) {
        svg("line", { x1: X(p.x), x2: X(p.x), y1: Y(p.y - p.e), y2: Y(p.y + p.e), stroke: s.color, "stroke-width": 1.5 }, root);
      }
      svg("circle", { cx: X(p.x), cy: Y(p.y), r: 4.5, fill: s.color, stroke: "var(--card)", "stroke-width": 1.5 }, root);
      explain(svg("circle", { cx: X(p.x), cy: Y(p.y), r: 13, fill: "transparent" }, root), `${named ? s.name + "\n" : ""}${p.label}`);
    }
    const end = s.points.reduce((a, b) => b.x > a.x ? b : a);
    if (named && (!s.dotted || s.named)) names.push({ y: Y(end.y) + 4, s });
  }
  separate(names, 16);
  for (const { y, s } of names) text(root, W - right + 10, y, clip(s.name, 24), { class: "strong", style: `fill:${s.color}` });
}
