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
  table.classList.toggle("many", analyses.length > 3);
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
        html("td", { "data-value": partner < 0 ? "–" : `${(1 - m.share[c]).toFixed(4)}` }, partner < 0 ? "–" : `${clip(first.classes[partner], 28)} (${percent(m.share[c])})`, row);
      });
    }
    if (refresh) refresh();
  }
  fill();
  refresh = makeTable(table, { caption: "Classes", onRow: row => highlightClass(row ? Number(row.dataset.class) : -1) });
}

let highlightClass = () => {};
const MOST_MARKS = 400;  // of several models in one scatter; where there are more, one model at a time
const percent = share => `${(100 * share).toFixed(share < 0.01 ? 2 : 1)}\u00a0%`;

function drawDensity() {
  const card = chart("density"), first = analyses[0], shown = new Set(modelsShown("density", drawDensity, Math.max(3, Math.floor(MOST_MARKS / first.classes.length))));
  const parent = shown.size < analyses.length ? figures(card, [[...shown][0].name])[0] : card, W = widthOf(parent), narrow = W < NARROW, beside = document.querySelector("#probes svg"), marginLeft = 46, marginRight = 20, marginTop = 26, marginBottom = 44;
  const H = narrow ? Math.min(300, W) : Math.min(600, Math.max(Math.min(340, W), beside && analyses.length > 3 ? beside.height.baseVal.value : 0));  // as tall as the card beside it
  const points = analyses.flatMap((a, i) => (shown.has(a) ? a.classes : []).map((name, c) => ({ name, c, i, x: (a.rld.purity[globalAt(a)] || [])[c] ?? null, y: (a.rld.purity[localAt(a)] || [])[c] ?? null }))).filter(p => p.x !== null && p.y !== null);
  if (!points.length) return;
  const many = points.length > 200, nodes = new Map(), named = points.filter(p => p.i === points[0].i), axis = (key, n, apart) => {
    const [low, high] = points.reduce(([least, most], p) => [Math.min(least, p[key]), Math.max(most, p[key])], [Infinity, -Infinity]);
    return valueAxis([low, Math.max(high, low + 0.01)], n, apart);
  };
  const across = axis("x", narrow ? 4 : 5, 40 / (W - marginLeft - marginRight)), up = axis("y", narrow ? 4 : 5, 19 / (H - marginTop - marginBottom));
  const describe = p => `${p.name}${several ? "\n" + analyses[p.i].name : ""}\nlocally ${p.y.toFixed(3)}, globally ${p.x.toFixed(3)}`;
  const link = (node, p) => {
    node.addEventListener("click", () => chooseClass(p.c));
    nodes.set(p.c, [...(nodes.get(p.c) || []), node]);
  };
  const boxes = [], names = side => Plot.text(named, apart(named, boxes, side, many ? [] : points, { x: "x", y: "y", dx: 9 * side, textAnchor: side > 0 ? "start" : "end", text: p => clip(p.name, 18), className: "halo" }));
  const root = drawing(parent, "Local against global density of each class", {
    width: W, height: H, marginLeft, marginRight, marginTop, marginBottom, x: { domain: across.domain }, y: { domain: up.domain },
    marks: [
      ...horizontal(up, `purity at T = ${first.rld.temperatures[localAt(first)]}: among near neighbors`),
      below(across.ticks, `purity at T = ${first.rld.temperatures[globalAt(first)]}: across the whole set`, { tickFormat: across.tickFormat }),
      Plot.dot(points, withTooltips(points, describe, { x: "x", y: "y", r: many ? 3 : 5, fill: p => modelColor(p.i), symbol: p => modelShape(p.i), fillOpacity: many ? 0.6 : 0.9, stroke: "var(--card)", strokeWidth: 1.2, className: "marks" }, link)),
      names(1), names(-1),
    ],
  });
  highlightClass = c => {
    root.querySelectorAll(".current").forEach(node => node.classList.remove("current"));
    for (const node of nodes.get(c) || []) { node.classList.add("current"); node.parentNode.append(node); }
  };
}
// Options of names beside marks, placed without overlap: those farthest from the center first, to the right (side 1) where there is
// room, else to the left (-1). `boxes` holds the names placed so far; no name covers one of the `marks`.
function apart(named, boxes, side, marks, options) {
  const MOST = 14, LETTER = 7, REACH = 5;
  return {
    ...options,
    render(index, scales, { x, y, ...values }, dimensions, context, next) {
      const { width, height, marginLeft, marginTop } = dimensions, far = i => Math.hypot(x[i] - (marginLeft + width) / 2, y[i] - (marginTop + height) / 2);
      const obstacles = marks.map(p => ({ at: p, x: scales.x(p.x), y: scales.y(p.y) }));
      const kept = [...index].sort((i, j) => far(j) - far(i)).filter(i => {
        const wide = LETTER * Math.min(18, named[i].name.length), from = x[i] + (side > 0 ? 9 : -9 - wide);
        if (from < marginLeft || from + wide > width || boxes.length >= MOST || boxes.some(b => b.i === i)) return false;
        if (boxes.some(b => Math.abs(b.y - y[i]) < 14 && b.from < from + wide && from < b.from + b.wide)) return false;
        if (obstacles.some(m => m.at !== named[i] && Math.abs(m.y - y[i]) < 6 + REACH && from - REACH < m.x && m.x < from + wide + REACH)) return false;
        return boxes.push({ i, y: y[i], from, wide });
      });
      return next(kept, scales, { x, y, ...values }, dimensions, context);
    },
  };
}

