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
  const options = { xLabel: "number of the eigenvector", W: 540 };
  lines(html("figure", {}, null, parent), series(s => s.eigenvalues, "eigenvalue"), { ...options, yLabel: "eigenvalue", title: "Leading eigenvalues of the affinity graph", fromZero: false });
  lines(html("figure", {}, null, parent), series(s => s.class_share, "eigenvectors 1 to"), { ...options, yLabel: "share", title: "Share of the class indicators in the first eigenvectors" });
}

// ---- probes ---------------------------------------------------------------------------------------------------

function drawProbes() {
  const parent = chart("probes");
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
  const parent = chart("study");
  if (!parent) return;
  const order = Object.keys(titles), color = name => groupColor(order.indexOf(name), order.length);
  for (const a of analyses.filter(a => a.probe_study.length)) {
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
  const controls = document.querySelector('[data-controls="classes"]'), parent = chart("classes");
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
    const figure = html("figure", {}, null, chart("communities"));
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
