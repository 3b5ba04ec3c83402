// Which page is shown, and what stands around all of them.

import { get, key, onLackingKey, path, useKey } from "/api.js";
import { askPage } from "/ask.js";
import { buildPage } from "/build.js";
import { corpusPage } from "/corpus.js";
import { h, trouble } from "/dom.js";
import { place } from "/links.js";
import { runsPage } from "/runs.js";

const PAGES = { ask: ["Ask", askPage], runs: ["Runs", runsPage], corpus: ["Corpus", corpusPage], build: ["Build", buildPage] };
const main = document.getElementById("main");
let shown = 0; // counts pages, so that one that comes late does not replace its successor

async function show() {
  if (location.hash && !location.hash.startsWith("#/")) return;
  const { parts, params } = place(location.hash || "#/ask");
  const cites = parts.length === 2 && parts[1] === "text"; // as citations in replies to chat clients lead here: #/INDEX/text
  if (cites) parts.unshift("corpus");
  const [name, page] = PAGES[parts[0]] ?? PAGES.ask;
  const here = ++shown;
  for (const link of document.querySelectorAll("nav[aria-label=Pages] a")) {
    if (link.hash === `#/${name.toLowerCase()}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.setAttribute("aria-busy", "true");
  let made;
  try {
    const indexes = await get(path("indexes"));
    made = await page({ indexes, parts: parts.slice(1), params });
  } catch (error) {
    made = { title: name, element: h("section", null, h("h1", null, name), trouble(error)) };
    if (!error.status && error.name !== "Problem") console.error(error);
  }
  if (here !== shown) return;
  main.removeAttribute("aria-busy");
  document.title = `${made.title} · raptor-rlm`;
  main.replaceChildren(made.element);
  if (here > 1) arrive(made);
  made.shown?.();
}

// Who comes by a link goes on where the page begins; a page may say where else.
function arrive(made) {
  if (made.stays) return;
  const heading = main.querySelector("h1") ?? main;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
  scrollTo({ top: 0, behavior: "instant" });
}

// -- the key --------------------------------------------------------------------------------------------------

const keys = document.getElementById("keys");
const field = document.getElementById("keys-key");
const why = document.getElementById("keys-why");
let wanting = null; // who waits for a key: all that were refused share one answer

function wantKey(isRefused) {
  why.textContent = isRefused ? "This server does not know the key, or it was revoked. Give another." : "This server asks for a key. It is kept until this tab is closed.";
  wanting ??= new Promise((told) => {
    keys.addEventListener(
      "close",
      () => {
        wanting = null;
        const isGiven = keys.returnValue === "use" && field.value.trim() !== "";
        if (isGiven) useKey(field.value.trim());
        field.value = "";
        named();
        told(isGiven);
      },
      { once: true },
    );
    keys.returnValue = "close";
    keys.showModal();
  });
  return wanting;
}

const button = document.getElementById("key");
function named() {
  button.textContent = key() ? "Key: set" : "Key";
}
button.addEventListener("click", async () => {
  if (await wantKey(false)) show();
});
onLackingKey(wantKey);

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address keeps saying which page this is
  main.focus();
});
addEventListener("hashchange", show);
named();
show();
