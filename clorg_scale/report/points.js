// The points of the maps as stored in the page, and search among them.

const STEPS = 65535;  // positions are rounded to this many steps along a side of the map (points.py)

function unpackMaps() {  // for each analysis its packed columns (points.py), or its sample if their file is missing
  const beside = pageData.points_file, text = beside ? globalThis.clorgScalePoints : document.getElementById("points").textContent;
  if (text === undefined) return analyses.map(a => ({ ...fromSample(a), missing: beside }));
  const { buffer } = bytesOf(text);
  return pageData.points.map(layout => {
    if (!layout.n) return { n: 0 };
    const column = (Kind, name) => new Kind(buffer, layout[name], layout.n);
    return {
      ...layout, xs: column(Uint16Array, "x"), ys: column(Uint16Array, "y"), class_code: column(Uint16Array, "class_code"),
      community: column(Uint16Array, "community"), density: column(Uint8Array, "density"), rows: "index" in layout ? column(Uint32Array, "index") : null,
    };
  });
}
function fromSample({ point_map: p, n_points }) {
  const n = p.index.length, bound = (values, f) => values.reduce((u, v) => f(u, v), values[0]);
  if (!n) return { n };
  const [x0, x1, y0, y1] = [bound(p.x, Math.min), bound(p.x, Math.max), bound(p.y, Math.min), bound(p.y, Math.max)];
  const size = Math.max(x1 - x0, y1 - y0, 1e-9), left = (x0 + x1 - size) / 2, bottom = (y0 + y1 - size) / 2;
  return {
    n, n_points, left, bottom, size, rows: Uint32Array.from(p.index),
    xs: Uint16Array.from(p.x, x => Math.round((x - left) / size * STEPS)), ys: Uint16Array.from(p.y, y => Math.round((y - bottom) / size * STEPS)),
    class_code: Uint16Array.from(p.class_code, c => c < 0 ? 65535 : c), community: Uint16Array.from(p.community, c => c < 0 ? 65535 : c),
    density: Uint8Array.from(p.local_density, v => v === null ? 255 : Math.round(254 * v)),
  };
}
const UNLABELLED = 65535, NO_DENSITY = 255;
const rowOf = (p, i) => p.rows === null ? i : p.rows[i];
const densityOf = (p, i) => p.density[i] === NO_DENSITY ? null : p.density[i] / 254;
const positionOf = (p, i) => [p.left + p.xs[i] / STEPS * p.size, p.bottom + p.ys[i] / STEPS * p.size];

function positionsByRow(p) {  // position on the map's list of each row; -1 if it is not on the map
  if (!p.byRow) {
    p.byRow = new Int32Array(p.n_points).fill(-1);
    for (let i = 0; i < p.n; i++) p.byRow[rowOf(p, i)] = i;
  }
  return p.byRow;
}
function gridOf(p) {  // points by cells of 256 x 256, for the nearest point under a pointer
  if (p.grid) return p.grid;
  const starts = new Uint32Array(65537), order = new Uint32Array(p.n), cell = i => (p.ys[i] >> 8) * 256 + (p.xs[i] >> 8);
  for (let i = 0; i < p.n; i++) starts[cell(i) + 1]++;
  for (let c = 0; c < 65536; c++) starts[c + 1] += starts[c];
  const next = starts.slice();
  for (let i = 0; i < p.n; i++) order[next[cell(i)]++] = i;
  return p.grid = { starts, order };
}
function nearestPoint(p, x, y, reach, accept) {  // the nearest point within `reach` steps of a position; -1 if there is none
  const { starts, order } = gridOf(p), low = v => Math.max(0, (v - reach) >> 8), high = v => Math.min(255, (v + reach) >> 8);
  let best = -1, closest = reach * reach;
  for (let r = low(y); r <= high(y); r++) {
    for (let c = low(x); c <= high(x); c++) {
      for (let at = starts[r * 256 + c]; at < starts[r * 256 + c + 1]; at++) {
        const i = order[at], d = (p.xs[i] - x) ** 2 + (p.ys[i] - y) ** 2;
        if (d < closest && accept(i)) { closest = d; best = i; }
      }
    }
  }
  return best;
}
function anchorsOf(p, codes, n) {  // position of each group's name: the mean of its points in its fullest cell of 24 x 24
  const CELLS = 24, counts = new Uint32Array(n), fullest = new Int32Array(n).fill(-1), most = new Uint32Array(n);
  const filled = new Uint32Array(n * CELLS * CELLS), sums = new Float64Array(2 * n), taken = new Uint32Array(n);
  const cell = i => (p.ys[i] * CELLS / 65536 | 0) * CELLS + (p.xs[i] * CELLS / 65536 | 0);
  for (let i = 0; i < p.n; i++) {
    const g = codes[i];
    if (g >= n) continue;
    counts[g]++;
    const found = ++filled[g * CELLS * CELLS + cell(i)];
    if (found > most[g]) { most[g] = found; fullest[g] = cell(i); }
  }
  for (let i = 0; i < p.n; i++) {
    const g = codes[i];
    if (g >= n || cell(i) !== fullest[g]) continue;
    sums[2 * g] += p.xs[i]; sums[2 * g + 1] += p.ys[i]; taken[g]++;
  }
  return Array.from({ length: n }, (_, g) => ({ g, size: counts[g], x: sums[2 * g] / taken[g], y: sums[2 * g + 1] / taken[g] })).filter(a => a.size).sort((a, b) => b.size - a.size);
}
