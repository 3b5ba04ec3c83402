"use strict";
// The table reads without this script, which sorts and filters it.
const table = document.getElementById("runs");
const rows = [...table.tBodies[0].rows];
const tools = document.createElement("div");
tools.className = "tools";
tools.setAttribute("role", "search");
tools.setAttribute("aria-label", "Runs");
const told = document.createElement("span");
told.setAttribute("role", "status");
tools.append(document.getElementById("filters").content, told);
table.parentElement.before(tools);
const search = document.getElementById("search");
const choices = [...tools.querySelectorAll("select")];
const texts = rows.map((row) => row.textContent.toLowerCase());

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let left = 0;
  rows.forEach((row, number) => {
    const fits =
      words.every((word) => texts[number].includes(word)) &&
      choices.every((one) => !one.value || row.cells[one.dataset.column].dataset.value === one.value);
    row.hidden = !fits;
    left += fits;
  });
  told.textContent = left === rows.length ? "" : `${left.toLocaleString("en")} of ${rows.length.toLocaleString("en")} runs`;
}

// Cells that say nothing come last, whichever way the others are sorted.
function sort(column, by) {
  const value = (row) => {
    const { number, value } = row.cells[column].dataset;
    return number === undefined ? (value ?? row.cells[column].textContent).toLowerCase() : Number(number);
  };
  const order = (a, b) => (a === b ? 0 : a === "" ? 1 : b === "" ? -1 : a < b ? -by : by);
  const sorted = rows.map((row) => [value(row), row]).sort((a, b) => order(a[0], b[0]));
  table.tBodies[0].append(...sorted.map(([, row]) => row));
}

[...table.tHead.rows[0].cells].forEach((head, column) => {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = head.textContent;
  made.addEventListener("click", () => {
    const rises = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rises ? "ascending" : "descending");
    sort(column, rises ? 1 : -1);
  });
  head.replaceChildren(made);
});
search.addEventListener("input", filter);
for (const one of choices) one.addEventListener("change", filter);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target === search) {
    search.value = "";
    filter();
    search.blur();
  } else if (event.key === "/" && !event.target.matches("input, select")) {
    search.focus();
    event.preventDefault();
  }
});
