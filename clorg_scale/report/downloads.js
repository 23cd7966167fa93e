// Downloads of each card: its pictures as SVG and PNG, its numbers as CSV.

const STYLED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "font-size", "font-weight", "font-family"];

function standalone(node) {  // a copy with the computed style of every element, which needs no style sheet
  const copy = node.cloneNode(true);
  const originals = [node, ...node.querySelectorAll("*")], copies = [copy, ...copy.querySelectorAll("*")];
  originals.forEach((original, i) => {
    const style = getComputedStyle(original);
    copies[i].removeAttribute("class");
    copies[i].removeAttribute("style");
    for (const property of STYLED) copies[i].setAttribute(property, style.getPropertyValue(property).replaceAll('"', "'"));
    if (original.tagName === "title") copies[i].remove();
  });
  return copy;
}
function sizeOf(node) {
  const box = node.viewBox.baseVal;
  return { w: box.width, h: box.height };
}
function picture(card) {  // all drawings of a card in one SVG, side by side, three to a row
  const drawings = picturesOf(card), GAP = 24, CAPTION = 22;
  if (!drawings.length) return null;
  const columns = Math.min(drawings.length, drawings.length > 4 ? 4 : 2);
  const cells = drawings.map(d => ({ ...d, ...sizeOf(d.node) }));
  const w = Math.max(...cells.map(c => c.w)), rows = [];
  for (let i = 0; i < cells.length; i += columns) rows.push(cells.slice(i, i + columns));
  const heights = rows.map(row => Math.max(...row.map(c => c.h + (c.caption ? CAPTION : 0))));
  const W = columns * w + (columns + 1) * GAP, H = heights.reduce((a, b) => a + b + GAP, GAP);
  const root = svg("svg", { xmlns: SVG, width: W, height: H, viewBox: `0 0 ${W} ${H}` });
  svg("rect", { width: W, height: H, fill: css("--card") }, root);
  let top = GAP;
  rows.forEach((row, r) => {
    row.forEach((cell, c) => {
      const x = GAP + c * (w + GAP), under = cell.caption ? CAPTION : 0;
      if (cell.caption) text(root, x, top + 14, cell.caption, { fill: css("--ink"), "font-size": "14px", "font-weight": 600, "font-family": "sans-serif" });
      const copy = cell.styled ? cell.node : standalone(cell.node);
      for (const [key, value] of Object.entries({ x, y: top + under, width: cell.w, height: cell.h })) copy.setAttribute(key, value);
      root.append(copy);
    });
    top += heights[r] + GAP;
  });
  return { text: new XMLSerializer().serializeToString(root), W, H };
}
function picturesOf(card) {
  if (card.id === "map") return mapPictures();
  const tables = [...card.querySelectorAll("table")].filter(table => table.querySelector("i"));
  if (tables.length && !card.querySelector(".chart svg, figure svg, .multiples svg")) return tables.map(table => ({ node: barPicture(table), caption: tables.length > 1 ? table.caption.textContent : "", styled: true }));
  return [...card.querySelectorAll("svg:not(.key)")].map(node => {
    const figure = node.closest("figure"), caption = figure && figure.querySelector("figcaption");
    return { node, caption: caption ? caption.textContent : "" };
  });
}
function barPicture(table) {  // a table of bars as it is sorted and unfolded now: at most a hundred rows
  const rows = [...table.tBodies[0].rows].filter(row => !row.hidden).slice(0, 100), bars = row => [...row.querySelectorAll("td.bar")];
  const n = rows.length ? bars(rows[0]).length : 0, wide = 150, left = 210, W = left + n * (wide + 80), step = 22;
  const root = svg("svg", { viewBox: `0 0 ${W} ${(rows.length + 1) * step + 8}` }), ink = { fill: css("--ink"), "font-size": "12px", "font-family": "sans-serif" };
  const names = [...table.tHead.rows[0].cells].filter((_, at) => rows.length && rows[0].cells[at].classList.contains("bar"));
  names.forEach((cell, i) => text(root, left + i * (wide + 80), 14, clip(cell.textContent, 34), { ...ink, "font-weight": 600 }));
  rows.forEach((row, r) => {
    const own = [...row.cells].filter(cell => cell.querySelector("button")), name = (own.length ? own : [row.cells[0]]).map(cell => cell.textContent).join(" · ");
    text(root, left - 10, (r + 1) * step + 15, clip(name, 31), { ...ink, "text-anchor": "end" });
    bars(row).forEach((cell, i) => {
      const bar = cell.querySelector("i"), color = bar.style.background.match(/--c\d/);
      svg("rect", { x: left + i * (wide + 80), y: (r + 1) * step + 5, width: Math.max(0, parseFloat(bar.style.width) / 100 * wide), height: 13, fill: css(color ? color[0] : "--c0") }, root);
      text(root, left + i * (wide + 80) + wide + 8, (r + 1) * step + 16, clip(cell.textContent, 11), ink);
    });
  });
  return root;
}

