// Tables that sort, search and unfold.

const SHOWN = 25;
const LONG_WORD = /\S{16}/;  // words of so many letters break where the column that stays in sight needs them to
let nTables = 0;

// Give a table buttons in its head and, if it is long, a search and a button that shows all rows. `onRow` is called with the row that is
// pointed at or focused, null if none is. Returns a function to call after the rows were replaced.
function makeTable(table, { caption, onRow = null, first = SHOWN } = {}) {
  const head = table.tHead.rows[0], body = table.tBodies[0], id = `table-of-rows-${nTables++}`, state = { limit: first, query: "" };
  if (!table.caption) table.createCaption().textContent = caption;
  table.caption.id = id;
  const frame = html("div", { class: "table-frame", tabindex: "0", role: "region", "aria-labelledby": id });
  table.replaceWith(frame);
  frame.append(table);
  const bar = html("div", { class: "controls table-controls" });
  const search = html("input", { type: "search", "aria-label": `Search: ${table.caption.textContent}`, placeholder: "search" }, null, bar);
  const count = html("span", { role: "status" }, null, bar), all = html("button", { type: "button" }, null, html("div", { class: "controls unfold" }));
  frame.before(bar);
  frame.after(all.parentNode);
  const valueOf = cell => cell.dataset.value ?? cell.textContent;
  function refresh() {
    const rows = [...body.rows], query = state.query.toLowerCase();
    let found = 0;
    for (const row of rows) {
      for (const cell of row.cells) if (cell === row.cells[0] || cell.querySelector(".plain")) cell.classList.toggle("long", LONG_WORD.test(cell.textContent));
      const fits = !query || row.textContent.toLowerCase().includes(query);
      row.hidden = !fits || ++found > state.limit;
    }
    bar.hidden = rows.length <= 10;
    count.textContent = query ? `${found.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows` : "";
    all.parentNode.hidden = found <= first;
    all.textContent = state.limit < found ? `Show all ${found.toLocaleString("en")} rows` : `Show the first ${first}`;
  }
  search.addEventListener("input", () => { state.query = search.value.trim(); refresh(); });
  all.addEventListener("click", () => { state.limit = state.limit === first ? Infinity : first; refresh(); });
  function sort(column, up) {
    const compare = (p, q) => {
      const [a, b] = [valueOf(p.cells[column]), valueOf(q.cells[column])], missing = (a === "–" || a === "") - (b === "–" || b === "");
      return missing || a.localeCompare(b, "en", { numeric: true }) * (up ? 1 : -1);
    };
    const numbers = [...body.rows].every(row => !Number.isNaN(Number(valueOf(row.cells[column]).replaceAll(",", "") || NaN)) || valueOf(row.cells[column]) === "–");
    const byNumber = (p, q) => {
      const [a, b] = [p, q].map(row => Number(valueOf(row.cells[column]).replaceAll(",", "")));
      return Number.isNaN(a) - Number.isNaN(b) || (a - b) * (up ? 1 : -1) || 0;
    };
    body.append(...[...body.rows].sort(numbers ? byNumber : compare));
  }
  for (const cell of head.cells) {
    cell.scope = "col";
    const button = html("button", { type: "button", class: "sort" });
    // Names of models may break after their parts.
    if (cell.childElementCount) button.append(...cell.childNodes);
    else cell.textContent.split(/(?<=[_/-])/).forEach((part, i) => button.append(...(i ? [html("wbr"), part] : [part])));
    cell.replaceChildren(button);
  }
  head.addEventListener("click", event => {
    const cell = event.target.closest("th");
    if (!cell || event.target.closest(".term")) return;
    const up = cell.getAttribute("aria-sort") !== "ascending";
    for (const other of head.cells) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", up ? "ascending" : "descending");
    sort([...head.cells].indexOf(cell), up);
    refresh();
  });
  if (onRow) {
    for (const [kind, entered] of [["pointerover", true], ["focusin", true], ["pointerleave", false], ["focusout", false]]) {
      body.addEventListener(kind, event => onRow(entered ? event.target.closest("tr") : null));
    }
  }
  refresh();
  return () => {
    const sorted = [...head.cells].findIndex(cell => cell.hasAttribute("aria-sort"));
    if (sorted >= 0) sort(sorted, head.cells[sorted].getAttribute("aria-sort") === "ascending");
    refresh();
  };
}
function newTable(parent, names) {  // names of the columns; returns the table
  const table = html("table", {}, null, parent), head = table.createTHead().insertRow();
  table.createTBody();
  for (const name of names) html("th", {}, name, head);
  return table;
}
function markRow(row) {  // marks the point of a table's row on the maps
  pointAtRow(row && row.dataset.row !== undefined ? Number(row.dataset.row) : -1);
}
function makeStaticTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    const title = table.closest("section").querySelector("h2").textContent.trim();
    makeTable(table, { caption: table.dataset.caption || title, first: Number(table.dataset.first || SHOWN), onRow: table.querySelector("[data-row]") ? markRow : null });
  }
}

function barPicture(table) {  // a table of bars as currently sorted and unfolded, at most a hundred rows
  const rows = [...table.tBodies[0].rows].filter(row => !row.hidden).slice(0, 100), heads = [...table.tHead.rows[0].cells];
  const nameOf = row => {
    const own = [...row.cells].filter(cell => cell.querySelector("button"));
    return clip((own.length ? own : [row.cells[0]]).map(cell => cell.textContent).join(" · "), 31);
  };
  const bars = rows.flatMap((row, r) => [...row.cells].flatMap((cell, at) => {
    const bar = cell.querySelector("td.bar i"), color = bar && bar.style.background.match(/--c\d/);
    return bar ? [{ r, at, share: parseFloat(bar.style.width) / 100, color: css(color ? color[0] : "--c0"), value: clip(cell.textContent, 11) }] : [];
  }));
  const columns = [...new Set(bars.map(bar => bar.at))];
  return Plot.plot({
    style: { color: css("--ink"), fontSize: "12px" },
    width: 210 + 230 * columns.length, height: 30 + 22 * rows.length, marginLeft: 210, marginRight: 80, marginTop: 22, marginBottom: 8,
    x: { domain: [0, 1], axis: null }, y: { type: "band", domain: rows.map((_, r) => r), padding: 0.4 },
    fx: { domain: columns, padding: 0.35, axis: null },
    marks: [
      Plot.axisY({ tickSize: 0, tickPadding: 10, label: null, tickFormat: r => nameOf(rows[r]) }),
      Plot.text(columns, { fx: d => d, frameAnchor: "top-left", dy: -18, textAnchor: "start", fontWeight: 600, text: at => clip(heads[at].textContent, 34) }),
      Plot.barX(bars, { fx: "at", y: "r", x: "share", fill: "color" }),
      Plot.text(bars, { fx: "at", y: "r", frameAnchor: "right", dx: 8, textAnchor: "start", text: "value" }),
    ],
  });
}
