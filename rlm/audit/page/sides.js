"use strict";
// The page reads without this script: it adds two keys, and a button that leaves what differs.
const rows = [...document.querySelectorAll("#steps .aligned > tbody > tr")];
const others = rows.filter((row) => row.classList.contains("other"));

function walk(by) {
  const here = others.indexOf(document.activeElement?.closest("tr.other"));
  const next = others[here < 0 ? 0 : Math.min(Math.max(here + by, 0), others.length - 1)];
  if (!next) return;
  next.tabIndex = -1;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "start", behavior: "instant" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  if (event.key === "j") walk(1);
  else if (event.key === "k") walk(-1);
});

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("tr.other details:not([open])")];
  for (const part of opened) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of opened) part.open = false;
});

if (others.length) {
  const tools = document.createElement("div");
  tools.className = "tools";
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.id = "only";
  box.addEventListener("change", () => {
    for (const row of rows) row.hidden = box.checked && !row.classList.contains("other");
  });
  label.append(box, " only what differs");
  tools.append(label, "j and k: the next difference, the one before");
  document.querySelector("#steps > h2").after(tools);
}
