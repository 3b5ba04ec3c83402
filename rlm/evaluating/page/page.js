"use strict";
// The page reads without this script: it adds what sifts the questions.
const rows = [...document.querySelectorAll("#questions tbody tr")];
const systems = [...document.querySelectorAll("#questions thead th[data-system]")];

function choice(words, pairs) {
  const select = document.createElement("select");
  for (const [value, name] of pairs) {
    const option = document.createElement("option");
    option.value = value;
    option.textContent = name;
    select.append(option);
  }
  return labelled(words, select);
}

function labelled(words, made) {
  const label = document.createElement("label");
  label.append(words, made);
  made.addEventListener("input", sift);
  tools.append(label);
  return made;
}

function sift() {
  const words = named.value.toLowerCase();
  let left = 0;
  for (const row of rows) {
    const fits = outcome.value === "" || (row.dataset[outcome.value] ?? "").split(" ").includes(system.value);
    row.hidden = !(fits && row.textContent.toLowerCase().includes(words));
    left += row.hidden ? 0 : 1;
  }
  told.textContent = `${left.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
}

const tools = document.createElement("div");
tools.className = "sift";
const told = document.createElement("output");
const others = systems.length > 1 ? systems.slice(1) : systems;
const outcome = choice("Show", [
  ["", "all questions"],
  ...(systems.length > 1 ? [["won", "won by"], ["lost", "lost by"], ["tied", "tied by"]] : []),
  ["none", "no answer by"],
]);
const system = choice("", others.map((head) => [head.dataset.system, head.textContent]));
const named = document.createElement("input");
named.type = "search";
labelled("with the words", named);
system.setAttribute("aria-label", "system");
tools.append(told);
document.querySelector("#questions h2")?.after(tools);
sift();
