// Points drawn by deck.gl with WebGL: translucent circles in random order, so that none hides the others. One context draws the maps of all
// models, one after another, into their canvases: browsers grant few contexts to a page.

const THIN = 0.12, FULL = 0.85;  // opacity of a point among very many, and of one that stands alone
const IN_TIME = 8, TOO_SLOW = 1500;  // milliseconds: for a frame while the map moves; for all points, beyond which the raster is better
const BEHIND = 0.3;  // factor of the opacity of a point that was not chosen

async function openWebgl() {  // null where the browser offers none
  try {
    const canvas = document.createElement("canvas");
    DeckGl.lumaLog.level = -1;  // readers need no messages about drivers
    const device = await DeckGl.luma.createDevice({
      type: "webgl", adapters: [DeckGl.webgl2Adapter], createCanvasContext: { canvas, autoResize: false, useDevicePixels: false },
      webgl: { preserveDrawingBuffer: true, antialias: false, depth: false, stencil: false },
    });
    const webgl = new Webgl(canvas, device);
    await webgl.start();
    return webgl;
  } catch {
    return null;
  }
}

const DISCS = `layout(std140) uniform discsUniforms {
  float size;
  float opacity;
} discs;`;
const pointLayer = () => class extends DeckGl.Layer {  // discs of one size; one vertex each, not an instance: software GL draws instances one by one
  static layerName = "Points";
  static defaultProps = { getPosition: { type: "accessor", value: null }, getFillColor: { type: "accessor", value: null }, radius: 1 };
  getShaders() {
    return super.getShaders({
      vs: `#version 300 es
        in vec3 positions; in vec4 colors; out vec4 color;
        void main() {
          geometry.worldPosition = positions;
          gl_Position = project_position_to_clipspace(positions, vec3(0.0), vec3(0.0), geometry.position);
          gl_PointSize = discs.size; color = vec4(colors.rgb, colors.a * discs.opacity);
        }`,
      fs: `#version 300 es
        precision highp float;
        in vec4 color; out vec4 fragColor;
        void main() {
          float share = discs.size < 2.0 ? 1.0 : clamp(0.5 * discs.size - length(gl_PointCoord - 0.5) * discs.size, 0.0, 1.0);
          if (share == 0.0) discard;
          fragColor = vec4(color.rgb, color.a * share);
        }`,
      modules: [DeckGl.project32, { name: "discs", vs: DISCS, fs: DISCS, uniformTypes: { size: "f32", opacity: "f32" } }],
    });
  }
  initializeState() {
    const attributes = this.getAttributeManager();
    attributes.add({ positions: { size: 3, type: "float32", accessor: "getPosition" }, colors: { size: 4, type: "unorm8", accessor: "getFillColor" } });
    this.state.model = new DeckGl.Model(this.context.device, { ...this.getShaders(), id: this.props.id, bufferLayout: attributes.getBufferLayouts(), topology: "point-list" });
  }
  draw() {
    const { model } = this.state, { data, radius, opacity } = this.props;
    if (!data.length) return;
    model.setVertexCount(data.length);
    model.shaderInputs.setProps({ discs: { size: radius < 0.8 ? 1 : 2 * radius + 1, opacity } });
    model.draw(this.context.renderPass);
  }
};

class Webgl {
  constructor(canvas, device) {
    [this.canvas, this.device, this.surface, this.layers, this.lost] = [canvas, device, device.canvasContext, new Map(), false];
    this.PointLayer = pointLayer();
    canvas.addEventListener("webglcontextlost", () => { this.lost = true; });
  }
  async start() {
    await new Promise((resolve, reject) => {
      const onError = error => { this.lost = true; reject(error); };  // also later: a driver may refuse what it accepted at first
      this.deck = new DeckGl.Deck({ device: this.device, controller: false, views: [], layers: [], onLoad: resolve, onError });
    });
    this.deck.animationLoop.stop();  // maps are drawn only when they change
  }
  draw(id, layers, { width, height, x, y, scale }, timed) {  // x, y: the center in steps; scale: pixels per step
    [this.surface.cssWidth, this.surface.cssHeight] = [width, height];
    this.surface.setDrawingBufferSize(width, height);
    this.layers.set(id, layers);
    this.deck.setProps({
      views: [new DeckGl.OrthographicView({ id, flipY: false, x: 0, y: 0, width, height })],
      viewState: { [id]: { target: [x, y, 0], zoom: Math.log2(scale) } },
      layers: [...this.layers.values()].flat(),
      layerFilter: ({ layer, viewport }) => layer.props.map === viewport.id,
    });
    const start = performance.now();
    this.deck.animationLoop.redraw();  // draw a whole frame now, even if none is scheduled
    if (!timed) return 0;
    this.device.gl.readPixels(0, 0, 1, 1, 6408, 5121, new Uint8Array(4));  // waits for the last pixel
    return performance.now() - start;
  }
}