function drawPairs() {
  const parent = chart("pairs"), names = analyses[0].classes;
  if (!parent) return;
  const shown = new Set(modelsShown("pairs", drawPairs)), named = several && shown.size > 1;
  const rows = pageData.mixing.flatMap((m, i) => shown.has(analyses[i]) ? m.pairs.map(pair => ({ i, pair })) : []);
  if (!rows.length) { html("p", { class: "note" }, "No two classes mix.", parent); return; }
  const one = several && !named ? [...shown][0].name : "";  // also shown in print and in downloaded pictures
  if (one) html("h3", {}, one, parent);
  const table = newTable(parent, [...(named ? ["model"] : []), "class", "other class", "share of the class in the other", "share of the other in the class"]);
  rows.sort((p, q) => q.pair[2] + q.pair[3] - p.pair[2] - p.pair[3]);
  const most = Math.max(...rows.flatMap(({ pair }) => pair.slice(2)));
  for (const { i, pair: [a, b, ab, ba] } of rows) {
    const row = html("tr", { "data-class": a }, null, table.tBodies[0]);
    if (named) html("td", {}, analyses[i].name, row);
    for (const c of [a, b]) html("button", { type: "button", class: "plain", title: `${names[c]}: show on the map` }, clip(names[c], 40), html("td", {}, null, row)).addEventListener("click", () => chooseClass(c));
    for (const v of [ab, ba]) {
      const cell = html("td", { class: "bar", "data-value": v }, null, row);
      html("i", { style: `width:${100 * v / most}%;background:${modelColor(i)}` }, null, html("div", { class: "track" }, null, cell));
      html("span", {}, percent(v), cell);
    }
  }
  if (one) table.dataset.model = one;
  makeTable(table, { caption: `Pairs of classes that mix${one && `, ${one}`}`, first: 12, onRow: row => highlightClass(row ? Number(row.dataset.class) : -1) });
  const left = pageData.mixing.reduce((sum, m, i) => sum + (shown.has(analyses[i]) ? m.n_pairs - m.pairs.length : 0), 0);
  if (left) html("p", { class: "note" }, `These pairs mix most; ${left.toLocaleString("en")} more mix less.`, parent);
}
