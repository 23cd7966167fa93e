// Interaction with the maps: moving, zooming, pointing, search, choice of groups, selection with a lasso.

const LEAST_VIEW = 1 / 100;  // of the whole map

function interact(m, tools) {
  const { state, project, redraw, drag, drawOverlay, near, describe } = tools;
  const rect = () => m.frame.getBoundingClientRect();
  const place = (clientX, clientY) => {
    const box = rect(), { scale, width, height } = project(m);
    return [m.view.x + (clientX - box.left - width / 2) / scale, m.view.y - (clientY - box.top - height / 2) / scale];
  };
  function zoom(factor, clientX, clientY) {
    const [x, y] = place(clientX, clientY), size = Math.min(m.box.size, Math.max(m.box.size * LEAST_VIEW, m.view.size * factor)), f = size / m.view.size;
    m.view = { x: x + (m.view.x - x) * f, y: y + (m.view.y - y) * f, size };
    redraw(m, true);
  }
  function move(dx, dy) {
    const { scale } = project(m);
    m.view.x -= dx / scale; m.view.y += dy / scale;
    drag(m, dx, dy);
  }
  function point(i, event) {
    if (i < 0) { hideTip(); pointAtRow(-1); return; }
    showTip(event, describe(m, i));
    pointAtRow(rowOf(m.p, i));
  }
  let last = null;
  m.canvas.addEventListener("pointerdown", event => {
    if (event.pointerType === "touch" && !state.lasso) return;
    last = [event.clientX, event.clientY];
    m.path = state.lasso || event.shiftKey ? [place(...last)] : null;
    m.canvas.setPointerCapture(event.pointerId);
  });
  m.canvas.addEventListener("pointermove", event => {
    if (last === null || !event.buttons) { if (event.pointerType !== "touch") point(near(m, event.clientX, event.clientY), event); return; }
    if (m.path) { m.path.push(place(event.clientX, event.clientY)); drawOverlay(m); return; }
    move(event.clientX - last[0], event.clientY - last[1]);
    last = [event.clientX, event.clientY];
    point(-1);
  });
  const end = () => {
    last = null;
    if (!m.path) return;
    const path = m.path;
    m.path = null;
    if (path.length > 2) tools.select(m, path); else drawOverlay(m);
  };
  m.canvas.addEventListener("pointerup", end);
  m.canvas.addEventListener("pointercancel", end);
  m.canvas.addEventListener("click", event => point(near(m, event.clientX, event.clientY), event));
  m.canvas.addEventListener("pointerleave", event => { if (event.pointerType !== "touch") { hideTip(); pointAtRow(-1); } });
  m.canvas.addEventListener("dblclick", () => { m.view = { ...m.box }; redraw(m); });
  m.canvas.addEventListener("wheel", event => {  // the wheel alone scrolls the page
    if (!event.ctrlKey && !event.metaKey) { hint("Hold Ctrl and turn the wheel to zoom the map."); return; }
    event.preventDefault();
    zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.05 : 0.0025)), event.clientX, event.clientY);
  }, { passive: false });
  let fingers = null;
  m.canvas.addEventListener("touchmove", event => {  // one finger scrolls the page
    if (event.touches.length !== 2) { fingers = null; if (!state.lasso) hint("Use two fingers to move and zoom the map."); else event.preventDefault(); return; }
    event.preventDefault();
    const [p, q] = event.touches, now = { x: (p.clientX + q.clientX) / 2, y: (p.clientY + q.clientY) / 2, apart: Math.hypot(p.clientX - q.clientX, p.clientY - q.clientY) };
    if (fingers) { move(now.x - fingers.x, now.y - fingers.y); zoom(fingers.apart / Math.max(1, now.apart), now.x, now.y); }
    fingers = now;
  }, { passive: false });
  m.canvas.addEventListener("touchend", () => { fingers = null; });
  const middle = () => { const box = rect(); return { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 }; };
  const keys = {
    ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60),
    "+": () => zoom(0.7, middle().clientX, middle().clientY), "=": () => zoom(0.7, middle().clientX, middle().clientY), "-": () => zoom(1 / 0.7, middle().clientX, middle().clientY),
    0: () => { m.view = { ...m.box }; redraw(m); }, Enter: () => point(near(m, middle().clientX, middle().clientY), middle()), Escape: () => point(-1),
  };
  m.canvas.addEventListener("keydown", event => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  m.canvas.addEventListener("blur", () => point(-1));
  let fading = 0;
  function hint(content) {
    const box = m.hint ??= html("div", { class: "hint" }, null, m.canvas.parentNode);
    box.textContent = content; box.hidden = false;
    clearTimeout(fading); fading = setTimeout(() => { box.hidden = true; }, 900);
  }
  m.center = i => {
    const [x, y] = positionOf(m.p, i);
    m.view = { x, y, size: m.box.size / 6 };
    redraw(m);
  };
}

