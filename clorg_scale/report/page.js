// Draws everything once, and the charts again when the width of the page changes.

function download() {
  const content = several ? analyses : analyses[0];
  save(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }), several ? "comparison.json" : "analysis.json");
}

const CHARTS = pageData.steps ? [drawTrajectory, drawMultiples] : [drawRld, drawChi, drawSpectrum, drawProbes, drawStudies, drawDensity, drawCommunities];
function drawCharts() {
  for (const draw of CHARTS) draw();
}
function redrawCharts() {
  for (const parent of document.querySelectorAll("[data-chart]")) if (!["map", "classes", "pairs", "images"].includes(parent.dataset.chart)) parent.replaceChildren();
  drawCharts();
}
drawCharts();
if (!pageData.steps) { drawClasses(); drawPairs(); }
await drawMaps();
drawImages();
document.querySelectorAll("[data-swatch]").forEach(node => swatch(node, Number(node.dataset.swatch)));
makeStaticTables();
document.querySelectorAll("section.card").forEach(offerDownloads);
document.getElementById("download").addEventListener("click", download);
onNewWidth(redrawCharts);
document.documentElement.dataset.ready = "true";
