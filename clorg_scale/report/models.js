// The analyses of the page.

const pageData = await readData(), { analyses } = pageData;
const several = analyses.length > 1;
const titles = { linear: "Linear", knn: "k-NN vote", label_propagation: "Label propagation", gcn: "GCN", sage: "GraphSAGE" };
const localAt = a => a.rld.temperatures.indexOf(Math.min(...a.rld.temperatures));
const globalAt = a => a.rld.temperatures.indexOf(Math.max(...a.rld.temperatures));
