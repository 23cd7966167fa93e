// Tables, the download, and drawing it all.

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((p, q) => p.cells[column].textContent.localeCompare(q.cells[column].textContent, "en", { numeric: true }) * (up ? 1 : -1));
      table.tBodies[0].append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}
function download() {
  const content = several ? analyses : analyses[0];
  save(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }), several ? "comparison.json" : "analysis.json");
}

if (pageData.steps) {
  drawTrajectory(); drawMultiples(); drawMaps();
} else {
  drawRld(); drawChi(); drawSpectrum(); drawProbes(); drawStudies(); drawClasses(); drawCommunities(); drawMaps();
}
document.querySelectorAll("section.card").forEach(offerDownloads);
document.querySelectorAll("table.sortable").forEach(makeSortable);
document.getElementById("download").addEventListener("click", download);
document.documentElement.dataset.ready = "true";
