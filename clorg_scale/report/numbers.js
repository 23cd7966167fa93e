// Numbers and pictures of the report's cards, for their downloads.

const byModel = rows => analyses.flatMap(a => rows(a).map(row => several ? { model: a.name, ...row } : row));
Object.assign(NUMBERS, {
  rld: () => byModel(a => a.rld.temperatures.map((temperature, t) => ({ temperature, rld: a.rld.values[t], stderr: a.rld.stderr[t], shuffled: a.rld.null_mean[t] }))),
  chi: () => byModel(a => Object.entries(a.class_homogeneity).map(([k, chi]) => ({ k, chi, stderr: a.class_homogeneity_stderr[k] ?? "" }))),
  probes: () => byModel(a => a.probes.map(p => ({ probe: p.name, accuracy: p.accuracy, low: p.accuracy_interval[0], high: p.accuracy_interval[1], parameters: p.n_parameters, seconds: p.seconds }))),
  classes: () => byModel(a => a.classes.flatMap((name, c) => a.rld.temperatures.map((temperature, t) => ({ class: name, points: a.class_sizes[c], temperature, purity: a.rld.purity[t][c], contribution: a.rld.per_class[t][c] })))),
  study: () => byModel(a => a.probe_study.map(row => ({ probe: row.result.name, labels: row.label_fraction, k: row.k, temperature: row.temperature, accuracy: row.result.accuracy, low: row.result.accuracy_interval[0], high: row.result.accuracy_interval[1] }))),
  spectrum: () => byModel(a => a.spectrum ? a.spectrum.eigenvalues.map((eigenvalue, i) => ({ number: i + 1, eigenvalue, class_share: a.spectrum.class_share[i] })) : []),
  pairs: () => pageData.mixing.flatMap((m, i) => m.pairs.map(([a, b, ab, ba]) => ({ ...(several ? { model: analyses[i].name } : {}), class: analyses[i].classes[a], other_class: analyses[i].classes[b], share_in_other: ab, share_of_other: ba, basis: m.basis }))),
  density: () => byModel(a => a.classes.map((name, c) => ({ class: name, local_purity: (a.rld.purity[localAt(a)] || [])[c] ?? "", global_purity: (a.rld.purity[globalAt(a)] || [])[c] ?? "" }))),
  images: () => pageData.images.models.flatMap((shown, i) => shown.suspects.map(s => ({ ...(several ? { model: analyses[i].name } : {}), row: s.row, label: s.label, suggested_label: s.suggested, local_density: s.local_density, nearest: s.neighbors.map(n => n[0]).join(" "), labels_of_nearest: s.neighbors.map(n => n[1]).join("; ") }))),
  communities: () => byModel(a => a.communities.class_by_community.flatMap((counts, c) => counts.map((points, community) => ({ class: a.classes[c], community, points })).filter(row => row.points || a.classes.length <= MOST_ROWS))),
});
