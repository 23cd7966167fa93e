// What the maps use of deck.gl and of luma.gl, which it draws with. deck.min.js is this file, bundled:
//   npm install --ignore-scripts @deck.gl/core@9.4.0 esbuild@0.28.2
//   npx esbuild entry.js --bundle --minify --format=iife --global-name=DeckGl --target=es2020 --charset=ascii \
//     --legal-comments=none --outfile=deck.min.js
//   sed -i 's#https://unpkg.com##g; s#https://en.wikipedia.org##g' deck.min.js    # the page names no address it could load from
// and the line of the versions before it. The licenses of all that is in it stand in LICENSE.
//
// Why deck.gl, of the components with WebGL that are maintained (measured in Chromium 156 with SwiftShader, two busy cores):
//   regl-scatterplot 1.16.0  0.22 MB; regl builds its functions from text, which the page's content security policy refuses (EvalError)
//   embedding-atlas 0.26.0   files of 2.8 and 1.3 MB, two web workers, and Mosaic, of which npm lacks a part: not built
//   deck.gl 9.4.0            0.8 MB, no text becomes code. Its ScatterplotLayer draws each point as an instance of a square, at which
//                            SwiftShader stalls (1,281,167 points: over a minute); a Layer of GL points (webgl.js) takes seconds
export { Deck, Layer, OrthographicView, project32 } from "@deck.gl/core";
export { luma, log as lumaLog } from "@luma.gl/core";
export { Model } from "@luma.gl/engine";
export { webgl2Adapter } from "@luma.gl/webgl";
