// Elements of the page, its style, and tooltips. The scripts share one scope (document.py).

const tip = document.getElementById("tip");
const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, parent = null) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.append(node);
  return node;
}
function text(parent, x, y, content, attributes = {}) {
  const node = svg("text", { x, y, ...attributes }, parent);
  node.textContent = content;
  return node;
}
function html(name, attributes = {}, content = null, parent = null) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (content !== null) node.textContent = content;
  if (parent) parent.append(node);
  return node;
}
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fontFamily = () => getComputedStyle(document.body).fontFamily;
const chart = name => document.querySelector(`[data-chart="${name}"]`);
const short = value => Number.isInteger(value) ? value.toLocaleString("en") : String(+value.toPrecision(3));
const counted = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const clip = (name, length) => name.length > length ? name.slice(0, length - 1) + "…" : name;

function bytesOf(text) {  // of base64
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const decoded = atob(text), bytes = new Uint8Array(decoded.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = decoded.charCodeAt(i);
  return bytes;
}
async function readData() {  // plain, or compressed if they are large (document.py)
  const { type, textContent } = document.getElementById("data");
  if (type === "application/json") return JSON.parse(textContent);
  return new Response(new Blob([bytesOf(textContent)]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}
function onNewWidth(draw) {  // called when the window's width changes, not when only its height does, as on phones that scroll
  let width = innerWidth, resized = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(resized);
    resized = setTimeout(draw, 120);
  });
}

// ---- tooltips ----------------------------------------------------------------------------------------------------

function showTip(event, content) {
  tip.textContent = content;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(event.clientX + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = (event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18) + "px";
}
const hideTip = () => { tip.hidden = true; };
addEventListener("keydown", event => { if (event.key === "Escape") hideTip(); });
function explain(node, content) {
  node.addEventListener("pointermove", event => showTip(event, content));
  node.addEventListener("pointerleave", hideTip);
  node.addEventListener("click", event => showTip(event, content));
  node.explanation = content;
}
function makeWalkable(root) {  // arrow keys go from mark to mark of a drawing and show the tooltip of each
  const marks = [...root.querySelectorAll("*")].filter(node => node.explanation);
  if (!marks.length) return;
  root.setAttribute("tabindex", "0");
  root.setAttribute("aria-label", `${root.getAttribute("aria-label") || "Chart"}. Arrow keys go from mark to mark.`);
  let at = -1;
  root.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    if (at >= 0) marks[at].classList.remove("current");
    at = at < 0 ? 0 : (at + step + marks.length) % marks.length;
    marks[at].classList.add("current");
    const box = marks[at].getBoundingClientRect();
    showTip({ clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 }, marks[at].explanation);
  });
  root.addEventListener("blur", () => { if (at >= 0) marks[at].classList.remove("current"); hideTip(); });
}
