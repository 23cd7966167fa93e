// Downloads of each card: its pictures as SVG and PNG, its numbers as CSV.

// Downloads of a card, by its id, that are not its drawings and the rows of its tables: drawings, rows, pieces of the text of a CSV file.
const PICTURES = {}, NUMBERS = {}, PIECES = {};

const STYLED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "font-size", "font-weight", "font-family"];

function standalone(node) {  // a copy with the computed style of every element, which needs no style sheet
  const copy = node.cloneNode(true);
  const originals = [node, ...node.querySelectorAll("*")], copies = [copy, ...copy.querySelectorAll("*")];
  originals.forEach((original, i) => {
    const style = getComputedStyle(original);
    copies[i].removeAttribute("class");
    copies[i].removeAttribute("style");
    for (const property of STYLED) copies[i].setAttribute(property, style.getPropertyValue(property).replaceAll('"', "'"));
    if (["title", "style"].includes(original.tagName)) copies[i].remove();
  });
  return copy;
}
const DRAWINGS = ".chart svg, figure svg, .multiples svg";
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
  if (card.id in PICTURES) return PICTURES[card.id]();
  const drawings = [...card.querySelectorAll(DRAWINGS)], tables = drawings.length ? [] : [...card.querySelectorAll("table")].filter(table => table.querySelector("td.bar"));
  return tables.map(table => ({ node: barPicture(table), caption: tables.length > 1 || table.dataset.model ? table.caption.textContent : "", styled: true })).concat(drawings.map(node => {
    const figure = node.closest("figure"), caption = figure && figure.querySelector("figcaption");
    return { node, caption: caption ? caption.textContent : "" };
  }));
}

// ---- numbers ----------------------------------------------------------------------------------------------------

function tableRows(card) {
  return [...card.querySelectorAll("table")].flatMap(table => {
    const names = [...table.tHead.rows[0].cells].map(cell => cell.textContent);
    return [...table.tBodies[0].rows].map(row => Object.fromEntries(names.map((name, i) => [name, row.cells[i].textContent])));
  });
}
function csvCell(value) {
  const plain = value === null || value === undefined ? "" : String(value);
  // A text that a spreadsheet would read as a formula is quoted to stay a text.
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
  const name = card.id || `table-${number}`, hasPicture = card.querySelector(`${DRAWINGS}, canvas, td.bar`);
  const rows = NUMBERS[name] || (() => tableRows(card));
  if (!hasPicture && !card.querySelector("table, img")) return;
  const box = html("div", { class: "downloads" }, null, card);
  const offer = (label, act) => html("button", { type: "button", "data-format": label.toLowerCase() }, label, box).addEventListener("click", act);
  if (hasPicture) {
    offer("SVG", () => save(new Blob([picture(card).text], { type: "image/svg+xml" }), `${name}.svg`));
    offer("PNG", () => savePng(picture(card), `${name}.png`));
  }
  offer("CSV", () => save(new Blob(name in PIECES ? PIECES[name]() : [csvText(rows())], { type: "text/csv" }), `${name}.csv`));
}
