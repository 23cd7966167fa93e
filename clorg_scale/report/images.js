// Images of the points: suspicious ones with their neighbors, similar ones of different classes, members of communities.

const FIRST_IMAGES = several || innerWidth < 560 ? 6 : 12;  // entries of a group that are shown at first

function drawImages() {
  const parent = chart("images"), { images, images_file: beside } = pageData;
  if (!parent || !images) return;
  const thumbnails = beside ? globalThis.clorgScaleImages : images.thumbnails;
  if (!thumbnails) { html("p", { class: "note" }, `The file ${beside} with the images is missing; put it beside this page.`, parent); return; }
  for (const a of modelsShown("images", drawImages)) drawImagesOf(parent, images.models[analyses.indexOf(a)], thumbnails, several ? ` · ${a.name}` : "");
}
function drawImagesOf(parent, shown, thumbnails, model) {
  const picture = ([row, label], into, caption) => {
    const figure = html("figure", { "data-row": row, title: `row ${row.toLocaleString("en")}${label ? `, ${label}` : ""}` }, null, into);
    html("img", { src: thumbnails[row], alt: `row ${row}${label ? `, ${label}` : ""}`, decoding: "async" }, null, figure);
    if (caption !== null) html("figcaption", {}, caption, figure);
    figure.addEventListener("pointerenter", () => pointAtRow(row));
    figure.addEventListener("pointerleave", () => pointAtRow(-1));
    return figure;
  };
  const group = (title, entries, draw) => {
    if (!entries.length) return;
    html("h3", {}, title + model, parent);
    const box = html("div", { class: "items" }, null, parent);
    const add = some => { for (const entry of some) draw(entry, html("div", { class: "item" }, null, box)); };
    add(entries.slice(0, FIRST_IMAGES));
    if (entries.length <= FIRST_IMAGES) return;
    const button = html("button", { type: "button" }, `Show all ${entries.length}`, html("div", { class: "controls unfold" }, null, parent));
    button.addEventListener("click", () => {
      const all = box.children.length === entries.length;
      if (all) while (box.children.length > FIRST_IMAGES) box.lastChild.remove();
      else add(entries.slice(FIRST_IMAGES));
      button.textContent = all ? `Show all ${entries.length}` : `Show the first ${FIRST_IMAGES}`;
    });
  };
  group("Points that disagree with their neighbors", shown.suspects, (s, item) => {
    item.classList.add("suspect");
    const main = picture([s.row, s.label], item, null), text = html("div", { class: "verdict" }, null, item);
    main.classList.add("main");
    html("span", {}, `labeled ${clip(s.label, 40)}`, text);
    html("b", {}, `suggested ${clip(s.suggested, 40)}`, text);
    html("span", { class: "note" }, `row ${s.row.toLocaleString("en")} · local density ${s.local_density.toFixed(3)}`, text);
    const near = html("div", { class: "near" }, null, item);
    for (const neighbor of s.neighbors) picture(neighbor, near, neighbor[1]);
  });
  group("The most similar points of different classes", shown.pairs, (p, item) => {
    item.classList.add("pair");
    for (const entry of p.rows) picture(entry, item, entry[1]);
    html("span", { class: "note" }, `${p.distance.toFixed(3)} of the mean distance apart`, item);
  });
  group("Members of each community", shown.communities, (c, item) => {
    item.classList.add("members");
    html("b", {}, `community ${c.community}`, item);
    html("span", { class: "note" }, counted(c.size, "point"), item);
    const near = html("div", { class: "near" }, null, item);
    for (const entry of c.rows) picture(entry, near, entry[1]);
  });
}
