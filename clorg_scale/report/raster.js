// Points as pixels where a browser offers no WebGL, or one too slow for them (else webgl.js). Each point adds its color, weighted by the share of the pixel it
// covers, and a pixel shows the mean: what is dense looks dense, and nothing depends on the order in which points are drawn.

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
  constructor(canvas, context, n) {
    [this.canvas, this.context, this.n] = [canvas, context, n];
  }
  every(most) {  // each so manieth point is drawn while the map moves
    return Math.ceil(this.n / most);
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
