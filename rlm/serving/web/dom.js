// Elements from names, attributes and texts. Every text, whatever it comes from, becomes a text node: nothing that a
// document, a model or a person wrote is ever read as markup.

// What acts without being seen is written out, as index_store/terminal.py does it; a test holds the two together.
const PICTURE = "\\xa9\\xae\\u203c\\u2049\\u2122\\u2139\\u2190-\\u27bf\\u2900-\\u2bff\\u3030\\u303d\\u3297\\u3299\\u{1f000}-\\u{1faff}";
const VIRAMA = "\\u094d\\u09cd\\u0a4d\\u0acd\\u0b4d\\u0bcd\\u0c4d\\u0ccd\\u0d4d\\u0dca";
const ARABIC = "\\u0620-\\u063f\\u0641-\\u064a\\u066e-\\u06d3\\u06fa-\\u06ff\\u0750-\\u077f";
const ACTING =
  "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e" +
  "\\u2060-\\u206f\\u3164\\ud800-\\udfff\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb" +
  "\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}";
const UNSEEN = new RegExp(
  `(?<=[${VIRAMA}])[\\u200c\\u200d](?=[\\p{L}\\p{N}_])|(?<=[${ARABIC}])\\u200c(?=[${ARABIC}])` +
    `|(?:(?<=[${PICTURE}])|(?<=[${PICTURE}]\\ufe0f))\\u200d(?=[${PICTURE}])` +
    `|(?<=[${PICTURE}])[\\ufe0e\\ufe0f]|(?<=[0-9#*])\\ufe0f(?=\\u20e3)|([${ACTING}])`,
  "gu",
);

function escaped(character) {
  const hex = character.codePointAt(0).toString(16);
  if (hex.length <= 2) return `\\x${hex.padStart(2, "0")}`;
  return hex.length <= 4 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}

export function visible(text) {
  return text.replaceAll("\r\n", "\n").replace(UNSEEN, (seen, acting) => (acting === undefined ? seen : escaped(acting)));
}

export function oneLine(text, most = 120) {
  const line = visible(String(text ?? "").split(/\s+/u).filter(Boolean).join(" "));
  const points = Array.from(line);
  return points.length <= most ? line : `${points.slice(0, most - 1).join("")}…`;
}

// Documents count in code points, as Python does; a text of the browser counts in halves of them.
export const points = (text) => Array.from(text);

function put(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (name === "href" && !/^(#|\/(?!\/))/.test(value)) throw new Error("a link leaves this server");
    else element.setAttribute(name, value === true ? "" : name === "href" ? value : visible(String(value)));
  }
  element.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false)
      .map((child) => (child instanceof Node ? child : document.createTextNode(visible(String(child))))),
  );
  return element;
}

export const h = (name, attributes, ...children) => put(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) =>
  put(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

let names = 0;
export const fresh = (stem) => `${stem}-${++names}`;

// A label with its field.
export function field(label, control, note) {
  control.id ||= fresh("field");
  const told = note ? h("span", { class: "meta", id: `${control.id}-note` }, note) : null;
  if (told) control.setAttribute("aria-describedby", told.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, told);
}

export function select(options, chosen, attributes) {
  const list = options.map(([value, name]) => h("option", { value, selected: value === chosen }, name));
  return h("select", attributes, list);
}

export const fold = (summary, ...children) => h("details", null, h("summary", null, summary), children);
export const chip = (text, tone = "") => h("span", { class: `chip ${tone}` }, text);
export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));

// A box that scrolls can be entered by the keyboard.
export const pre = (text, name = "") => h("pre", { class: name, tabindex: text.length > 300 || text.split("\n").length > 12 ? 0 : null }, text);

export const count = (number, one, many = `${one}s`) => `${(number ?? 0).toLocaleString("en")} ${number === 1 ? one : many}`;
export const dollars = (usd) => (usd === null || usd === undefined ? "" : `$${usd.toFixed(usd !== 0 && usd < 0.1 ? 4 : 2)}`);
export const seconds = (s) => (s < 10 ? `${s.toFixed(1)} s` : s < 120 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`);

export function moment(iso) {
  const at = new Date(iso);
  return Number.isNaN(at.valueOf()) ? "" : at.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

// Said to who listens, at most once in a while, so that a busy run does not talk without end.
let said = 0;
let waiting = 0;
export function say(text, isUrgent = false) {
  clearTimeout(waiting);
  const tell = () => {
    said = Date.now();
    document.getElementById("status").textContent = visible(text);
  };
  if (isUrgent) tell();
  else waiting = setTimeout(tell, Math.max(0, said + 4000 - Date.now()));
}

// What went wrong, as one sentence.
export const trouble = (error) => h("p", { class: "seal bad", role: "alert" }, h("strong", null, error.message ?? String(error)));
