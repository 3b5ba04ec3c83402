"use strict";
// The page reads without this script: it adds keys, two buttons, and opens what a link leads into.
const turns = [...document.querySelectorAll("#steps > .turn")];

function openTo(element) {
  for (let at = element; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
}

function followHash() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  openTo(target);
  target.scrollIntoView({ block: "start" });
}

function step(by) {
  const here = turns.indexOf(document.activeElement?.closest("#steps > .turn"));
  const next = here < 0 ? (by > 0 ? 0 : turns.length - 1) : Math.min(Math.max(here + by, 0), turns.length - 1);
  turns[next]?.focus({ preventScroll: true });
  turns[next]?.scrollIntoView({ block: "start" });
}

function setAll(open) {
  for (const part of document.querySelectorAll("#steps details")) part.open = open;
}

function button(words, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = words;
  made.addEventListener("click", act);
  return made;
}

function key(name) {
  const made = document.createElement("kbd");
  made.textContent = name;
  return made;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
});
addEventListener("hashchange", followHash);

// On paper the evidence is open, and of the rest what its reader opened; afterwards the page is as it was.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open]):not(.aside)")];
  for (const part of opened) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of opened) part.open = false;
  opened = [];
});

const tools = document.createElement("div");
tools.className = "tools";
const hint = document.createElement("span");
hint.append(key("j"), " next turn, ", key("k"), " the one before");
tools.append(button("Open all", () => setAll(true)), button("Close all", () => setAll(false)), hint);
document.querySelector("#steps > h2")?.after(tools);
if (location.hash) followHash();
