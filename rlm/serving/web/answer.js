// An answer with its citations, and beside it the source of one, opened at its words.

import { get, path, post } from "/api.js";
import { chip, count, fresh, h, oneLine, points, say, trouble } from "/dom.js";
import { link, toNode } from "/links.js";

const AROUND = 3_000; // characters of the source, on either side of a citation
const FURTHER = 20_000; // and at each wish for more
const TONES = { verbatim: "good", respaced: "good", nearest: "warn", summary: "warn", unsupported: "bad" };
const WORDS = {
  verbatim: "word for word",
  respaced: "word for word, but for spaces",
  nearest: "in other words",
  summary: "a summary",
  unsupported: "not in the source",
};

const isOpen = (one) => one.doc !== null || one.node !== null;

// The text with a button wherever it names a citation, as in [2].
export function marked(text, citations, open) {
  return text.split(/(\[\d{1,3}\])/).map((part) => {
    const number = /^\[\d+\]$/.test(part) ? Number(part.slice(1, -1)) : 0;
    const one = citations[number - 1];
    if (!one || !isOpen(one)) return part;
    return h("button", { type: "button", class: "cite", "aria-label": `Citation ${number}`, onclick: (event) => open(number - 1, event.currentTarget) }, part);
  });
}

// `answer`: {answer, citations, stop, why, lacks, warnings} as the server tells it of a job or a run.
export function answerView(answer, index, name = "Answer") {
  const beside = h("div", { class: "beside" });
  const pane = h("aside", { class: "pane", hidden: true, "aria-label": "Source" });
  const citations = answer.citations ?? [];
  let opener = null;

  const close = () => {
    pane.hidden = true;
    beside.classList.remove("open");
    for (const one of beside.querySelectorAll("[aria-current]")) one.removeAttribute("aria-current");
    opener?.focus();
  };
  const open = (number, from) => {
    opener = from;
    for (const one of beside.querySelectorAll("[aria-current]")) one.removeAttribute("aria-current");
    from.closest("li")?.setAttribute("aria-current", "true");
    pane.hidden = false;
    beside.classList.add("open");
    sourceOf(pane, citations[number], number + 1, index, close);
  };
  pane.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });

  const text = typeof answer.answer === "string" ? answer.answer : answer.answer === null || answer.answer === undefined ? "" : JSON.stringify(answer.answer, null, 1);
  const heading = h("h2", { id: fresh("answer"), tabindex: -1 }, name);
  beside.append(
    h(
      "div",
      { class: "said" },
      heading,
      text ? h("p", { class: "answer" }, marked(text, citations, open)) : h("p", { class: "seal warn" }, h("strong", null, "No answer. "), answer.why ?? ""),
      text && answer.why ? h("p", { class: "trouble" }, answer.why) : null,
      answer.lacks ? h("p", { class: "trouble" }, `It lacks: ${answer.lacks}`) : null,
      (answer.warnings ?? []).map((one) => h("p", { class: "trouble" }, one)),
      h("h3", null, count(citations.length, "citation")),
      h("ol", { class: "citations" }, citations.map((one, i) => citationOf(one, i, open))),
    ),
    pane,
  );
  return { element: beside, heading };
}

function citationOf(one, i, open) {
  const where = one.doc === null ? (one.node ?? "no source") : `${one.title || one.doc}${one.page ? `, page ${one.page}` : ""}`;
  const name = isOpen(one)
    ? h("button", { type: "button", class: "open", onclick: (event) => open(i, event.currentTarget) }, h("span", { class: "unseen" }, `Citation ${i + 1}: `), where)
    : h("strong", null, where);
  const also = one.also_in?.length ? h("p", { class: "meta" }, `Also in ${one.also_in.map((each) => oneLine(each, 80)).join(", ")}`) : null;
  return h(
    "li",
    { class: TONES[one.supported] },
    h("div", { class: "head" }, h("span", { class: "ordinal", "aria-hidden": true }, i + 1), name, chip(WORDS[one.supported] ?? one.supported, TONES[one.supported])),
    h("blockquote", null, oneLine(one.quote, 600)),
    also,
  );
}

// -- the source ----------------------------------------------------------------------------------------------

async function sourceOf(pane, one, number, index, close) {
  const title = h("h2", { tabindex: -1 }, `Citation ${number}`);
  const back = h("button", { type: "button", class: "back", onclick: close }, `Back to citation ${number}`);
  const body = h("div", { class: "body" }, h("p", { class: "meta" }, "Loading…"));
  pane.replaceChildren(h("header", null, title, back), body);
  title.focus({ preventScroll: true });
  pane.scrollIntoView({ block: "nearest" });
  try {
    if (one.doc === null) await showNode(body, one, index);
    else await showText(body, title, one, index);
    say(`Citation ${number} is open in its source.`, true);
  } catch (error) {
    body.replaceChildren(
      trouble(error),
      h("p", null, "The run recorded these words:"),
      h("blockquote", null, one.context_before ?? "", h("mark", null, one.found ?? one.quote), one.context_after ?? ""),
    );
  }
}

