// The maps of the points: drawing, coloring, names.

const MOST_COLORED = 10, MOST_NAMES = 36, MOST_MOVING = 300000;
let mapRows = () => [], pointAtRow = () => {}, chooseClass = () => {};

async function drawMaps() {
  const maps = unpackMaps().map((p, i) => ({ a: analyses[i], p, i })).filter(m => m.p.n);
  const section = document.getElementById("map");
  if (!maps.length) { section.hidden = true; return; }
  const webgl = await openWebgl();
  const state = { by: "density", chosen: [], names: true, lasso: false, marked: -1 };
  for (const m of maps) {
    const figure = html("figure", {}, null, chart("map"));
    if (several) html("figcaption", { title: m.a.name }, m.a.name, figure);
    const frame = m.frame = html("div", { class: "frame" }, null, figure);
    m.canvas = html("canvas", { role: "img", tabindex: "0", "aria-label": `Map of ${counted(m.p.n, "point")} of ${m.a.name}. Arrow keys move it, plus and minus zoom, 0 shows all, Enter describes the point in the center. The tables of classes and of pairs present its content.` }, null, frame);
    m.overlay = html("canvas", { class: "overlay", "aria-hidden": "true" }, null, frame);
    m.context = m.canvas.getContext("2d", { willReadFrequently: !webgl, alpha: false });  // opaque, so that moving it needs no blending
    m.painter = webgl ? new WebglPoints(m.canvas, m.context, webgl, `map ${m.i}`, m.p) : new Raster(m.canvas, m.context, m.p.n);
    const high = m.p.size;
    m.box = { x: m.p.left + high / 2, y: m.p.bottom + high / 2, size: high * 1.06 };
    m.anchors = {};
  }
  if (pageData.steps) {  // the same axes on all maps
    const end = (side, key) => side(...maps.map(m => m.box[key] + (side === Math.max ? 1 : -1) * m.box.size / 2));
    const [a, b, c, d] = [end(Math.min, "x"), end(Math.max, "x"), end(Math.min, "y"), end(Math.max, "y")];
    for (const m of maps) m.box = { x: (a + b) / 2, y: (c + d) / 2, size: Math.max(b - a, d - c) };
  }
  for (const m of maps) m.view = { ...m.box };

  // ---- colors: by density, of up to ten groups, or of chosen groups -------------------------------------------------

  const nGroups = m => state.by === "community" ? m.a.communities.n_communities : m.a.classes.length;
  const codesOf = m => state.by === "density" ? m.p.density : state.by === "community" ? m.p.community : m.p.class_code;
  const mostGroups = () => Math.max(...maps.map(nGroups));
  function suggested() {  // groups to color if there are too many to give each a color
    if (state.by === "community") return [...Array(MOST_COLORED).keys()];
    const { purity } = analyses[0].rld, local = purity[localAt(analyses[0])] || [];
    return analyses[0].classes.map((_, c) => c).sort((p, q) => (local[p] ?? 2) - (local[q] ?? 2)).slice(0, MOST_COLORED);
  }
  const shown = () => state.by !== "density" && !state.chosen.length && mostGroups() > MOST_COLORED ? suggested() : state.chosen;
  function colorOfGroup(g) {
    if (mostGroups() <= MOST_COLORED) return css(`--c${g}`);
    const at = shown().indexOf(g);
    return at < 0 ? css("--rest") : css(`--c${at % MOST_COLORED}`);
  }
  function tableOf(m) {  // red, green, blue and weight of each code
    const table = new Float32Array(4 * 65536), chosen = new Set(shown());
    const put = (code, color, weight) => table.set([...rgb(color), weight], 4 * code);
    if (state.by === "density") {
      for (let v = 0; v < 255; v++) put(v, densityColor(v / 254), 1);
      put(NO_DENSITY, css("--rest"), 0.2);
      return table;
    }
    const n = Math.min(65535, nGroups(m)), rest = css("--rest"), few = mostGroups() <= MOST_COLORED;
    for (let g = 0; g < n; g++) {
      const front = !chosen.size || chosen.has(g);
      put(g, front && (few || chosen.has(g)) ? colorOfGroup(g) : rest, front ? 1 : 0.02);
    }
    put(UNLABELLED, rest, 0.02);
    return table;
  }
  const theme = {};
  const restyle = () => {  // read once: asking for the style at each name would cost more than drawing the points
    for (const name of ["card", "ink", "faint"]) theme[name] = css(`--${name}`);
    theme.ground = rgb(theme.faint);
    theme.font = fontFamily();
    for (const m of maps) m.table = tableOf(m);
  };

  const plain = html("p", { class: "note", hidden: "" }, "Drawn without WebGL, which this browser lacks or runs too slowly.", section);
  const sayPlain = () => { plain.hidden = false; };
  if (!webgl) sayPlain();

  // ---- drawing -------------------------------------------------------------------------------------------------------

  function project(m) {
    const width = m.canvas.clientWidth, height = m.height, scale = Math.min(width, height) / m.view.size;
    return { X: x => width / 2 + (x - m.view.x) * scale, Y: y => height / 2 - (y - m.view.y) * scale, scale, width, height };
  }
  function radiusOf(m) {
    const zoom = Math.sqrt(m.box.size / m.view.size), full = Math.min(1, m.canvas.clientWidth / 500);
    return full * Math.min(5, Math.max(m.p.n > 30000 ? 0.5 : 1.2, 170 / Math.sqrt(m.p.n)) * zoom);
  }
  function draw(m, moving = false) {
    const width = m.canvas.clientWidth;
    if (!width) return;
    m.height = Math.round(width * (several ? 0.86 : width < 500 ? 1 : 0.62));
    m.canvas.style.height = m.overlay.style.height = m.height + "px";
    const ratio = moving ? 1 : Math.min(2, devicePixelRatio || 1), { X, Y, scale } = project(m), step = m.p.size / STEPS;
    const options = {
      xs: m.p.xs, ys: m.p.ys, codes: codesOf(m), table: m.table, scale: scale * step * ratio, left: X(m.p.left) * ratio, top: Y(m.p.bottom) * ratio,
      radius: radiusOf(m) * ratio, ground: theme.ground, every: moving ? m.painter.every(MOST_MOVING) : 1, boosted: m.selected || null,
    };
    const size = [Math.round(width * ratio), Math.round(m.height * ratio)], plainly = () => { m.painter = new Raster(m.canvas, m.context, m.p.n); sayPlain(); };
    m.painter.resize(...size);
    if (m.painter instanceof WebglPoints && !m.painter.last && m.painter.tooSlow(options)) webgl.lost = true;
    const stale = () => m.painter instanceof WebglPoints && webgl.lost;
    if (!stale()) m.painter.draw(options);
    if (stale()) { plainly(); m.painter.resize(...size); m.painter.draw(options); }
    drawNames(m, ratio);
    slide(m, 0, 0);
    m.canvas.dataset.drawn = `${state.by}:${state.chosen.join(",")}`;
    drawOverlay(m);
  }
  function drawNames(m, ratio = m.canvas.width / m.canvas.clientWidth) {  // into the picture of the points: a second canvas above it would have to be moved with it
    const { X, Y, width, height } = project(m), g = m.context;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const name of namesOf(m, X, Y, width, height)) {
      g.font = `${name.strong ? 700 : 600} ${name.size}px ${theme.font}`;
      g.textAlign = "center"; g.lineWidth = 3.5; g.lineJoin = "round";
      g.strokeStyle = theme.card; g.fillStyle = theme.ink;
      g.strokeText(name.text, name.x, name.y); g.fillText(name.text, name.x, name.y);
    }
  }
  function drawOverlay(m) {  // the marked point, the lasso
    m.overlay.hidden = state.marked < 0 && !m.path;
    if (m.overlay.hidden) return;
    const ratio = Math.min(2, devicePixelRatio || 1), { X, Y, width, height } = project(m);
    [m.overlay.width, m.overlay.height] = [width * ratio, height * ratio];
    const g = m.overlay.getContext("2d");
    g.scale(ratio, ratio);
    const at = state.marked < 0 || state.marked >= m.p.n_points ? -1 : positionsByRow(m.p)[state.marked];
    if (at >= 0) {
      const [x, y] = positionOf(m.p, at);
      for (const [color, line] of [[theme.card, 5], [theme.ink, 2.5]]) {
        g.strokeStyle = color; g.lineWidth = line;
        g.beginPath(); g.arc(X(x), Y(y), 8, 0, 6.3); g.stroke();
      }
    }
    if (m.path) {
      g.strokeStyle = theme.ink; g.lineWidth = 1.5; g.setLineDash([4, 3]); g.fillStyle = "rgba(128,128,128,.15)";
      g.beginPath(); m.path.forEach(([x, y], i) => i ? g.lineTo(X(x), Y(y)) : g.moveTo(X(x), Y(y))); g.closePath(); g.fill(); g.stroke();
    }
  }
  function namesOf(m, X, Y, width, height) {  // names that do not overlap: chosen groups first, then the largest
    if (!state.names) return [];
    const by = state.by === "community" ? "community" : "class_code", n = by === "community" ? m.a.communities.n_communities : m.a.classes.length;
    m.anchors[by] ??= n <= 4000 ? anchorsOf(m.p, m.p[by], n) : [];
    const chosen = new Set(shown()), size = several ? 11 : 12.5, boxes = [], found = [];
    const front = state.by === "density" ? m.anchors[by] : [...m.anchors[by].filter(a => chosen.has(a.g)), ...m.anchors[by].filter(a => !chosen.has(a.g))];
    for (const { g, x, y } of front) {
      if (found.length >= MOST_NAMES) break;
      if ((state.chosen.length || chosen.size && state.by !== "density") && !chosen.has(g)) continue;
      const text = by === "community" ? String(g) : clip(m.a.classes[g], several ? 16 : 26), half = text.length * size * 0.32 + 5;
      const px = X(m.p.left + x / STEPS * m.p.size), py = Y(m.p.bottom + y / STEPS * m.p.size) + 4;
      if (px - half < 2 || px + half > width - 2 || py < 14 || py > height - 4) continue;
      if (boxes.some(b => Math.abs(b.x - px) < b.half + half && Math.abs(b.y - py) < size + 4)) continue;
      boxes.push({ x: px, y: py, half });
      found.push({ text, x: px, y: py, size, strong: chosen.has(g) });
    }
    return found;
  }
  const waiting = new Map();
  function redraw(m, moving = false) {  // at most once per frame; all points when the map stands still
    clearTimeout(m.settle);
    if (moving) m.settle = setTimeout(() => redraw(m), 160);
    if (!waiting.size) requestAnimationFrame(() => { const all = [...waiting]; waiting.clear(); for (const [map, fast] of all) draw(map, fast); });
    waiting.set(m, moving);
  }
  function slide(m, dx, dy) {  // moves the pictures at once; they are redrawn when they stand still, or when too much of the frame is empty
    m.slid = [dx, dy];
    m.canvas.style.transform = m.overlay.style.transform = dx || dy ? `translate(${dx}px,${dy}px)` : "";
  }
  function drag(m, dx, dy) {
    const [x, y] = [m.slid[0] + dx, m.slid[1] + dy];
    if (Math.max(Math.abs(x), Math.abs(y)) > 0.2 * m.height) { redraw(m, true); return; }
    slide(m, x, y);
    clearTimeout(m.settle);
    m.settle = setTimeout(() => redraw(m), 90);
  }
  const redrawAll = () => { restyle(); maps.forEach(m => redraw(m)); };
  pointAtRow = row => { if (row !== state.marked) { state.marked = row; maps.forEach(drawOverlay); } };
  const near = (m, clientX, clientY) => {
    const box = m.frame.getBoundingClientRect(), { scale, width, height } = project(m), chosen = new Set(state.chosen), codes = codesOf(m);
    const x = m.view.x + (clientX - box.left - width / 2) / scale, y = m.view.y - (clientY - box.top - height / 2) / scale, step = STEPS / m.p.size;
    return nearestPoint(m.p, Math.round((x - m.p.left) * step), Math.round((y - m.p.bottom) * step), Math.max(1, Math.round(12 / scale * step)), i => !chosen.size || chosen.has(codes[i]));
  };
  const describe = (m, i) => {
    const code = m.p.class_code[i], density = densityOf(m.p, i);
    return `${code === UNLABELLED ? "unlabelled" : m.a.classes[code]}\nrow ${rowOf(m.p, i).toLocaleString("en")} · community ${m.p.community[i]}\nlocal density ${density === null ? "–" : density.toFixed(3)}`;
  };
  const tools = { maps, state, project, redraw, drag, redrawAll, drawNames, drawOverlay, near, describe, codesOf, nGroups, mostGroups, shown, colorOfGroup };
  for (const m of maps) interact(m, tools);
  mapControls(tools);
  PICTURES.map = () => maps.map(m => ({ node: mapPicture(m, tools, namesOf), caption: several ? m.a.name : "", styled: true }));
  mapRows = (only = null) => mapLines(maps, only);
  PIECES.map = mapRows;
  restyle();
  maps.forEach(m => draw(m));
  let wait = 0;
  addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(redrawAll, 80); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  addEventListener("beforeprint", () => { restyle(); maps.forEach(m => draw(m)); });
}

