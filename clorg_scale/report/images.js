// Images of the points: suspicious ones with their neighbors, similar ones of different classes, members of communities.

function drawImages() {
  const parent = chart("images"), { images } = pageData;
  if (!parent || !images) return;
  if (!images.side) { html("p", { class: "note" }, "The thumbnails would be too large for a page.", parent); return; }
  const picture = ([row, label], into, caption) => {
    const figure = html("figure", { "data-row": row }, null, into);
    html("img", { src: images.thumbnails[row], alt: `row ${row}${label ? `, ${label}` : ""}`, decoding: "async" }, null, figure);
    if (caption !== null) html("figcaption", {}, caption, figure);
    figure.addEventListener("pointerenter", () => pointAtRow(row));
    figure.addEventListener("pointerleave", () => pointAtRow(-1));
    return figure;
  };
  const group = (title, entries, first, draw) => {
    if (!entries.length) return;
    html("h3", {}, title, parent);
    const box = html("div", { class: "items" }, null, parent), nodes = entries.map(entry => draw(entry, html("div", { class: "item" }, null, box)) || box.lastChild);
    if (nodes.length <= first) return;
    const show = all => { nodes.forEach((node, i) => { node.hidden = !all && i >= first; }); button.textContent = all ? `Show the first ${first}` : `Show all ${nodes.length}`; button.dataset.all = all; };
    const button = html("button", { type: "button" }, null, html("div", { class: "controls unfold" }, null, parent));
    button.addEventListener("click", () => show(button.dataset.all !== "true"));
    show(false);
  };
  group("Points that disagree with their neighbors", images.suspects, 12, (s, item) => {
    item.classList.add("suspect");
    const main = picture([s.row, s.label], item, null), text = html("div", { class: "verdict" }, null, item);
    main.classList.add("main");
    html("span", {}, `labeled ${clip(s.label, 40)}`, text);
    html("b", {}, `suggested ${clip(s.suggested, 40)}`, text);
    html("span", { class: "note" }, `row ${s.row.toLocaleString("en")} · local density ${s.local_density.toFixed(3)}`, text);
    const near = html("div", { class: "near" }, null, item);
    for (const neighbor of s.neighbors) picture(neighbor, near, clip(neighbor[1], 14));
  });
  group("The most similar points of different classes", images.pairs, 12, (p, item) => {
    item.classList.add("pair");
    for (const entry of p.rows) picture(entry, item, clip(entry[1], 16));
    html("span", { class: "note" }, `${p.distance.toFixed(3)} of the mean distance apart`, item);
  });
  group("Members of each community", images.communities, 12, (c, item) => {
    item.classList.add("members");
    html("b", {}, `community ${c.community}`, item);
    html("span", { class: "note" }, `${c.size.toLocaleString("en")} points`, item);
    const near = html("div", { class: "near" }, null, item);
    for (const entry of c.rows) picture(entry, near, clip(entry[1], 12));
  });
}