function inside(path, x, y) {  // even-odd rule
  let odd = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
    const [xi, yi] = path[i], [xj, yj] = path[j];
    if (yi > y !== yj > y && x < (xj - xi) * (y - yi) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

function mapControls(tools) {
  const { maps, state, redrawAll, nGroups, mostGroups, shown, colorOfGroup } = tools;
  const controls = document.querySelector('[data-controls="map"]'), legend = document.querySelector('[data-legend="map"]');
  const chosenText = html("div", { class: "selection", role: "status" }, null, legend.parentNode), first = maps[0];
  const buttons = Object.entries({ density: "local density", class: "class", community: "community" }).map(([by, name]) => {
    const button = html("button", { type: "button", "data-by": by, "aria-pressed": by === state.by }, name, controls);
    button.addEventListener("click", () => color(by));
    return button;
  });
  function color(by, chosen = []) {
    state.by = by; state.chosen = chosen;
    for (const other of buttons) other.setAttribute("aria-pressed", other.dataset.by === by);
    relabel(); redrawAll();
  }
  const toggle = (name, key, title) => {
    const button = html("button", { type: "button", "data-tool": key, "aria-pressed": state[key], title }, name, controls);
    button.addEventListener("click", () => {
      state[key] = !state[key];
      button.setAttribute("aria-pressed", state[key]);
      chart("map").classList.toggle("lasso", state.lasso);
      redrawAll();
    });
  };
  toggle("names", "names", "Names of the groups on the map");
  toggle("lasso", "lasso", "Draw around points to select them; or drag with the shift key");
  const search = html("input", { type: "search", "aria-label": "Find a class or a row on the map", placeholder: "find class or row", list: "class-names" }, null, controls);
  const list = html("datalist", { id: "class-names" }, null, controls);
  for (const name of first.a.classes.slice(0, 2000)) html("option", { value: name }, null, list);
  const answer = html("span", { role: "status" }, null, controls);
  search.addEventListener("change", () => {
    const wanted = search.value.trim(), names = first.a.classes, row = /^(row )?\d+$/i.test(wanted) ? Number(wanted.replace(/\D/g, "")) : -1;
    answer.textContent = "";
    if (!wanted) return;
    let found = names.indexOf(wanted);
    if (found < 0) found = names.findIndex(name => name.toLowerCase().includes(wanted.toLowerCase()));
    if (row >= 0 && (found < 0 || names[found] !== wanted)) {
      const having = maps.filter(m => row < m.p.n_points && positionsByRow(m.p)[row] >= 0);
      if (!having.length) { answer.textContent = `Row ${row} is not on the map.`; return; }
      pointAtRow(row);
      for (const m of having) m.center(positionsByRow(m.p)[row]);
      answer.textContent = tools.describe(having[0], positionsByRow(having[0].p)[row]).replaceAll("\n", " · ");
    } else if (found >= 0) { chooseClass(found); search.value = ""; } else answer.textContent = `No class is called ${clip(wanted, 30)}.`;
  });
  chooseClass = c => {
    if (state.by !== "class") { color("class", [c]); return; }
    color("class", state.chosen.includes(c) ? state.chosen.filter(g => g !== c) : [...state.chosen, c].slice(-MOST_COLORED));
  };
  function relabel() {
    legend.replaceChildren();
    if (state.by === "density") {
      const ramp = html("div", { class: "ramp" }, null, legend);
      html("span", {}, "0: surrounded by other classes", ramp);
      html("i", { style: `background:linear-gradient(90deg, ${[0, .25, .5, .75, .999].map(densityColor).join(",")})` }, null, ramp);
      html("span", {}, `1: by its own (T = ${first.a.point_map.local_density_temperature})`, ramp);
      return;
    }
    const many = mostGroups() > MOST_COLORED, groups = many ? shown() : [...Array(mostGroups()).keys()];
    for (const g of groups) {
      const button = html("button", { type: "button", "data-group": g, "aria-pressed": state.chosen.includes(g) }, null, legend);
      html("span", { class: "swatch", style: `background:${colorOfGroup(g)}` }, null, button);
      button.append(state.by === "class" ? clip(first.a.classes[g], 40) : `community ${g}`);
      button.addEventListener("click", () => color(state.by, state.chosen.includes(g) ? state.chosen.filter(h => h !== g) : [...state.chosen, g].slice(-MOST_COLORED)));
    }
    if (!many) return;
    const all = mostGroups().toLocaleString("en"), which = state.by === "class" ? "the ten classes of lowest local density" : "the ten largest";
    html("span", { class: "note" }, state.chosen.length ? `of ${all}; the others are gray` : `${which} of ${all}; the others are gray. ${state.by === "class" ? "Find others above or in the table of classes." : ""}`, legend);
  }
  tools.select = (m, path) => {
    const rows = new Uint8Array(m.p.n_points), inPath = new Uint8Array(m.p.n);
    let n = 0;
    for (let i = 0; i < m.p.n; i++) {
      const [x, y] = positionOf(m.p, i);
      if (inside(path, x, y)) { inPath[i] = 1; rows[rowOf(m.p, i)] = 1; n++; }
    }
    for (const other of maps) {
      other.selected = n ? new Uint8Array(other.p.n) : null;
      if (n) for (let i = 0; i < other.p.n; i++) other.selected[i] = rows[rowOf(other.p, i)] || 0;
    }
    chosenText.replaceChildren();
    redrawAll();
    if (!n) return;
    const counts = new Map();
    for (let i = 0; i < m.p.n; i++) if (inPath[i]) counts.set(m.p.class_code[i], (counts.get(m.p.class_code[i]) || 0) + 1);
    const parts = [...counts].sort((p, q) => q[1] - p[1]).slice(0, 6).map(([c, k]) => `${c === UNLABELLED ? "unlabelled" : clip(m.a.classes[c], 30)} ${k.toLocaleString("en")}`);
    html("p", {}, `${counted(n, "point")} selected: ${parts.join(", ")}${counts.size > 6 ? ` and ${counts.size - 6} more ${counts.size === 7 ? "class" : "classes"}` : ""}.`, chosenText);
    const box = html("div", { class: "controls" }, null, chosenText), act = (name, format, f) => html("button", { type: "button", "data-selection": format }, name, box).addEventListener("click", f);
    act("Save the selection (CSV)", "csv", () => save(new Blob(mapRows(new Map([[m, inPath]])), { type: "text/csv" }), "selection.csv"));
    act("Clear", "clear", () => { for (const other of maps) other.selected = null; chosenText.replaceChildren(); redrawAll(); });
  };
  const missing = maps.find(m => m.p.missing);
  if (missing) html("p", { class: "note" }, `The file ${missing.p.missing} with all points is missing; put it beside this page. Until then, the maps show samples.`, legend.parentNode);
  relabel();
}
