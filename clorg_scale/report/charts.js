// One function a chart.

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
  lines(chart("rld"), series, { xLabel: "temperature T (small: near neighbors only)", yLabel: "RLD", title: "Relative Local Density against temperature" });
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
  lines(chart("chi"), series, { xLabel: "neighbors k", yLabel: "CHI", title: "Class homogeneity against the number of neighbors" });
}

// ---- spectrum ---------------------------------------------------------------------------------------------------

function drawSpectrum() {
  const parent = chart("spectrum"), having = analyses.map((a, i) => ({ a, i })).filter(({ a }) => a.spectrum && a.spectrum.eigenvalues.length);
  if (!parent || !having.length) return;
  const series = (values, word) => having.map(({ a, i }) => ({
    name: a.name, color: modelColor(i),
    points: values(a.spectrum).map((y, j) => ({ x: j + 1, y, label: `${word} ${j + 1}\n${y.toFixed(4)}` })),
  }));
  const options = { xLabel: "number of the eigenvector" };
  const [left, right] = figures(parent, ["", ""]);
  lines(left, series(s => s.eigenvalues, "eigenvalue"), { ...options, yLabel: "eigenvalue", title: "Leading eigenvalues of the affinity graph", fromZero: false });
  lines(right, series(s => s.class_share, "eigenvectors 1 to"), { ...options, yLabel: "share", title: "Share of the class indicators in the first eigenvectors" });
}

// ---- of many models, one at a time --------------------------------------------------------------------------------

const chosenModel = {};
function modelsShown(name, draw) {
  if (analyses.length <= 3) return analyses;
  if (!(name in chosenModel)) {
    const parent = chart(name), box = html("select", { "aria-label": "model" });
    analyses.forEach((a, i) => html("option", { value: i }, a.name, box));
    box.addEventListener("change", () => { chosenModel[name] = +box.value; parent.replaceChildren(); draw(); });
    const controls = html("div", { class: "controls" });
    controls.append(box);
    parent.before(controls);
    chosenModel[name] = 0;
  }
  return [analyses[chosenModel[name]]];
}

// ---- probes ---------------------------------------------------------------------------------------------------

function drawProbes() {
  const parent = chart("probes");
  if (!parent) return;
  const names = [...new Set(analyses.flatMap(a => a.probes.map(p => p.name)))];
  const W = widthOf(parent), least = 20 + 17 * analyses.length, step = Math.max(least, Math.min(270 / names.length, 2.2 * least));
  const left = W < 420 ? 112 : 132, right = W < 420 ? 66 : 110, top = 8, H = top + names.length * step + 48;
  const all = analyses.flatMap(a => a.probes.flatMap(p => p.accuracy_interval.concat(p.accuracy)));
  const ends = [Math.min(...all), Math.max(Math.max(...all), Math.min(...all) + 0.01)], tick = niceStep(...ends, W < 420 ? 3 : 4);
  const low = Math.max(0, Math.floor(ends[0] / tick + 1e-9) * tick), high = Math.min(1, Math.ceil(ends[1] / tick - 1e-9) * tick);
  const X = v => left + (v - low) / (high - low) * (W - left - right);
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Accuracy of each probe" }, parent);
  for (const t of niceTicks(low, high, W < 420 ? 3 : 4)) {
    svg("line", { x1: X(t), x2: X(t), y1: top, y2: H - 36, class: "axis" }, root);
    text(root, X(t), H - 20, String(t), { "text-anchor": "middle" });
  }
  text(root, (left + W - right) / 2, H - 3, "accuracy", { "text-anchor": "middle" });
  text(root, W - right + 8, top + 4, "parameters", {});
  names.forEach((name, row) => {
    const middle = top + 12 + row * step + step / 2 - 6;
    text(root, left - 12, middle + 4, titles[name] || name, { "text-anchor": "end", class: "strong" });
    analyses.forEach((a, i) => {
      const p = a.probes.find(p => p.name === name);
      if (!p) return;
      const y = middle + (i - (analyses.length - 1) / 2) * 17;
      svg("line", { x1: X(p.accuracy_interval[0]), x2: X(p.accuracy_interval[1]), y1: y, y2: y, stroke: modelColor(i), "stroke-width": 3, "stroke-linecap": "round", opacity: .45 }, root);
      mark(root, i, X(p.accuracy), y, modelColor(i), 5);
      text(root, W - right + 8, y + 4, p.n_parameters.toLocaleString("en"), {});
      explain(svg("rect", { x: left, y: y - 9, width: W - left - right, height: 18, class: "reach" }, root),
        `${titles[name] || name}${several ? ", " + a.name : ""}\naccuracy ${p.accuracy.toFixed(4)} [${p.accuracy_interval.map(v => v.toFixed(4)).join(", ")}]\n${p.n_parameters.toLocaleString("en")} parameters, ${p.seconds.toFixed(1)} s`);
    });
  });
  makeWalkable(root);
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
        return { name: titles[name] || name, color: color(name), dotted: flat, named: true, points: points.sort((p, q) => p.x - q.x) };
      });
    };
    for (const [title, x, fixed] of [
      ["share of the labels", "label_fraction", ["k", "temperature"]],
      ["neighbors k", "k", ["label_fraction", "temperature"]],
      ["temperature T of the graph", "temperature", ["label_fraction", "k"]],
    ]) {
      const [figure] = figures(parent, [`By ${title}${several ? " · " + a.name : ""}`]);
      later.push(() => lines(figure, seriesOver(x, ...fixed), { xLabel: title, yLabel: "accuracy", title: `Accuracy by ${title}`, named: true, fromZero: false }));
    }
  }
  for (const draw of later) draw();
}