async function showNode(body, one, index) {
  const node = await get(path("indexes", index, "nodes", one.node));
  body.replaceChildren(h("p", { class: "meta" }, `A summary of ${count(node.children.length, "part")}; what stands below it is the source.`), h("p", { class: "prose" }, node.text), h("p", null, h("a", { href: toNode(index, one.node) }, "See it in the tree")));
}

async function showText(body, title, one, index) {
  const text = await textView(index, one.doc, one.start, one.end);
  title.replaceChildren(oneLine(text.told.title || one.doc, 120));
  const found = points(text.told.text).slice(one.start - text.told.start, one.end - text.told.start).join("");
  const changed = one.found && found !== one.found ? h("p", { class: "seal warn" }, h("strong", null, "The document has changed since: "), "these are the characters that were cited, not the words.") : null;
  const alone = h("a", { href: link("corpus", index, "text", { doc: one.doc, start: one.start, end: one.end }) }, "Read the whole document");
  const file = await fileLink(index, one.doc, one.page);
  body.replaceChildren(h("p", { class: "row" }, one.page ? chip(`page ${one.page}`) : null, alone, file), ...[changed].filter(Boolean), text.element);
  text.show();
}

// A link to the PDF that a document was made of, at a page; null where there is none. It is asked for as it is clicked,
// since a tab cannot send a key.
export async function fileLink(index, doc, page) {
  const told = await get(path("indexes", index, "source", { doc }));
  if (!told.file) return null;
  const open = async () => {
    const tab = window.open("about:blank"); // now, as a browser lets no page open one later
    try {
      const { url } = await post(path("indexes", index, "source", { doc }));
      if (tab) tab.location = `${url}#page=${page ?? 1}`;
    } catch (error) {
      tab?.close();
      button.replaceWith(trouble(error));
    }
  };
  const button = h("button", { type: "button", class: "plain", onclick: open }, page ? `Open the PDF at page ${page}` : "Open the PDF");
  return button;
}

// -- a document's text, with its pages marked and some of its words --------------------------------------------

// `text`: characters from `start` on, in points; `pages`: where each begins; `from`, `to`: what is marked. All count
// characters of the document.
export function pieces({ text, start, pages }, from, to) {
  const all = points(text);
  const cuts = new Map(pages.filter((one) => one.start >= start && one.start <= start + all.length).map((one) => [one.start, one.page]));
  const ends = [...new Set([start, ...cuts.keys(), from, to, start + all.length])].filter((at) => at !== null && at >= start && at <= start + all.length).sort((a, b) => a - b);
  const parts = [];
  ends.forEach((at, i) => {
    if (cuts.has(at)) parts.push({ page: cuts.get(at) });
    const words = all.slice(at - start, (ends[i + 1] ?? at) - start).join("");
    if (words) parts.push({ words, isMarked: from !== null && at >= from && at < to });
  });
  return parts;
}

export async function textView(index, doc, from = null, to = null) {
  const box = h("div", { class: "text", tabindex: 0, role: "region", "aria-label": "Text of the document" });
  const element = h("div", { class: "reader" }, box);
  let low = from ?? 0;
  let high = to ?? 0;
  let told = await load(low, high, AROUND);
  const view = { element, told, show };

  async function load(start, end, around) {
    return get(path("indexes", index, "text", { doc, start, end: Math.max(end, start), around }));
  }

  function draw() {
    const first = pieces(told, from, to).map((part) =>
      part.page !== undefined ? h("span", { class: "page-mark" }, `Page ${part.page}`) : part.isMarked ? h("mark", { tabindex: -1 }, part.words) : part.words,
    );
    const page = told.pages.findLast((one) => one.start < told.start);
    const above = told.start > 0 ? h("button", { type: "button", class: "more", onclick: () => grow(FURTHER, 0) }, "Earlier text") : null;
    const below = told.end < told.chars ? h("button", { type: "button", class: "more", onclick: () => grow(0, FURTHER) }, "Later text") : null;
    box.replaceChildren(...[above, page && told.start > 0 ? h("span", { class: "page-mark" }, `Page ${page.page}, continued`) : null, ...first, below].filter((part) => part !== null).map((part) => (part instanceof Node ? part : h("span", null, part))));
  }

  async function grow(before, after) {
    const height = box.scrollHeight;
    low = Math.max(0, told.start - before);
    high = Math.min(told.chars, told.end + after);
    told = await load(low, high, 0);
    view.told = told;
    draw();
    if (before) box.scrollTop += box.scrollHeight - height;
    box.focus({ preventScroll: true });
  }

  // Scrolled to the words and with the focus on them, once it stands on the page.
  function show() {
    const mark = box.querySelector("mark");
    if (!mark) return;
    box.scrollTop += mark.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 3;
    mark.focus({ preventScroll: true });
    const { top, bottom } = mark.getBoundingClientRect();
    if (top < 60 || bottom > innerHeight) mark.scrollIntoView({ block: "center" });
  }

  draw();
  return view;
}