// ---- downloads ------------------------------------------------------------------------------------------------------

const MOST_CIRCLES = 20000;

function mapPicture(m, { project, codesOf, drawNames }, namesOf) {  // as currently colored and zoomed: circles, or pixels if there are many points
  const { X, Y, width: W, height: H } = project(m), root = svg("svg", { viewBox: `0 0 ${W} ${H}` });
  if (m.p.n > MOST_CIRCLES) {
    m.painter.show();  // the names are texts
    svg("image", { href: m.canvas.toDataURL("image/png"), width: W, height: H }, root);
    drawNames(m);
  } else {
    const codes = codesOf(m), r = Math.max(1, Math.min(3.5, 110 / Math.sqrt(m.p.n)));
    for (let i = 0; i < m.p.n; i++) {
      const [x, y] = positionOf(m.p, i), [px, py] = [X(x), Y(y)];
      if (px < 0 || py < 0 || px > W || py > H) continue;
      const [red, green, blue, weight] = m.table.subarray(4 * codes[i], 4 * codes[i] + 4);
      svg("circle", { cx: px.toFixed(1), cy: py.toFixed(1), r: r.toFixed(1), fill: `rgb(${red},${green},${blue})`, "fill-opacity": weight < 1 ? .3 : .82 }, root);
    }
  }
  for (const { text: content, x, y, size } of namesOf(m, X, Y, W, H)) {
    text(root, x, y, content, { "text-anchor": "middle", "font-size": size, "font-weight": 600, "font-family": "sans-serif", fill: css("--ink"), stroke: css("--card"), "stroke-width": 3, "paint-order": "stroke" });
  }
  return root;
}
function mapLines(maps, only) {  // pieces of a CSV file; `only` holds the entries wanted of each map, null for all
  const head = [...(several ? ["model"] : []), "row", "x", "y", "class", "community", "local_density"];
  const pieces = [csvLine(head)];
  for (const m of maps) {
    let piece = [];
    const wanted = only === null ? null : only.get(m) || new Uint8Array(m.p.n);
    for (let i = 0; i < m.p.n; i++) {
      if (wanted !== null && !wanted[i]) continue;
      const [x, y] = positionOf(m.p, i), code = m.p.class_code[i], density = densityOf(m.p, i);
      piece.push(csvLine([...(several ? [m.a.name] : []), rowOf(m.p, i), +x.toPrecision(6), +y.toPrecision(6), code === UNLABELLED ? "" : m.a.classes[code], m.p.community[i], density === null ? "" : +density.toFixed(3)]));
      if (piece.length === 20000) { pieces.push(piece.join("")); piece = []; }
    }
    pieces.push(piece.join(""));
  }
  return pieces;
}