// ---- classes and communities ----------------------------------------------------------------------------------

const MOST_ROWS = 50, MOST_COLUMNS = 24;

function drawCommunities() {
  const models = modelsShown("communities", drawCommunities), parents = figures(chart("communities"), models.map(a => several ? a.name : `${a.communities.sizes.length.toLocaleString("en")} communities`));
  for (const [at, a] of models.entries()) {
    if (a.classes.length <= MOST_ROWS) communityMatrix(parents[at], a); else communityTable(parents[at], a, analyses.indexOf(a));
  }
}
function communityMatrix(figure, a) {  // columns: the communities that hold most of these classes, the others together where there are more
  const counts = a.communities.class_by_community, nm = a.communities.sizes.length, totals = counts.map(row => row.reduce((x, y) => x + y, 0) || 1);
  const weight = m => counts.reduce((sum, row, c) => sum + row[m] / totals[c], 0), all = [...Array(nm).keys()];
  const columns = nm <= MOST_COLUMNS ? all : all.sort((p, q) => weight(q) - weight(p) || p - q).slice(0, MOST_COLUMNS).sort((p, q) => p - q);
  const rest = nm > columns.length, shares = counts.map((row, c) => columns.map(m => row[m] / totals[c]));
  if (rest) shares.forEach(row => row.push(Math.max(0, 1 - row.reduce((x, y) => x + y, 0))));
  const rows = a.classes.map((_, c) => c), home = c => shares[c].indexOf(Math.max(...shares[c]));
  rows.sort((p, q) => home(p) - home(q) || shares[q][home(q)] - shares[p][home(p)]);
  const n = columns.length + (rest ? 1 : 0), W = widthOf(figure, 96 + 30 * n), left = W < 420 ? 84 : 110, top = 6, gap = rest ? 8 : 0;
  const cell = (W - left - gap - 2) / n, h = rows.length > 20 ? 16 : 24, H = rows.length * h;
  const root = svg("svg", { viewBox: `0 0 ${W} ${H + top + 38}`, role: "img", "aria-label": `Share of each class in each community${several ? `, ${a.name}` : ""}`, style: `max-width:${W}px` }, figure);
  rows.forEach((c, r) => {
    text(root, left - 8, top + r * h + h / 2 + 4, clip(a.classes[c], W < 420 ? 12 : 17), { "text-anchor": "end" });
    shares[c].forEach((v, m) => {
      const other = rest && m === columns.length, box = svg("rect", { x: left + m * cell + (other ? gap : 0), y: top + r * h, width: Math.max(1, cell - 1.5), height: h - 1.5, rx: 2, style: `fill:rgba(var(--heat), ${(0.05 + 0.95 * v).toFixed(3)})` }, root);
      const which = other ? `the other ${(nm - columns.length).toLocaleString("en")} communities` : `community ${columns[m]} (${a.communities.sizes[columns[m]].toLocaleString("en")} points)`;
      explain(box, `${a.classes[c]}\n${(v * 100).toFixed(1)} % in ${which}`);
    });
  });
  const every = Math.max(1, Math.ceil(20 / cell));
  for (let m = 0; m < columns.length; m += every) text(root, left + m * cell + cell / 2, top + H + 16, String(columns[m]), { "text-anchor": "middle" });
  if (rest && cell > 18) text(root, left + columns.length * cell + gap + cell / 2, top + H + 16, "rest", { "text-anchor": "middle" });
  text(root, left + n * cell / 2, top + H + 34, `community, numbered by size${rest && W > 420 ? "; last column: the rest" : ""}`, { "text-anchor": "middle" });
  makeWalkable(root);
}
function communityTable(figure, a, i) {  // of many classes: what each community is made of
  const counts = a.communities.class_by_community, table = newTable(figure, ["community", "points", "classes", "largest class", "others"]);
  a.communities.sizes.forEach((size, m) => {
    const held = counts.map((row, c) => [row[m], c]).filter(p => p[0]).sort((p, q) => q[0] - p[0]), total = held.reduce((sum, p) => sum + p[0], 0) || 1;
    const part = ([k, c]) => `${clip(a.classes[c], 26)} ${(100 * k / total).toFixed(0)} %`, row = html("tr", {}, null, table.tBodies[0]);
    html("th", { scope: "row" }, String(m), row);
    html("td", { "data-value": size }, size.toLocaleString("en"), row);
    html("td", { "data-value": held.length }, held.length.toLocaleString("en"), row);
    const cell = html("td", { class: "bar", "data-value": held.length ? held[0][0] / total : 0 }, null, row);
    html("i", { style: `width:${held.length ? 100 * held[0][0] / total : 0}%;background:${modelColor(i)}` }, null, html("div", { class: "track" }, null, cell));
    html("span", {}, held.length ? part(held[0]) : "–", cell);
    html("td", {}, held.slice(1, 4).map(part).join(", ") + (held.length > 4 ? ` and ${held.length - 4} more` : ""), row);
  });
  makeTable(table, { caption: `Communities${several ? `, ${a.name}` : ""}` });
}
