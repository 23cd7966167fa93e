// One function per chart.

function drawRld() {
  const series = analyses.map((a, i) => ({
    name: a.name, color: modelColor(i),
    points: a.rld.temperatures.map((T, t) => ({
      x: T, y: a.rld.values[t], e: (a.rld.details.interval || 1.96) * a.rld.stderr[t],
      label: `T = ${T}\nRLD ${a.rld.values[t].toFixed(4)}${a.rld.stderr[t] ? " ± " + a.rld.stderr[t].toFixed(4) : ""}\nshuffled labels ${a.rld.null_mean[t].toFixed(4)}`,
    })).sort((p, q) => p.x - q.x),
  }));
  const null0 = analyses[0].rld;
  series.push({ name: "shuffled labels", color: "var(--soft)", dotted: true, unnamed: true, points: null0.temperatures.map((x, t) => ({ x, y: null0.null_mean[t] })).sort((p, q) => p.x - q.x) });
  curves(chart("rld"), series, { named: several, xLabel: "temperature T (small: near neighbors only)", yLabel: "RLD", title: "Relative Local Density against temperature" });
}
function drawChi() {
  const series = analyses.map((a, i) => ({
    name: a.name, color: modelColor(i),
    points: Object.entries(a.class_homogeneity).map(([k, y]) => {
      const error = a.class_homogeneity_stderr[k] || 0, size = a.class_homogeneity_points;
      const basis = `${a.class_homogeneity_metric}${size ? `, ${size.toLocaleString("en")} points` : ""}`;
      const label = `k = ${(+k).toLocaleString("en")}, ${basis}\nCHI ${y.toFixed(4)}${error ? " ± " + error.toFixed(4) : ""}`;
      return { x: +k, y, e: 1.96 * error, label };
    }),
  }));
  curves(chart("chi"), series, { named: several, xLabel: "neighbors k", yLabel: "CHI", title: "Class homogeneity against the number of neighbors" });
}

// ---- spectrum ---------------------------------------------------------------------------------------------------

function drawSpectrum() {
  const parent = chart("spectrum"), having = analyses.map((a, i) => ({ a, i })).filter(({ a }) => a.spectrum && a.spectrum.eigenvalues.length);
  if (!parent || !having.length) return;
  const series = (values, word) => having.map(({ a, i }) => ({
    name: a.name, color: modelColor(i),
    points: values(a.spectrum).map((y, j) => ({ x: j + 1, y, label: `${word} ${j + 1}\n${y.toFixed(4)}` })),
  }));
  const options = { named: several, xLabel: "number of the eigenvector", linear: true };
  const [left, right] = figures(parent, ["", ""]);
  curves(left, series(s => s.eigenvalues, "eigenvalue"), { ...options, yLabel: "eigenvalue", title: "Leading eigenvalues of the affinity graph", fromZero: false });
  curves(right, series(s => s.class_share, "eigenvectors 1 to"), { ...options, yLabel: "share", title: "Share of the class indicators in the first eigenvectors" });
}

// ---- of many models, one at a time --------------------------------------------------------------------------------

const chosenModel = {};
function modelsShown(name, draw, most = 3) {
  if (analyses.length <= most) return analyses;
  if (!(name in chosenModel)) {
    const parent = chart(name), box = html("select", { "aria-label": "model" });
    analyses.forEach((a, i) => html("option", { value: i }, a.name, box));
    box.addEventListener("change", () => { chosenModel[name] = +box.value; parent.replaceChildren(); draw(); });
    const controls = html("div", { class: "controls" });
    controls.append(box);
    parent.before(controls);
    chosenModel[name] = pageData.steps ? analyses.length - 1 : 0;  // the last checkpoint of a training
    box.value = chosenModel[name];
  }
  return [analyses[chosenModel[name]]];
}

// ---- probes ---------------------------------------------------------------------------------------------------