// ---- numbers ----------------------------------------------------------------------------------------------------

const byModel = rows => analyses.flatMap(a => rows(a).map(row => several ? { model: a.name, ...row } : row));
const NUMBERS = {
  rld: () => byModel(a => a.rld.temperatures.map((temperature, t) => ({ temperature, rld: a.rld.values[t], stderr: a.rld.stderr[t], shuffled: a.rld.null_mean[t] }))),
  chi: () => byModel(a => Object.entries(a.class_homogeneity).map(([k, chi]) => ({ k, chi, stderr: a.class_homogeneity_stderr[k] ?? "" }))),
  probes: () => byModel(a => a.probes.map(p => ({ probe: p.name, accuracy: p.accuracy, low: p.accuracy_interval[0], high: p.accuracy_interval[1], parameters: p.n_parameters, seconds: p.seconds }))),
  classes: () => byModel(a => a.classes.flatMap((name, c) => a.rld.temperatures.map((temperature, t) => ({ class: name, points: a.class_sizes[c], temperature, purity: a.rld.purity[t][c], contribution: a.rld.per_class[t][c] })))),
  study: () => byModel(a => a.probe_study.map(row => ({ probe: row.result.name, labels: row.label_fraction, k: row.k, temperature: row.temperature, accuracy: row.result.accuracy, low: row.result.accuracy_interval[0], high: row.result.accuracy_interval[1] }))),
  spectrum: () => byModel(a => a.spectrum ? a.spectrum.eigenvalues.map((eigenvalue, i) => ({ number: i + 1, eigenvalue, class_share: a.spectrum.class_share[i] })) : []),
  pairs: () => pageData.mixing.flatMap((m, i) => m.pairs.map(([a, b, ab, ba]) => ({ ...(several ? { model: analyses[i].name } : {}), class: analyses[i].classes[a], other_class: analyses[i].classes[b], share_in_other: ab, share_of_other: ba, basis: m.basis }))),
  density: () => byModel(a => a.classes.map((name, c) => ({ class: name, local_purity: (a.rld.purity[localAt(a)] || [])[c] ?? "", global_purity: (a.rld.purity[globalAt(a)] || [])[c] ?? "" }))),
  images: () => pageData.images.suspects.map(s => ({ row: s.row, label: s.label, suggested_label: s.suggested, local_density: s.local_density, nearest: s.neighbors.map(n => n[0]).join(" "), labels_of_nearest: s.neighbors.map(n => n[1]).join("; ") })),
  communities: () => byModel(a => a.communities.class_by_community.flatMap((counts, c) => counts.map((points, community) => ({ class: a.classes[c], community, points })).filter(row => row.points || a.classes.length <= MOST_ROWS))),
};
function tableRows(card) {
  return [...card.querySelectorAll("table")].flatMap(table => {
    const names = [...table.tHead.rows[0].cells].map(cell => cell.textContent);
    return [...table.tBodies[0].rows].map(row => Object.fromEntries(names.map((name, i) => [name, row.cells[i].textContent])));
  });
}
function csvCell(value) {
  const plain = value === null || value === undefined ? "" : String(value);
  // A text that a spreadsheet would take for a formula stays a text.
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(plain) && Number.isNaN(Number(plain)) ? "'" + plain : plain;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
const csvLine = cells => cells.map(csvCell).join(",") + "\n";
function csvText(rows) {
  const names = [...new Set(rows.flatMap(row => Object.keys(row)))];
  return [names, ...rows.map(row => names.map(name => row[name]))].map(csvLine).join("");
}

// ---- buttons ----------------------------------------------------------------------------------------------------

function save(blob, name) {
  const link = html("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);  // a browser may read it after this returns
}
function savePng({ text: source, W, H }, name) {
  const image = new Image(), scale = Math.min(3, 8000 / Math.max(W, H)), canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [W * scale, H * scale];
  image.addEventListener("load", () => {
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(blob => save(blob, name), "image/png");
  });
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(source);
}
function offerDownloads(card, number) {
  const name = card.id || `table-${number}`, hasPicture = card.querySelector(".chart svg, figure svg, canvas, td.bar, .multiples svg");
  const rows = NUMBERS[name] || (() => tableRows(card));
  if (!hasPicture && !card.querySelector("table, img")) return;
  const box = html("div", { class: "downloads" }, null, card);
  const offer = (label, act) => html("button", { type: "button", "data-format": label.toLowerCase() }, label, box).addEventListener("click", act);
  if (hasPicture) {
    offer("SVG", () => save(new Blob([picture(card).text], { type: "image/svg+xml" }), `${name}.svg`));
    offer("PNG", () => savePng(picture(card), `${name}.png`));
  }
  offer("CSV", () => save(new Blob(name === "map" ? mapRows() : [csvText(rows())], { type: "text/csv" }), `${name}.csv`));
}
