// Charts of a training's checkpoints: each measure against the step or epoch.

const { steps, unit } = pageData;

function alongSteps(name, measures, yLabel, title, fromZero = true) {  // measures: [{ name, value(analysis) -> { y, e } or null }]
  const parent = chart(name);
  if (!parent) return;
  const series = measures.map((measure, i) => ({
    name: measure.name, color: modelColor(i),
    points: analyses.flatMap((a, j) => {
      const found = measure.value(a);
      return found === null ? [] : [{ x: steps[j], y: found.y, e: found.e || 0, label: `${unit} ${short(steps[j])}\n${found.y.toFixed(4)}${found.e ? " ± " + found.e.toFixed(4) : ""}` }];
    }),
  })).filter(s => s.points.length);
  if (series.length) curves(parent, series, { xLabel: unit, yLabel, title, named: true, linear: true, fromZero });
}
function drawTrajectory() {
  const at = (values, i, e = 0) => i < 0 || values[i] === undefined ? null : { y: values[i], e };
  const temperatures = [...new Set(analyses.flatMap(a => a.rld.temperatures))].sort((p, q) => q - p);
  alongSteps("rld", temperatures.map(T => ({ name: `T = ${T}`, value: a => {
    const t = a.rld.temperatures.indexOf(T);
    return at(a.rld.values, t, (a.rld.details.interval || 1.96) * (a.rld.stderr[t] || 0));
  } })), "RLD", "Relative Local Density along the training");
  const all = [...new Set(analyses.flatMap(a => Object.keys(a.class_homogeneity).map(Number)))].sort((p, q) => p - q);
  const ks = all.length <= 5 ? all : [0, 1, 2, 3, 4].map(i => all[Math.round(i * (all.length - 1) / 4)]);
  alongSteps("chi", ks.map(k => ({ name: `k = ${k.toLocaleString("en")}`, value: a => k in a.class_homogeneity ? { y: a.class_homogeneity[k], e: 1.96 * (a.class_homogeneity_stderr[k] || 0) } : null })), "CHI", "Class homogeneity along the training");
  const probes = [...new Set(analyses.flatMap(a => a.probes.map(p => p.name)))];
  alongSteps("probes", probes.map(name => ({ name: titles[name] || name, value: a => {
    const p = a.probes.find(p => p.name === name);
    return p ? { y: p.accuracy, e: (p.accuracy_interval[1] - p.accuracy_interval[0]) / 2 } : null;
  } })), "accuracy", "Accuracy of the probes along the training", false);
  alongSteps("communities", [["communities", "modularity"], ["classes", "class_modularity"], ["NMI", "nmi"]].map(([name, key]) => ({ name, value: a => ({ y: a.communities[key] }) })), "", "Communities along the training");
}

// ---- classes as small multiples ---------------------------------------------------------------------------------

const multiples = { t: -1, query: "", most: 60 };

function drawMultiples() {
  const parent = chart("classes"), controls = document.querySelector('[data-controls="classes"]');
  const temperatures = analyses[0].rld.temperatures;
  if (multiples.t < 0) {
    multiples.t = temperatures.length - 1;
    const box = html("select", { "aria-label": "temperature" }, null, controls);
    temperatures.forEach((T, t) => html("option", { value: t }, `T = ${T}`, box));
    box.value = multiples.t;
    box.addEventListener("change", () => { multiples.t = +box.value; drawMultiples(); });
    const search = html("input", { type: "search", "aria-label": "Search: classes", placeholder: "search" }, null, controls);
    search.addEventListener("input", () => { multiples.query = search.value.trim().toLowerCase(); drawMultiples(); });
  }
  const value = (a, c) => (a.rld.purity[a.rld.temperatures.indexOf(temperatures[multiples.t])] || [])[c] ?? null;
  function fill() {
    parent.replaceChildren();
    const last = analyses[analyses.length - 1];
    const fitting = analyses[0].classes.map((_, c) => c).filter(c => analyses[0].classes[c].toLowerCase().includes(multiples.query)), n = fitting.length;
    const order = [...fitting].sort((p, q) => (value(last, p) ?? 2) - (value(last, q) ?? 2));
    const shown = new Set(order.slice(0, multiples.most));
    const highest = Math.max(...[...shown].flatMap(c => analyses.map(a => value(a, c) ?? 0))), top = highest > 0.5 ? 1 : highest > 0 ? 1.05 * highest : 1;
    analyses[0].classes.forEach((name, c) => {
      if (!shown.has(c)) return;
      const points = analyses.map((a, j) => ({ x: steps[j], y: value(a, c) })).filter(p => p.y !== null);
      const root = drawing(parent, `Purity of ${name}`, {
        width: 160, height: 92, marginLeft: 6, marginRight: 6, marginTop: 20, marginBottom: 20, axis: null, x: { domain: [Math.min(...steps), Math.max(...steps)] }, y: { domain: [0, top] },
        marks: [
          Plot.ruleY([0, top], { stroke: "var(--line)" }),
          Plot.lineY(points, { x: "x", y: "y", stroke: "var(--c0)", strokeWidth: 2, strokeLinejoin: "round" }),
          Plot.dot(points.slice(-1), { x: "x", y: "y", r: 3, fill: "var(--c0)", stroke: "none" }),
          Plot.text([name], { frameAnchor: "top-left", dy: -18, textAnchor: "start", text: d => clip(d, 20), className: "strong" }),
          Plot.text(points.slice(-1), { frameAnchor: "bottom-right", dy: 14, textAnchor: "end", text: p => `${points[0].y.toFixed(2)} → ${p.y.toFixed(2)}` }),
        ],
      });
      root.setAttribute("tabindex", "0");
      root.addEventListener("focus", () => { const box = root.getBoundingClientRect(); showTip({ clientX: box.left, clientY: box.bottom }, root.explanation); });
      root.addEventListener("blur", hideTip);
      explain(root, `${name}\n` + points.map(p => `${unit} ${short(p.x)}: ${p.y.toFixed(3)}`).join("\n"));
    });
    const range = `Each from 0 to ${short(top)}.`;
    if (n <= 60) { html("p", { class: "note" }, range, parent); return; }
    html("p", { class: "note" }, `${multiples.most < n ? `The ${multiples.most} least pure of ${n.toLocaleString("en")} classes.` : `All ${n.toLocaleString("en")} classes.`} ${range}`, parent);
    html("button", { type: "button" }, multiples.most < n ? `Show all ${n.toLocaleString("en")}` : "Show 60", parent).addEventListener("click", () => { multiples.most = multiples.most < n ? n : 60; drawMultiples(); });
  }
  fill();
}