function drawProbes() {
  const parent = chart("probes");
  if (!parent) return;
  const found = analyses.flatMap((a, i) => a.probes.map(p => ({ ...p, i, low: p.accuracy_interval[0], high: p.accuracy_interval[1], title: titles[p.name] || p.name })));
  const names = [...new Set(found.map(p => p.title))], W = widthOf(parent), narrow = W < NARROW;
  const least = 20 + 17 * analyses.length, step = Math.max(least, Math.min(270 / names.length, 2.2 * least));
  const low = Math.min(...found.map(p => p.low)), high = Math.max(...found.map(p => p.high), low + 0.01);
  const marginLeft = 16 + Math.ceil(Math.max(...names.map(name => wide(name, 600)), 0)), marginRight = narrow ? 66 : 110;
  const { domain, ticks, tickFormat } = valueAxis([low, high], narrow ? 3 : 4, 40 / (W - marginLeft - marginRight));
  const row = { fy: "title", y: "i" }, place = { ...row, x: "accuracy" };
  const describe = p => `${p.title}${several ? ", " + analyses[p.i].name : ""}\naccuracy ${p.accuracy.toFixed(4)} [${p.accuracy_interval.map(v => v.toFixed(4)).join(", ")}]\n${counted(p.n_parameters, "parameter")}, ${p.seconds.toFixed(1)} s`;
  drawing(parent, "Accuracy of each probe", {
    width: W, height: 20 + names.length * step + 44, marginLeft, marginRight, marginTop: 20, marginBottom: 44,
    x: { domain }, y: { type: "point", domain: analyses.map((_, i) => i), axis: null, padding: (step / 17 - analyses.length + 1) / 2 }, fy: { domain: names, axis: null, padding: 0 },
    marks: [
      Plot.gridX({ ticks, stroke: "var(--line)", strokeOpacity: 1 }), below(ticks, "accuracy", { tickFormat }),
      Plot.text(names, { fy: d => d, text: d => d, frameAnchor: "left", dx: -12, textAnchor: "end", className: "strong" }),
      Plot.text(["parameters"], { facetAnchor: "top", frameAnchor: "top-right", dx: narrow ? 66 : 8, dy: -14, textAnchor: narrow ? "end" : "start" }),
      Plot.ruleY(found, { ...row, x1: "low", x2: "high", stroke: p => modelColor(p.i), strokeWidth: 3, strokeLinecap: "round", strokeOpacity: 0.45 }),
      Plot.dot(found, { ...place, r: 5, fill: p => modelColor(p.i), symbol: p => modelShape(p.i), stroke: "var(--card)", strokeWidth: 1.2, className: "marks" }),
      Plot.text(found, { ...row, frameAnchor: "right", dx: 8, textAnchor: "start", text: p => p.n_parameters.toLocaleString("en") }),
      Plot.ruleY(found, withTooltips(found, describe, { ...row, stroke: "transparent", strokeWidth: 17, className: "reach" })),
    ],
  });
}

function drawStudies() {
  const parent = chart("study");
  if (!parent) return;
  const named = analyses.flatMap(a => a.probe_study.map(row => row.result.name)), order = [...new Set([...Object.keys(titles), ...named])], color = name => modelColor(order.indexOf(name));
  const later = [];
  for (const a of modelsShown("study", drawStudies).filter(a => a.probe_study.length)) {
    const own = { k: a.settings.k, temperature: a.settings.affinity_temperature, label_fraction: 1 };
    const at = (row, name) => row[name] === null || row[name] === own[name];
    const seriesOver = (x, ...fixed) => {
      const rows = a.probe_study.filter(row => fixed.every(name => at(row, name)));
      const xs = rows.map(row => row[x]).filter(v => v !== null), ends = [Math.min(...xs), Math.max(...xs)];
      return order.filter(name => rows.some(row => row.result.name === name)).map(name => {
        const found = rows.filter(row => row.result.name === name), flat = found[0][x] === null;
        const point = (row, value) => ({
          x: value, y: row.result.accuracy, e: 0,
          label: `${short(value)}: accuracy ${row.result.accuracy.toFixed(4)} [${row.result.accuracy_interval.map(v => v.toFixed(4)).join(", ")}]`,
        });
        const points = flat ? ends.map(value => point(found[0], value)) : found.map(row => point(row, row[x]));
        return { name: titles[name] || name, color: color(name), dotted: flat, points: points.sort((p, q) => p.x - q.x) };
      });
    };
    for (const [title, x, fixed] of [
      ["share of the labels", "label_fraction", ["k", "temperature"]],
      ["neighbors k", "k", ["label_fraction", "temperature"]],
      ["temperature T of the graph", "temperature", ["label_fraction", "k"]],
    ]) {
      const [figure] = figures(parent, [`By ${title}${several ? " · " + a.name : ""}`]);
      later.push(() => curves(figure, seriesOver(x, ...fixed), { xLabel: title, yLabel: "accuracy", title: `Accuracy by ${title}`, named: true, fromZero: false }));
    }
  }
  for (const draw of later) draw();
}

// ---- classes and communities ----------------------------------------------------------------------------------

const MOST_ROWS = 50, MOST_COLUMNS = 100, LEAST_CELL = 11;

