// Points as pixels. Each point adds its color, weighted by the share of the pixel it covers, and a pixel shows the mean: what
// is dense looks dense, and nothing depends on the order in which points are drawn.

const STEPS = 65535;  // positions are rounded to so many steps along the side of the map (points.py)

function stamp(radius, width) {  // pixels of a disc: their places from its middle, and the share of each that is covered
  const places = [], shares = [], reach = Math.ceil(radius);
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const share = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      if (share > 0.05) { places.push(4 * (dy * width + dx)); shares.push(share); }
    }
  }
  return { places: Int32Array.from(places), shares: Float32Array.from(shares), reach };
}

class Raster {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });  // opaque: moving it costs no blending
  }
  resize(width, height) {
    if (this.image && this.image.width === width && this.image.height === height) return;
    [this.canvas.width, this.canvas.height] = [width, height];
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.sums = new Float32Array(4 * width * height);
  }
  // xs, ys: steps; scale, left, top: pixel = left + scale * x and top - scale * y; table: red, green, blue and weight of each code;
  // ground: red, green and blue behind the points; every: draw each so manieth point; boosted: points that are drawn in front.
  draw({ xs, ys, codes, table, scale, left, top, radius, ground, every = 1, boosted = null }) {
    const { sums } = this;
    sums.fill(0);
    if (radius <= 0.8) this.dots(xs, ys, codes, table, scale, left, top, every, boosted);
    else this.discs(xs, ys, codes, table, scale, left, top, stamp(radius, this.image.width), every, boosted);
    this.shade(radius > 0.8 ? 0 : this.peak(), ground);
    this.show();
  }
  show() {  // the points alone
    this.context.putImageData(this.image, 0, 0);
  }
  peak() {  // logarithm of a weight that few pixels pass
    const { sums } = this;
    let sum = 0, filled = 0;
    for (let at = 3; at < sums.length; at += 4) if (sums[at] > 0) { sum += sums[at]; filled++; }
    return Math.log1p(Math.max(1, 6 * sum / Math.max(1, filled)));
  }
  dots(xs, ys, codes, table, scale, left, top, every, boosted) {
    const { sums, image: { width, height } } = this, n = xs.length;
    for (let i = 0; i < n; i += every) {
      const x = left + xs[i] * scale, y = top - ys[i] * scale;
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      const at = 4 * ((y | 0) * width + (x | 0)), color = 4 * codes[i];
      let weight = table[color + 3];
      if (boosted !== null && !boosted[i]) weight *= 0.02;
      sums[at] += table[color] * weight; sums[at + 1] += table[color + 1] * weight; sums[at + 2] += table[color + 2] * weight;
      sums[at + 3] += weight;
    }
  }
  discs(xs, ys, codes, table, scale, left, top, { places, shares, reach }, every, boosted) {  // those that are whole
    const { sums, image: { width, height } } = this, n = xs.length, size = places.length;
    for (let i = 0; i < n; i += every) {
      const x = Math.floor(left + xs[i] * scale), y = Math.floor(top - ys[i] * scale);
      if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
      const color = 4 * codes[i], own = table[color + 3] * (boosted !== null && !boosted[i] ? 0.02 : 1), middle = 4 * (y * width + x);
      const red = table[color] * own, green = table[color + 1] * own, blue = table[color + 2] * own;
      for (let k = 0; k < size; k++) {
        const at = middle + places[k], share = shares[k];
        sums[at] += red * share; sums[at + 1] += green * share; sums[at + 2] += blue * share; sums[at + 3] += own * share;
      }
    }
  }
  shade(logPeak, [red, green, blue]) {  // color of each pixel over the ground; logPeak 0: opacity is the share that is covered
    const { sums, pixels } = this, n = pixels.length, empty = 255 << 24 | blue << 16 | green << 8 | red;
    for (let p = 0, at = 0; p < n; p++, at += 4) {
      const weight = sums[at + 3];
      if (weight === 0) { pixels[p] = empty; continue; }
      let opacity;
      if (logPeak > 0) opacity = Math.min(1, 0.42 + 0.58 * Math.log1p(weight) / logPeak);
      else opacity = weight < 0.03 ? 0.3 : Math.min(0.95, 0.15 + 0.8 * weight);
      const share = opacity / weight, rest = 1 - opacity;
      pixels[p] = 255 << 24 | (sums[at + 2] * share + blue * rest) << 16 | (sums[at + 1] * share + green * rest) << 8 | sums[at] * share + red * rest;
    }
  }
}

// ---- the points of the page ---------------------------------------------------------------------------------------

function unpackMaps() {  // of each analysis: the packed columns (points.py), or its sample where the file with them is missing
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

function positionsByRow(p) {  // entry of each row on the map; -1 where it is not there
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
function nearestPoint(p, x, y, reach, accept) {  // within `reach` steps of a position in steps; -1 where there is none
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
function anchorsOf(p, codes, n) {  // where the name of each group stands: the mean of its points in its fullest cell of 24 x 24
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
