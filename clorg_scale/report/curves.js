// The page of curves of a training or of a study.

const { panels, x_title: xTitle, logarithmic } = await readData();
const LONGEST = 40;  // letters under an axis

function drawPanels() {
  panels.forEach((panel, at) => {
    const parent = chart(`panel-${at}`);
    parent.replaceChildren();
    const series = Object.entries(panel.curves).map(([name, ys], i) => ({
      name, color: modelColor(i),
      points: ys.map((y, j) => ({ x: panel.xs[j], y, label: `${clip(xTitle, LONGEST)} ${short(panel.xs[j])}\n${+y.toPrecision(6)}` })).sort((p, q) => p.x - q.x),
    }));
    curves(parent, series, { xLabel: clip(xTitle, LONGEST), yLabel: "", title: panel.title, named: series.some(s => s.name), fromZero: false, linear: !logarithmic });
    NUMBERS[`panel-${at}`] = () => panel.xs.map((x, j) => ({ [xTitle]: x, ...Object.fromEntries(Object.entries(panel.curves).map(([name, ys]) => [name || panel.title, ys[j]])) }));
  });
}
drawPanels();
makeStaticTables();
document.querySelectorAll("section.card").forEach(offerDownloads);
onNewWidth(drawPanels);
document.documentElement.dataset.ready = "true";
