// The classes: a table, their local against their global density, and the pairs that mix.

function drawClasses() {
  const controls = document.querySelector('[data-controls="classes"]'), parent = chart("classes"), first = analyses[0];
  const temperatures = first.rld.temperatures, state = { t: localAt(first), what: "purity" };
  const select = (label, options, key) => {
    const box = html("select", { "aria-label": label }, null, controls);
    for (const [value, name] of options) html("option", { value }, name, box);
    box.value = state[key];
    box.addEventListener("change", () => { state[key] = key === "t" ? +box.value : box.value; fill(); });
  };
  select("quantity", [["purity", "purity"], ["per_class", "contribution"]], "what");
  select("temperature", temperatures.map((T, t) => [t, `T = ${T}`]), "t");
  const mixing = pageData.mixing, table = newTable(parent, ["class", "points", ...analyses.map(a => several ? clip(a.name, 22) : "purity"), ...mixing.map((_, i) => several ? `mixes with, ${clip(analyses[i].name, 22)}` : "mixes most with")].slice(0, several && analyses.length > 3 ? 2 + analyses.length : undefined));
  table.classList.add("bars");
  let refresh = null;
  function fill() {
    const value = (a, c) => {
      const t = a.rld.temperatures.indexOf(temperatures[state.t]);
      return (a.rld[state.what][t] || [])[c] ?? null;
    };
    const most = state.what === "purity" ? 1 : Math.max(1e-9, ...analyses.map(a => first.classes.reduce((m, _, c) => Math.max(m, value(a, c) || 0), 0)));
    const body = table.tBodies[0];
    body.replaceChildren();
    if (!several) (table.tHead.rows[0].cells[2].querySelector("button") || table.tHead.rows[0].cells[2]).textContent = state.what === "purity" ? "purity" : "contribution";
    const order = first.classes.map((_, c) => c).sort((p, q) => (value(first, p) ?? 2) - (value(first, q) ?? 2) || p - q);
    for (const c of order) {
      const row = html("tr", { "data-class": c }, null, body), name = html("th", { scope: "row" }, null, row);
      html("button", { type: "button", class: "plain", title: `${first.classes[c]}: show on the map` }, clip(first.classes[c], 40), name).addEventListener("click", () => chooseClass(c));
      html("td", { "data-value": first.class_sizes[c] }, first.class_sizes[c].toLocaleString("en"), row);
      analyses.forEach((a, i) => {
        const v = value(a, c), cell = html("td", { class: "bar", "data-value": v ?? "–" }, null, row);
        html("i", { style: `width:${Math.max(0, (v || 0) / most * 100)}%;background:${modelColor(i)}` }, null, html("div", { class: "track" }, null, cell));
        html("span", {}, v === null ? "–" : v.toFixed(3), cell);
      });
      if (table.tHead.rows[0].cells.length > 2 + analyses.length) mixing.forEach(m => {
        const partner = m.partner[c];
        html("td", { "data-value": partner < 0 ? "–" : `${(1 - m.share[c]).toFixed(4)}` }, partner < 0 ? "–" : `${clip(first.classes[partner], 28)} ${(100 * m.share[c]).toFixed(1)} %`, row);
      });
    }
    if (refresh) refresh();
  }
  fill();
  refresh = makeTable(table, { caption: "Classes", onRow: row => highlightClass(row ? Number(row.dataset.class) : -1) });
}

let highlightClass = () => {};

