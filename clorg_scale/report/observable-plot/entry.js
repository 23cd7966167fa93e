// What the page uses of Observable Plot and D3. plot.min.js is this file, bundled:
//   npm install @observablehq/plot@0.6.17 d3-shape@3.2.1 esbuild@0.28.2
//   npx esbuild entry.js --bundle --minify --format=iife --global-name=Plot --target=es2020 --charset=ascii \
//     --legal-comments=none --outfile=plot.min.js
// and the line of the versions before it. The licenses of all that is in it stand in LICENSE.
export { axisX, axisY, barX, cell, dot, gridX, gridY, lineY, plot, ruleX, ruleY, link, text } from "@observablehq/plot";
export { symbol, symbolCircle, symbolCross, symbolDiamond, symbolSquare, symbolStar, symbolTriangle, symbolWye } from "d3-shape";
