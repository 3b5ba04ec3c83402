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

function said(row, column) {
  const { number, value } = row.cells[column].dataset;
  return number === undefined ? (value ?? row.cells[column].textContent).toLowerCase() : Number(number);
}

const sorted = [...rows]; // texts are by the number of a row
sortable(table, sorted, said, () => table.tBodies[0].append(...sorted));
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
