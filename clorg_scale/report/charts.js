"use strict";
(() => {
const { analyses } = JSON.parse(document.getElementById("data").textContent);
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
const place = name => document.querySelector(`[data-chart="${name}"]`);
const short = value => Number.isInteger(value) ? value.toLocaleString("en") : String(+value.toPrecision(3));
const clip = (name, length) => name.length > length ? name.slice(0, length - 1) + "…" : name;

function say(event, content) {
  tip.textContent = content;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.min(event.clientX + 14, innerWidth - box.width - 8) + "px";
  tip.style.top = (event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18) + "px";
}
const hush = () => { tip.hidden = true; };
function explain(node, content) {
  node.addEventListener("pointermove", event => say(event, content));
  node.addEventListener("pointerleave", hush);
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
function lines(parent, series, { xLabel, yLabel, title, named = several, fromZero = true, W = 540 }) {
  const H = 320, left = 46, right = !named ? 26 : W < 540 ? 120 : 168, top = 14, bottom = 44;
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title }, parent);
  const xs = [...new Set(series.flatMap(s => s.points.map(p => p.x)))].sort((a, b) => a - b);
  const ys = series.flatMap(s => s.points.flatMap(p => [p.y - (p.e || 0), p.y + (p.e || 0)]));
  const [least, most] = [Math.min(...ys), Math.max(...ys)], pad = Math.max(0.01, 0.05 * (most - least));
  const low = fromZero ? Math.min(0, least) : least - pad, high = fromZero ? Math.max(most, 0.05) * 1.04 : most + pad;
  const [x0, x1] = [Math.log(xs[0]), Math.log(xs[xs.length - 1])];
  const X = x => x1 > x0 ? left + (Math.log(x) - x0) / (x1 - x0) * (W - left - right) : (left + W - right) / 2;
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

function drawRld() {
  const series = analyses.map((a, i) => ({
    name: a.name, color: modelColor(i),
    points: a.rld.temperatures.map((T, t) => ({
      x: T, y: a.rld.values[t], e: (a.rld.details.interval || 1.96) * a.rld.stderr[t],
      label: `T = ${T}\nRLD ${a.rld.values[t].toFixed(4)}${a.rld.stderr[t] ? " ± " + a.rld.stderr[t].toFixed(4) : ""}\nshuffled labels ${a.rld.null_mean[t].toFixed(4)}`,
    })).sort((p, q) => p.x - q.x),
  }));
  const null0 = analyses[0].rld;
  series.push({ name: "shuffled labels", color: "var(--soft)", dotted: true, points: null0.temperatures.map((x, t) => ({ x, y: null0.null_mean[t] })).sort((p, q) => p.x - q.x) });
  lines(place("rld"), series, { xLabel: "temperature T (small: near neighbors only)", yLabel: "RLD", title: "Relative Local Density against temperature" });
}
function drawChi() {
  const series = analyses.map((a, i) => ({
    name: a.name, color: modelColor(i),
    points: Object.entries(a.class_homogeneity).map(([k, y]) => {
      const e = 1.96 * (a.class_homogeneity_stderr[k] || 0);
      return { x: +k, y, e, label: `k = ${(+k).toLocaleString("en")}\nCHI ${y.toFixed(4)}${e ? " ± " + (e / 1.96).toFixed(4) : ""}` };
    }),
  }));
  lines(place("chi"), series, { xLabel: "neighbors k", yLabel: "CHI", title: "Class homogeneity against the number of neighbors" });
}

// ---- spectrum ---------------------------------------------------------------------------------------------------

function drawSpectrum() {
  const parent = place("spectrum"), having = analyses.map((a, i) => ({ a, i })).filter(({ a }) => a.spectrum && a.spectrum.eigenvalues.length);
  if (!parent || !having.length) return;
  const series = (values, word) => having.map(({ a, i }) => ({
    name: a.name, color: modelColor(i),
    points: values(a.spectrum).map((y, j) => ({ x: j + 1, y, label: `${word} ${j + 1}\n${y.toFixed(4)}` })),
  }));
  const options = { xLabel: "number of the eigenvector", W: 540 };
  lines(html("figure", {}, null, parent), series(s => s.eigenvalues, "eigenvalue"), { ...options, yLabel: "eigenvalue", title: "Leading eigenvalues of the affinity graph", fromZero: false });
  lines(html("figure", {}, null, parent), series(s => s.class_share, "eigenvectors 1 to"), { ...options, yLabel: "share", title: "Share of the class indicators in the first eigenvectors" });
}

// ---- probes ---------------------------------------------------------------------------------------------------

function drawProbes() {
  const parent = place("probes");
  if (!parent) return;
  const names = [...new Set(analyses.flatMap(a => a.probes.map(p => p.name)))];
  const step = 20 + 17 * analyses.length, W = 540, left = 132, right = 110, top = 8, H = top + names.length * step + 40;
  const all = analyses.flatMap(a => a.probes.flatMap(p => p.accuracy_interval.concat(p.accuracy)));
  const pad = Math.max(0.005, (Math.max(...all) - Math.min(...all)) * 0.06);
  const low = Math.max(0, Math.min(...all) - pad), high = Math.min(1, Math.max(...all) + pad);
  const X = v => left + (v - low) / (high - low) * (W - left - right);
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Accuracy of each probe" }, parent);
  for (const t of niceTicks(low, high, 4)) {
    svg("line", { x1: X(t), x2: X(t), y1: top, y2: H - 36, class: "axis" }, root);
    text(root, X(t), H - 20, String(t), { "text-anchor": "middle" });
  }
  text(root, (left + W - right) / 2, H - 3, "accuracy", { "text-anchor": "middle" });
  text(root, W - right + 14, top + 4, "parameters", {});
  names.forEach((name, row) => {
    const middle = top + 12 + row * step + step / 2 - 6;
    text(root, left - 12, middle + 4, titles[name] || name, { "text-anchor": "end", class: "strong" });
    analyses.forEach((a, i) => {
      const p = a.probes.find(p => p.name === name);
      if (!p) return;
      const y = middle + (i - (analyses.length - 1) / 2) * 17;
      svg("line", { x1: X(p.accuracy_interval[0]), x2: X(p.accuracy_interval[1]), y1: y, y2: y, stroke: modelColor(i), "stroke-width": 3, "stroke-linecap": "round", opacity: .45 }, root);
      svg("circle", { cx: X(p.accuracy), cy: y, r: 5, fill: modelColor(i) }, root);
      text(root, W - right + 14, y + 4, p.n_parameters.toLocaleString("en"), {});
      explain(svg("rect", { x: left, y: y - 9, width: W - left - right, height: 18, fill: "transparent" }, root),
        `${titles[name] || name}${several ? ", " + a.name : ""}\naccuracy ${p.accuracy.toFixed(4)} [${p.accuracy_interval.map(v => v.toFixed(4)).join(", ")}]\n${p.n_parameters.toLocaleString("en")} parameters, ${p.seconds.toFixed(1)} s`);
    });
  });
}

function drawStudies() {
  const parent = place("study");
  if (!parent) return;
  const order = Object.keys(titles), color = name => groupColor(order.indexOf(name), order.length);
  for (const a of analyses.filter(a => a.probe_study.length)) {
    const own = { k: a.settings.k, temperature: a.settings.affinity_temperature, label_fraction: 1 };
    const at = (row, name) => row[name] === null || row[name] === own[name];
    const seriesOver = (x, ...fixed) => {
      const rows = a.probe_study.filter(row => fixed.every(name => at(row, name)));
      const xs = rows.map(row => row[x]).filter(v => v !== null), ends = [Math.min(...xs), Math.max(...xs)];
      return order.filter(name => rows.some(row => row.score.name === name)).map(name => {
        const found = rows.filter(row => row.score.name === name), flat = found[0][x] === null;
        const point = (row, value) => ({
          x: value, y: row.score.accuracy, e: 0,
          label: `${short(value)}: accuracy ${row.score.accuracy.toFixed(4)} [${row.score.accuracy_interval.map(v => v.toFixed(4)).join(", ")}]`,
        });
        const points = flat ? ends.map(value => point(found[0], value)) : found.map(row => point(row, row[x]));
        return { name: titles[name], color: color(name), dotted: flat, named: true, points: points.sort((p, q) => p.x - q.x) };
      });
    };
    for (const [title, x, fixed] of [
      ["share of the labels", "label_fraction", ["k", "temperature"]],
      ["neighbors k", "k", ["label_fraction", "temperature"]],
      ["temperature T of the graph", "temperature", ["label_fraction", "k"]],
    ]) {
      const figure = html("figure", {}, null, parent);
      html("figcaption", {}, `By ${title}${several ? " · " + a.name : ""}`, figure);
      lines(figure, seriesOver(x, ...fixed), { xLabel: title, yLabel: "accuracy", title: `Accuracy by ${title}`, named: true, fromZero: false, W: 370 });
    }
  }
}

// ---- class by class -------------------------------------------------------------------------------------------

function drawClasses() {
  const controls = document.querySelector('[data-controls="classes"]'), parent = place("classes");
  const temperatures = analyses[0].rld.temperatures;
  const state = { t: temperatures.length - 1, what: "purity", by: "value" };
  const select = (label, options, key) => {
    const box = html("select", { "aria-label": label }, null, controls);
    for (const [value, name] of options) html("option", { value }, name, box);
    box.value = state[key];
    box.addEventListener("change", () => { state[key] = key === "t" ? +box.value : box.value; fill(); });
  };
  select("quantity", [["purity", "purity"], ["per_class", "contribution"]], "what");
  select("temperature", temperatures.map((T, t) => [t, `T = ${T}`]), "t");
  select("order", [["value", "lowest first"], ["highest", "highest first"], ["name", "by name"], ["size", "largest class first"]], "by");
  const table = html("table", { class: "bars" }, null, parent), body = html("tbody", {}, null, table);
  function fill() {
    const value = (a, c) => (a.rld[state.what][state.t] || [])[c] ?? null;
    const first = analyses[0], order = first.classes.map((_, c) => c);
    const compare = { value: (p, q) => value(first, p) - value(first, q), highest: (p, q) => value(first, q) - value(first, p),
      name: (p, q) => first.classes[p].localeCompare(first.classes[q], "en", { numeric: true }), size: (p, q) => first.class_sizes[q] - first.class_sizes[p] };
    order.sort((p, q) => compare[state.by](p, q) || p - q);
    const most = state.what === "purity" ? 1 : Math.max(1e-9, ...analyses.flatMap(a => first.classes.map((_, c) => value(a, c) || 0)));
    body.replaceChildren();
    for (const c of order) {
      const row = html("tr", {}, null, body);
      html("td", {}, clip(first.classes[c], 40), row);
      const cell = html("td", { style: "width:62%" }, null, row), track = html("div", { class: "track" }, null, cell);
      analyses.forEach((a, i) => {
        const v = value(a, c), height = 14 / analyses.length;
        html("i", { style: `width:${Math.max(0, (v || 0) / most * 100)}%;top:${i * height}px;height:${height}px;background:${modelColor(i)}` }, null, track);
      });
      html("td", {}, analyses.map(a => { const v = value(a, c); return v === null ? "–" : v.toFixed(3); }).join("  "), row);
      explain(row, `${first.classes[c]}\n${first.class_sizes[c].toLocaleString("en")} points\n` + analyses.map(a => `${several ? a.name + ": " : ""}${(value(a, c) ?? NaN).toFixed(4)}`).join("\n"));
    }
  }
  fill();
}

// ---- classes and communities ----------------------------------------------------------------------------------

function drawCommunities() {
  const MOST_ROWS = 40, MOST_COLUMNS = 24;
  for (const a of analyses) {
    const figure = html("figure", {}, null, place("communities"));
    const counts = a.communities.class_by_community, nc = counts.length, nm = a.communities.sizes.length;
    const rows = a.class_sizes.map((size, c) => [size, c]).sort((p, q) => q[0] - p[0]).slice(0, MOST_ROWS).map(p => p[1]);
    const columns = Math.min(nm, MOST_COLUMNS), rest = nm > columns;
    const share = c => {
      const total = counts[c].reduce((x, y) => x + y, 0) || 1;
      const row = counts[c].slice(0, columns).map(v => v / total);
      if (rest) row.push(counts[c].slice(columns).reduce((x, y) => x + y, 0) / total);
      return row;
    };
    const shares = new Map(rows.map(c => [c, share(c)]));
    const home = c => shares.get(c).indexOf(Math.max(...shares.get(c)));
    rows.sort((p, q) => home(p) - home(q) || shares.get(q)[home(q)] - shares.get(p)[home(p)]);
    html("figcaption", {}, several ? a.name : `${nm.toLocaleString("en")} communities`, figure);
    const cell = 24, left = 120, top = 6, n = columns + (rest ? 1 : 0), H = rows.length * (rows.length > 20 ? 16 : cell), h = H / rows.length;
    const W = left + n * cell + 40;
    const root = svg("svg", { viewBox: `0 0 ${W} ${H + top + 34}`, role: "img", "aria-label": "Share of each class in each community", style: `max-width:${W * 1.25}px` }, figure);
    rows.forEach((c, r) => {
      text(root, left - 8, top + r * h + h / 2 + 4, clip(a.classes[c], 17), { "text-anchor": "end" });
      shares.get(c).forEach((v, m) => {
        const x = left + m * cell + (rest && m === columns ? 8 : 0);
        const box = svg("rect", { x, y: top + r * h, width: cell - 1.5, height: h - 1.5, rx: 2.5, style: `fill:rgba(var(--heat), ${(0.05 + 0.95 * v).toFixed(3)})` }, root);
        const which = rest && m === columns ? `the other ${(nm - columns).toLocaleString("en")} communities` : `community ${m} (${a.communities.sizes[m].toLocaleString("en")} points)`;
        explain(box, `${a.classes[c]}\n${(v * 100).toFixed(1)} % in ${which}`);
      });
    });
    for (let m = 0; m < columns; m += columns > 12 ? 2 : 1) text(root, left + m * cell + cell / 2, top + H + 16, String(m), { "text-anchor": "middle" });
    if (rest) text(root, left + columns * cell + 8 + cell / 2, top + H + 16, "rest", { "text-anchor": "middle" });
    text(root, left + n * cell / 2, top + H + 32, "community, largest first", { "text-anchor": "middle" });
    if (nc > rows.length) html("p", { class: "note" }, `The ${rows.length} largest of ${nc.toLocaleString("en")} classes.`, figure);
  }
}

// ---- map ------------------------------------------------------------------------------------------------------

function drawMaps() {
  const maps = analyses.map((a, i) => ({ a, i, p: a.point_map })).filter(m => m.p.index.length);
  const section = document.getElementById("map");
  if (!maps.length) { section.hidden = true; return; }
  const state = { by: "class", single: null };
  const controls = document.querySelector('[data-controls="map"]'), legend = document.querySelector('[data-legend="map"]');
  const names = { class: "class", community: "community", density: "local density" };
  const buttons = Object.entries(names).map(([by, name]) => {
    const button = html("button", { type: "button", "data-by": by, "aria-pressed": by === state.by }, name, controls);
    button.addEventListener("click", () => {
      state.by = by; state.single = null;
      for (const other of buttons) other.setAttribute("aria-pressed", other === button);
      relabel(); maps.forEach(draw);
    });
    return button;
  });
  const groups = m => state.by === "community" ? m.p.community : m.p.class_code;
  const nGroups = m => state.by === "community" ? m.a.communities.n_communities : m.a.classes.length;
  function colorOf(m, j) {
    return state.by === "density" ? densityColor(m.p.local_density[j]) : groupColor(groups(m)[j], nGroups(m));
  }
  for (const m of maps) {
    const figure = html("figure", {}, null, place("map"));
    if (several) html("figcaption", {}, m.a.name, figure);
    m.canvas = html("canvas", { role: "img", tabindex: "0", "aria-label": `Map of ${m.p.index.length} points of ${m.a.name}` }, null, figure);
    const [xs, ys] = [m.p.x, m.p.y];
    const bound = (values, f) => values.reduce((u, v) => f(u, v));
    const [a, b, c, d] = [bound(xs, Math.min), bound(xs, Math.max), bound(ys, Math.min), bound(ys, Math.max)];
    m.box = { x: (a + b) / 2, y: (c + d) / 2, size: Math.max(b - a, d - c, 1e-9) * 1.06 };
    m.view = { ...m.box };
    m.order = Uint32Array.from(xs.keys());
    for (let j = m.order.length - 1, seed = 7; j > 0; j--) {  // no class always drawn on top
      seed = (seed * 1103515245 + 12345) % 2147483648;
      const k = seed % (j + 1);
      [m.order[j], m.order[k]] = [m.order[k], m.order[j]];
    }
    interact(m);
  }
  function project(m) {
    const width = m.canvas.clientWidth, height = m.height, scale = Math.min(width, height) / m.view.size;
    return { X: x => width / 2 + (x - m.view.x) * scale, Y: y => height / 2 - (y - m.view.y) * scale, scale, width, height };
  }
  function draw(m) {
    const ratio = Math.min(2, devicePixelRatio || 1), width = m.canvas.clientWidth;
    m.height = Math.round(width * (several ? 0.86 : 0.58));
    m.canvas.width = width * ratio; m.canvas.height = m.height * ratio; m.canvas.style.height = m.height + "px";
    const g = m.canvas.getContext("2d"), { X, Y } = project(m);
    g.scale(ratio, ratio);
    const r = Math.max(1.3, Math.min(4.5, 150 / Math.sqrt(m.order.length) * Math.sqrt(m.box.size / m.view.size)));
    const dim = css("--line"), group = groups(m), single = state.single;
    for (const front of single === null ? [true] : [false, true]) {
      for (const j of m.order) {
        if (single !== null && (group[j] === single) !== front) continue;
        g.fillStyle = front ? colorOf(m, j) : dim;
        g.globalAlpha = front ? .82 : .5;
        g.beginPath(); g.arc(X(m.p.x[j]), Y(m.p.y[j]), r, 0, 6.3); g.fill();
      }
    }
    m.canvas.dataset.drawn = `${state.by}:${single}`;
  }
  function nearest(m, event) {
    const box = m.canvas.getBoundingClientRect(), { X, Y } = project(m);
    let best = -1, closest = 144;
    for (let j = 0; j < m.p.x.length; j++) {
      if (state.single !== null && groups(m)[j] !== state.single) continue;
      const d = (X(m.p.x[j]) - event.clientX + box.left) ** 2 + (Y(m.p.y[j]) - event.clientY + box.top) ** 2;
      if (d < closest) { closest = d; best = j; }
    }
    return best;
  }
  function interact(m) {
    let drag = null;
    m.canvas.addEventListener("pointerdown", event => { drag = [event.clientX, event.clientY, m.view.x, m.view.y]; m.canvas.setPointerCapture(event.pointerId); });
    m.canvas.addEventListener("pointerup", () => { drag = null; });
    m.canvas.addEventListener("dblclick", () => { m.view = { ...m.box }; draw(m); });
    m.canvas.addEventListener("pointerleave", hush);
    m.canvas.addEventListener("wheel", event => {
      event.preventDefault();
      const box = m.canvas.getBoundingClientRect(), { scale, width, height } = project(m), zoom = Math.exp(event.deltaY * 0.0015);
      const x = m.view.x + (event.clientX - box.left - width / 2) / scale, y = m.view.y - (event.clientY - box.top - height / 2) / scale;
      const size = Math.min(m.box.size, Math.max(m.box.size / 200, m.view.size * zoom)), f = size / m.view.size;
      m.view = { x: x + (m.view.x - x) * f, y: y + (m.view.y - y) * f, size };
      draw(m);
    }, { passive: false });
    m.canvas.addEventListener("pointermove", event => {
      if (drag && event.buttons) {
        const { scale } = project(m);
        m.view.x = drag[2] - (event.clientX - drag[0]) / scale; m.view.y = drag[3] + (event.clientY - drag[1]) / scale;
        hush(); draw(m);
        return;
      }
      const j = nearest(m, event);
      if (j < 0) { hush(); return; }
      const code = m.p.class_code[j], density = m.p.local_density[j];
      say(event, `${code < 0 ? "unlabelled" : m.a.classes[code]}\nrow ${m.p.index[j].toLocaleString("en")} · community ${m.p.community[j]}\nlocal density ${density === null ? "–" : density.toFixed(3)}`);
    });
  }
  function relabel() {
    legend.replaceChildren();
    if (state.by === "density") {
      const ramp = html("div", { class: "ramp" }, null, legend);
      html("span", {}, "0: surrounded by other classes", ramp);
      html("i", { style: `background:linear-gradient(90deg, ${[0, .25, .5, .75, .999].map(densityColor).join(",")})` }, null, ramp);
      html("span", {}, `1: by its own (T = ${maps[0].p.local_density_temperature})`, ramp);
      return;
    }
    const first = maps[0], n = Math.min(200, state.by === "class" ? first.a.classes.length : Math.max(...maps.map(nGroups)));
    for (let i = 0; i < n; i++) {
      const button = html("button", { type: "button", "aria-pressed": "false" }, null, legend);
      html("span", { class: "swatch", style: `background:${groupColor(i, Math.max(...maps.map(nGroups)))}` }, null, button);
      button.append(state.by === "class" ? clip(first.a.classes[i], 40) : `community ${i}`);
      button.addEventListener("click", () => {
        state.single = state.single === i ? null : i;
        for (const other of legend.children) other.setAttribute("aria-pressed", other === button && state.single !== null);
        maps.forEach(draw);
      });
    }
  }
  relabel();
  maps.forEach(draw);
  let wait = 0;
  addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(() => maps.forEach(draw), 80); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => maps.forEach(draw));
  addEventListener("beforeprint", () => maps.forEach(draw));
}

// ---- tables and download --------------------------------------------------------------------------------------

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((p, q) => p.cells[column].textContent.localeCompare(q.cells[column].textContent, "en", { numeric: true }) * (up ? 1 : -1));
      table.tBodies[0].append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}
function download() {
  const content = several ? analyses : analyses[0];
  const link = html("a", { href: URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" })), download: several ? "comparison.json" : "analysis.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

drawRld(); drawChi(); drawSpectrum(); drawProbes(); drawStudies(); drawClasses(); drawCommunities(); drawMaps();
document.querySelectorAll("table.sortable").forEach(makeSortable);
document.getElementById("download").addEventListener("click", download);
document.documentElement.dataset.ready = "true";
})();