function drawDensity() {
  const parent = chart("density"), n = analyses[0].classes.length, W = widthOf(parent), H = Math.min(W < 420 ? 300 : 340, W), left = 46, right = 20, top = 26, bottom = 44;
  const points = analyses.flatMap((a, i) => a.classes.map((name, c) => ({ name, c, i, x: (a.rld.purity[globalAt(a)] || [])[c] ?? null, y: (a.rld.purity[localAt(a)] || [])[c] ?? null }))).filter(p => p.x !== null && p.y !== null);
  if (!points.length) return;
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Local against global density of each class" }, parent);
  const domain = values => {  // from tick to tick
    const [low, high] = values.reduce(([p, q], v) => [Math.min(p, v), Math.max(q, v)], [Infinity, -Infinity]), step = niceStep(low, Math.max(high, low + 0.01), W < 420 ? 4 : 5);
    return [Math.max(0, Math.floor(low / step + 1e-9) * step), Math.ceil(Math.max(high, low + 0.01) / step - 1e-9) * step];
  };
  const [[x0, x1], [y0, y1]] = [domain(points.map(p => p.x)), domain(points.map(p => p.y))];
  const X = x => left + (x - x0) / (x1 - x0) * (W - left - right), Y = y => H - bottom - (y - y0) / (y1 - y0) * (H - top - bottom);
  for (const t of niceTicks(y0, y1)) {
    svg("line", { x1: left, x2: W - right, y1: Y(t), y2: Y(t), class: "axis" }, root);
    text(root, left - 8, Y(t) + 4, String(t), { "text-anchor": "end" });
  }
  for (const t of niceTicks(x0, x1, W < 420 ? 4 : 5)) text(root, X(t), H - bottom + 18, String(t), { "text-anchor": "middle" });
  text(root, (left + W - right) / 2, H - 6, `purity at T = ${analyses[0].rld.temperatures[globalAt(analyses[0])]}: across the whole set`, { "text-anchor": "middle" });
  text(root, left - 34, 11, `purity at T = ${analyses[0].rld.temperatures[localAt(analyses[0])]}: among near neighbors`, {});
  const many = points.length > 200, nodes = new Map();
  for (const p of points) {
    const node = mark(root, p.i, X(p.x), Y(p.y), modelColor(p.i), many ? 3 : 5, { "fill-opacity": many ? 0.6 : 0.9 });
    node.addEventListener("click", () => chooseClass(p.c));
    explain(node, `${p.name}${several ? "\n" + analyses[p.i].name : ""}\nlocally ${p.y.toFixed(3)}, globally ${p.x.toFixed(3)}`);
    nodes.set(p.c, [...(nodes.get(p.c) || []), node]);
  }
  const boxes = [], far = p => Math.hypot(X(p.x) - (left + W - right) / 2, Y(p.y) - (H + top - bottom) / 2), order = points.filter(p => p.i === 0).sort((p, q) => far(q) - far(p));
  for (const p of order) {  // names that do not touch, those at the rim first
    const name = clip(p.name, 18), wide = 7 * name.length, at = X(p.x) + 9 + wide > W ? -1 : 1, box = { x: X(p.x) + at * 9, y: Y(p.y), wide };
    const range = b => at > 0 ? [b.x, b.x + b.wide] : [b.x - b.wide, b.x];
    if (boxes.length >= 14 || boxes.some(b => Math.abs(b.y - box.y) < 14 && b.range[0] < range(box)[1] && range(box)[0] < b.range[1])) continue;
    boxes.push({ ...box, range: range(box) });
    text(root, box.x, box.y + 4, name, { "text-anchor": at > 0 ? "start" : "end", class: "halo" });
  }
  highlightClass = c => {
    root.querySelectorAll(".current").forEach(node => node.classList.remove("current"));
    for (const node of nodes.get(c) || []) { node.classList.add("current"); if (n > 1) node.parentNode.append(node); }
  };
  makeWalkable(root);
}

function drawPairs() {
  const parent = chart("pairs"), names = analyses[0].classes;
  if (!parent) return;
  const rows = pageData.mixing.flatMap((m, i) => m.pairs.map(pair => ({ i, pair })));
  if (!rows.length) { html("p", { class: "note" }, "No two classes share anything.", parent); return; }
  const table = newTable(parent, [...(several ? ["model"] : []), "class", "other class", "share of the class in the other", "share of the other in the class"]);
  rows.sort((p, q) => q.pair[2] + q.pair[3] - p.pair[2] - p.pair[3]);
  for (const { i, pair: [a, b, ab, ba] } of rows) {
    const row = html("tr", { "data-class": a }, null, table.tBodies[0]);
    if (several) html("td", {}, analyses[i].name, row);
    for (const c of [a, b]) html("button", { type: "button", class: "plain", title: `${names[c]}: show on the map` }, clip(names[c], 40), html("td", {}, null, row)).addEventListener("click", () => chooseClass(c));
    for (const v of [ab, ba]) {
      const cell = html("td", { class: "bar", "data-value": v }, null, row);
      html("i", { style: `width:${100 * v}%;background:${modelColor(i)}` }, null, html("div", { class: "track" }, null, cell));
      html("span", {}, `${(100 * v).toFixed(1)} %`, cell);
    }
  }
  makeTable(table, { caption: "Pairs of classes that mix", first: 12, onRow: row => highlightClass(row ? Number(row.dataset.class) : -1) });
  const left = pageData.mixing.reduce((sum, m) => sum + m.n_pairs - m.pairs.length, 0);
  if (left) html("p", { class: "note" }, `The pairs that mix most; ${left.toLocaleString("en")} more share less.`, parent);
}