class WebglPoints {  // points of one map, with the methods of a Raster
  constructor(canvas, context, webgl, id, p) {
    [this.canvas, this.context, this.webgl, this.id, this.order] = [canvas, context, webgl, id, shuffled(p.n)];
    [this.crowd, this.pace] = [crowdOf(p), 0];  // pace: milliseconds to draw all points
  }
  every(most) {  // as Raster.every, but fewer points where drawing is slow
    return Math.max(Math.ceil(this.order.length / most), Math.ceil(this.pace / IN_TIME));
  }
  tooSlow(options) {  // extrapolated from a sample: true where WebGL is emulated
    const { length } = this.order, every = Math.ceil(length / 60000);
    if (every < 4) return false;
    this.draw({ ...options, every, timed: false });  // warm-up: buffers and shaders are made on the first draw
    this.draw({ ...options, every, timed: true });
    return this.pace > TOO_SLOW;
  }
  resize(width, height) {
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
  }
  draw(options) {
    this.last = options;
    const { scale, left, top, every = 1, timed = every === 1 } = options, { radius } = options, { width, height } = this.canvas;
    this.sort(options);
    const covering = 1 + Math.max(1, Math.PI * radius * radius) * (this.crowd - 1) / (256 * scale) ** 2;  // mean number of points on a pixel that holds any
    const opacity = Math.min(FULL, Math.max(THIN, 1 - 0.05 ** (1 / covering)));
    const layers = Object.entries(this.parts).map(([name, { n, attributes }]) => new this.webgl.PointLayer({
      id: `${this.id} ${name}`, map: this.id, data: { length: Math.ceil(n / every), attributes }, radius, opacity: name === "behind" ? BEHIND * opacity : opacity,
      coordinateSystem: "cartesian", parameters: { depthCompare: "always", depthWriteEnabled: false },
    }));
    const took = this.webgl.draw(this.id, layers, { width, height, x: (width / 2 - left) / scale, y: (top - height / 2) / scale, scale }, timed);
    if (timed) this.pace = took * every;
    this.copy();
  }
  show() {  // the points without names, as last drawn
    this.draw(this.last);
  }
  copy() {
    const { context: g, canvas: { width, height }, last: { ground } } = this;
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.fillStyle = `rgb(${ground.join(",")})`;
    g.fillRect(0, 0, width, height);
    g.drawImage(this.webgl.canvas, 0, 0);
  }
  sort({ xs, ys, codes, table, boosted }) {  // positions and colors of the points behind and of those in front
    const [a, b, c] = this.sorted || [];
    if (a === codes && b === table && c === boosted) return;
    this.sorted = [codes, table, boosted];
    const n = this.order.length, front = i => table[4 * codes[i] + 3] >= 0.1 && (boosted === null || boosted[i] === 1);
    let nFront = 0;
    for (let i = 0; i < n; i++) nFront += front(i);
    const part = size => ({ n: 0, places: new Float32Array(2 * size), colors: new Uint8Array(4 * size) }), parts = { behind: part(n - nFront), front: part(nFront) };
    for (const i of this.order) {
      const to = front(i) ? parts.front : parts.behind, at = to.n++, color = 4 * codes[i];
      to.places[2 * at] = xs[i]; to.places[2 * at + 1] = ys[i];
      to.colors[4 * at] = table[color]; to.colors[4 * at + 1] = table[color + 1]; to.colors[4 * at + 2] = table[color + 2]; to.colors[4 * at + 3] = 255;
    }
    for (const to of Object.values(parts)) to.attributes = { getPosition: { value: to.places, size: 2 }, getFillColor: { value: to.colors, size: 4, normalized: true } };
    this.parts = parts;
  }
}

function shuffled(n) {  // random order of n points, the same on each page
  const order = new Uint32Array(n);
  let seed = 1;
  for (let i = 0; i < n; i++) {
    seed = Math.imul(seed, 1664525) + 1013904223 >>> 0;
    const j = Math.floor(seed / 4294967296 * (i + 1));
    order[i] = order[j]; order[j] = i;
  }
  return order;
}
function crowdOf(p) {  // mean number of points in the cell of a point, among 256 x 256 cells
  const { starts } = gridOf(p);
  let sum = 0;
  for (let c = 0; c < 65536; c++) sum += (starts[c + 1] - starts[c]) ** 2;
  return sum / Math.max(1, p.n);
}