function drawCommunities() {
  const models = modelsShown("communities", drawCommunities), parents = figures(chart("communities"), models.map(a => several ? a.name : a.communities.sizes.length === 1 ? "1 community" : `${a.communities.sizes.length.toLocaleString("en")} communities`));
  for (const [at, a] of models.entries()) {
    if (a.classes.length <= MOST_ROWS && a.communities.sizes.length <= MOST_COLUMNS) communityMatrix(parents[at], a); else communityTable(parents[at], a, analyses.indexOf(a));
  }
}
function communityMatrix(figure, a) {  // wider than its card if there are many communities; it then scrolls in its frame
  const counts = a.communities.class_by_community, n = a.communities.sizes.length, totals = counts.map(row => row.reduce((x, y) => x + y, 0) || 1);
  const shares = counts.map((row, c) => row.map(count => count / totals[c]));
  const rows = a.classes.map((_, c) => c), home = c => shares[c].indexOf(Math.max(...shares[c]));
  rows.sort((p, q) => home(p) - home(q) || shares[q][home(q)] - shares[p][home(p)]);
  const fitting = widthOf(figure, 96 + 30 * n), letters = fitting < NARROW ? 12 : 17, left = 14 + 7.2 * Math.min(letters, Math.max(...a.classes.map(name => name.length)));
  const W = Math.max(fitting, Math.ceil(left + 2 + LEAST_CELL * n)), size = (W - left - 2) / n;
  const cells = rows.flatMap(c => shares[c].map((share, m) => ({ c, m, share })));
  const every = Math.max(1, Math.ceil(20 / size)), ticks = [...Array(n).keys()].filter(m => m % every === 0);
  const describe = ({ c, m, share }) => `${a.classes[c]}\n${(share * 100).toFixed(1)} % in community ${m} (${counted(a.communities.sizes[m], "point")})`;
  const title = `Share of each class in each community${several ? `, ${a.name}` : ""}`;
  const frame = W > fitting ? html("div", { class: "wide-frame", tabindex: "0", role: "group", "aria-label": `${title}: scrolls sideways` }, null, figure) : figure;
  const root = drawing(frame, title, {
    width: W, height: 6 + rows.length * (rows.length > 20 ? 16 : 24) + 44, marginLeft: left, marginRight: 2, marginTop: 6, marginBottom: 44,
    x: { type: "band", domain: [...Array(n).keys()], padding: 0 }, y: { type: "band", domain: rows, padding: 0 }, opacity: { domain: [0, 1], range: [0.05, 1] },
    marks: [
      Plot.cell(cells, withTooltips(cells, describe, { x: "m", y: "c", fill: "rgb(var(--heat))", fillOpacity: { value: "share", scale: true }, insetRight: 1.5, insetBottom: 1.5, rx: 2, className: "cells" })),
      Plot.axisY({ tickSize: 0, tickPadding: 8, label: null, tickFormat: c => clip(a.classes[c], letters) }),
      below(ticks, "community, numbered by size", { tickFormat: String }),
    ],
  });
  root.style[W > fitting ? "width" : "maxWidth"] = `${W}px`;
}
function communityTable(figure, a, i) {  // for many classes: the largest classes of each community
  const counts = a.communities.class_by_community, table = newTable(figure, ["community", "points", "classes", "largest class", "others"]);
  a.communities.sizes.forEach((size, m) => {
    const held = counts.map((row, c) => [row[m], c]).filter(p => p[0]).sort((p, q) => q[0] - p[0]), total = held.reduce((sum, p) => sum + p[0], 0) || 1;
    const part = ([k, c]) => `${clip(a.classes[c], 26)} (${k < 0.005 * total ? "<1" : (100 * k / total).toFixed(0)}\u00a0%)`, row = html("tr", {}, null, table.tBodies[0]);
    html("th", { scope: "row" }, String(m), row);
    html("td", { "data-value": size }, size.toLocaleString("en"), row);
    html("td", { "data-value": held.length }, held.length.toLocaleString("en"), row);
    const cell = html("td", { class: "bar", "data-value": held.length ? held[0][0] / total : 0 }, null, row);
    html("i", { style: `width:${held.length ? 100 * held[0][0] / total : 0}%;background:${modelColor(i)}` }, null, html("div", { class: "track" }, null, cell));
    html("span", {}, held.length ? part(held[0]) : "–", cell);
    html("td", { class: "listed" }, held.slice(1, 4).map(part).join(", ") + (held.length > 4 ? ` and ${(held.length - 4).toLocaleString("en")} more` : ""), row);
  });
  makeTable(table, { caption: `Communities${several ? `, ${a.name}` : ""}` });
}
