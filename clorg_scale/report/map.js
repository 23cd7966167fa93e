// The map of the points.

let mapPictures = () => [];

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
    const figure = html("figure", {}, null, chart("map"));
    if (several) html("figcaption", {}, m.a.name, figure);
    m.canvas = html("canvas", { role: "img", tabindex: "0", "aria-label": `Map of ${m.p.index.length} points of ${m.a.name}` }, null, figure);
    const [xs, ys] = [m.p.x, m.p.y];
    const bound = (values, f) => values.reduce((u, v) => f(u, v));
    const [a, b, c, d] = [bound(xs, Math.min), bound(xs, Math.max), bound(ys, Math.min), bound(ys, Math.max)];
    m.box = { x: (a + b) / 2, y: (c + d) / 2, size: Math.max(b - a, d - c, 1e-9) * 1.06 };
    m.order = Uint32Array.from(xs.keys());
    for (let j = m.order.length - 1, seed = 7; j > 0; j--) {  // no class always drawn on top
      seed = (seed * 1103515245 + 12345) % 2147483648;
      const k = seed % (j + 1);
      [m.order[j], m.order[k]] = [m.order[k], m.order[j]];
    }
    interact(m);
  }
  if (pageData.steps) {  // the same axes on all maps
    const end = (side, key) => side(...maps.map(m => m.box[key] + (side === Math.max ? 1 : -1) * m.box.size / 2));
    const [a, b, c, d] = [end(Math.min, "x"), end(Math.max, "x"), end(Math.min, "y"), end(Math.max, "y")];
    for (const m of maps) m.box = { x: (a + b) / 2, y: (c + d) / 2, size: Math.max(b - a, d - c) };
  }
  for (const m of maps) m.view = { ...m.box };
  mapPictures = () => maps.map(m => ({ node: mapPicture(m), caption: several ? m.a.name : "", styled: true }));
  function mapPicture(m) {  // as it is colored and zoomed now
    const W = 540, H = Math.round(W * (several ? 0.86 : 0.58)), root = svg("svg", { viewBox: `0 0 ${W} ${H}` });
    const scale = Math.min(W, H) / m.view.size, group = groups(m), r = Math.max(1, Math.min(3.5, 110 / Math.sqrt(m.order.length)));
    for (const j of m.order) {
      const x = W / 2 + (m.p.x[j] - m.view.x) * scale, y = H / 2 - (m.p.y[j] - m.view.y) * scale;
      if (x < 0 || y < 0 || x > W || y > H) continue;
      const dim = state.single !== null && group[j] !== state.single;
      svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: r.toFixed(1), fill: dim ? css("--line") : colorOf(m, j), "fill-opacity": .82 }, root);
    }
    return root;
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
    const r = Math.min(1, width / 420) * Math.max(1.3, Math.min(4.5, 150 / Math.sqrt(m.order.length) * Math.sqrt(m.box.size / m.view.size)));
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
    m.canvas.addEventListener("pointerleave", hideTip);
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
        hideTip(); draw(m);
        return;
      }
      const j = nearest(m, event);
      if (j < 0) { hideTip(); return; }
      const code = m.p.class_code[j], density = m.p.local_density[j];
      showTip(event, `${code < 0 ? "unlabelled" : m.a.classes[code]}\nrow ${m.p.index[j].toLocaleString("en")} · community ${m.p.community[j]}\nlocal density ${density === null ? "–" : density.toFixed(3)}`);
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
