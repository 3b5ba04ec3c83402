// What is in an index: the tree to wander through, its documents, their texts, and a search.

import { get, path } from "/api.js";
import { fileLink, textView } from "/answer.js";
import { chip, count, field, fresh, h, oneLine, say, select, trouble } from "/dom.js";
import { link, toNode, toText } from "/links.js";

const SHOWN = 25;
const MODES = [
  ["hybrid", "words and meaning"],
  ["lexical", "words"],
  ["dense", "meaning"],
  ["tree", "all levels of the tree"],
];

export async function corpusPage({ indexes, parts, params }) {
  if (!indexes.length) return { title: "Corpus", element: h("section", { class: "page" }, h("h1", null, "Corpus"), h("p", null, "There is no index yet. ", h("a", { href: link("build") }, "Build one"), " from your files.")) };
  const [name = indexes[0].name, part = "node", node = "root"] = parts;
  const index = indexes.find((one) => one.name === name) ?? (await get(path("indexes", name)));
  const made = { documents: () => documents(name, params), text: () => reading(name, params), search: () => searching(name, params) }[part] ?? (() => wander(name, node));
  const { title, content, shown } = await made();
  return { title, element: h("section", { class: "page" }, around(index, indexes, part, params), content), shown };
}

// What stands above every page of an index: which it is, its parts, and the search.
function around(index, indexes, part, params) {
  const choice = select(indexes.map((one) => [one.name, one.name]), index.name, { onchange: (event) => (location.hash = link("corpus", event.target.value)) });
  const words = h("input", { type: "search", value: params.get("q") ?? "", required: true });
  const mode = select(MODES, params.get("mode") ?? "hybrid");
  const form = h("form", { class: "tools", role: "search", "aria-label": "Search the index" }, field("Search", words), field("By", mode), h("button", null, "Search"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = link("corpus", index.name, "search", { q: words.value, mode: mode.value });
  });
  const tab = (name, words_, href) => h("a", { href, "aria-current": part === name ? "page" : null }, words_);
  return h(
    "header",
    { class: "corpus" },
    h("div", { class: "row" }, field("Index", choice), h("p", { class: "meta" }, `${count(index.documents, "document")}, ${count(index.chunks, "passage")}, ${count(index.summaries, "summary", "summaries")} on ${count(index.levels, "level")}`), h("a", { href: link("ask", { index: index.name }) }, "Ask it")),
    h("div", { class: "row" }, h("nav", { class: "tabs", "aria-label": "Parts of the corpus" }, tab("node", "Tree", link("corpus", index.name)), tab("documents", "Documents", link("corpus", index.name, "documents"))), form),
  );
}

// -- the tree -------------------------------------------------------------------------------------------------

async function wander(index, id) {
  const node = await get(path("indexes", index, "nodes", id));
  const way = node.path.filter((step) => step.node !== node.node);
  const others = node.parents.filter((one) => !node.path.some((step) => step.node === one.node));
  const content = h(
    "div",
    { class: "node" },
    way.length ? h("nav", { class: "way", "aria-label": "The way here" }, h("ol", null, way.map((step) => h("li", null, h("a", { href: toNode(index, step.node) }, oneLine(step.label || step.node, 70)))))) : null,
    h("h1", null, oneLine(node.label || node.node, 200)),
    h("p", { class: "facts-line" }, [`level ${node.level}`, node.node, placeOf(node)].filter(Boolean).map((text) => h("span", null, text))),
    h("p", { class: "prose" }, node.text),
    node.doc ? h("p", null, h("a", { href: toText(index, node.doc, node.start, node.end) }, "Read it in its document")) : null,
    others.length ? h("p", { class: "meta" }, "Found as well under ", others.map((one, i) => [i ? ", " : "", h("a", { href: toNode(index, one.node) }, oneLine(one.label || one.node, 70))])) : null,
    node.children.length ? h("h2", null, count(node.children.length, "part")) : null,
    branches(index, node.children),
  );
  return { title: oneLine(node.label || node.node, 60), content };
}

const placeOf = (one) => (one.doc ? `${oneLine(one.doc, 80)}${one.page ? `, page ${one.page}` : ""}` : null);

// Branches that open in their place, each when it is first wanted.
function branches(index, children) {
  return h(
    "ul",
    { class: "branches" },
    children.map((one) => {
      const inside = h("div", { class: "inside" });
      const part = h("details", null, h("summary", null, h("span", { class: "level" }, `L${one.level}`), h("span", { class: "label" }, oneLine(one.label || one.node, 160)), one.level ? h("span", { class: "meta" }, count(one.leaves, "passage")) : null), inside);
      part.addEventListener("toggle", async () => {
        if (!part.open || inside.children.length) return;
        inside.append(h("p", { class: "meta" }, "Loading…"));
        try {
          const node = await get(path("indexes", index, "nodes", one.node));
          const place = node.doc ? h("a", { href: toText(index, node.doc, node.start, node.end) }, "Read it in its document") : null;
          inside.replaceChildren(h("p", { class: "prose" }, node.text), h("p", { class: "row" }, h("a", { href: toNode(index, node.node) }, "Go there"), place, placeOf(node) ? h("span", { class: "meta" }, placeOf(node)) : null), branches(index, node.children));
        } catch (error) {
          inside.replaceChildren(trouble(error));
        }
      });
      return h("li", null, part);
    }),
  );
}

// -- documents ------------------------------------------------------------------------------------------------

async function documents(index, params) {
  const offset = Number(params.get("offset") ?? 0) || 0;
  const q = params.get("title") ?? "";
  const told = await get(path("indexes", index, "documents", { q, offset, limit: SHOWN }));
  const words = h("input", { type: "search", value: q });
  const form = h("form", { class: "tools", role: "search", "aria-label": "Documents" }, field("Title or id has", words), h("button", null, "Filter"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = link("corpus", index, "documents", { title: words.value });
  });
  const last = offset + told.documents.length;
  const to = (at) => link("corpus", index, "documents", { title: q, offset: at || "" });
  const content = [
    h("h1", null, "Documents"),
    form,
    h("p", { class: "meta", role: "status" }, told.total ? `${offset + 1}–${last} of ${count(told.total, "document")}` : "No document is like that."),
    h("ol", { class: "cards" }, told.documents.map((one) => documentCard(index, one))),
    h("nav", { class: "row", "aria-label": "More documents" }, offset > 0 ? h("a", { href: to(Math.max(offset - SHOWN, 0)) }, "Previous") : null, last < told.total ? h("a", { href: to(offset + SHOWN) }, "Next") : null),
  ];
  return { title: "Documents", content };
}

function documentCard(index, one) {
  const meta = Object.entries(one.meta).map(([name, value]) => `${oneLine(name, 40)}: ${oneLine(value, 80)}`);
  const sizes = [count(one.chars, "character"), one.pages ? count(one.pages, "page") : null, one.doc === one.title ? null : oneLine(one.doc, 120), ...meta];
  return h("li", null, h("h2", null, h("a", { href: toText(index, one.doc) }, oneLine(one.title || one.doc, 160))), h("p", { class: "facts-line" }, sizes.filter(Boolean).map((text) => h("span", null, text))));
}

async function reading(index, params) {
  const doc = params.get("doc") ?? "";
  const [from, to] = ["start", "end"].map((name) => (params.get(name) ? Number(params.get(name)) : null));
  const view = await textView(index, doc, from, to);
  const page = from === null ? 1 : (view.told.pages.findLast((one) => one.start <= from)?.page ?? null);
  const content = [
    h("p", { class: "kicker" }, h("a", { href: link("corpus", index, "documents") }, "Documents")),
    h("h1", null, oneLine(view.told.title || doc, 200)),
    h("p", { class: "row" }, h("span", { class: "meta" }, `${oneLine(doc, 120)} · ${count(view.told.chars, "character")}`), await fileLink(index, doc, view.told.pages.length ? page : null)),
    view.element,
  ];
  return { title: oneLine(view.told.title || doc, 60), content, shown: view.show };
}

// -- search ---------------------------------------------------------------------------------------------------

async function searching(index, params) {
  const q = params.get("q") ?? "";
  const { hits } = await get(path("indexes", index, "search", { q, mode: params.get("mode") ?? "hybrid", k: 20 }));
  say(`${count(hits.length, "hit")} for ${oneLine(q, 80)}`, true);
  const content = [
    h("h1", null, count(hits.length, "hit")),
    h("p", { class: "meta" }, `for “${oneLine(q, 200)}”, best first`),
    h("ol", { class: "cards" }, hits.map((hit) => hitCard(index, hit))),
  ];
  return { title: `Search: ${oneLine(q, 40)}`, content };
}

function hitCard(index, hit) {
  const href = hit.doc ? toText(index, hit.doc, hit.start, hit.end) : toNode(index, hit.node);
  const where = [placeOf(hit) ?? "a summary"].map((text) => h("span", null, text));
  const also = hit.also_in?.length ? h("span", null, `also in ${count(hit.also_in.length, "other")}`) : null;
  return h("li", null, h("h2", null, h("a", { href }, oneLine(hit.label || hit.node, 160))), h("p", { class: "excerpt" }, oneLine(hit.text, 400)), h("p", { class: "facts-line" }, where, h("span", null, h("a", { href: toNode(index, hit.node) }, "in the tree")), also));
}
