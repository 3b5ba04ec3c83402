"use strict";
// Makes buttons of the heads of a table, which sort `rows` and then call `place`. `said(row, column)`: a number, or a
// text, "" where a cell says nothing: such come last, whichever way the others are sorted, and numbers before texts.
function sortable(table, rows, said, place) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = head.textContent;
    made.addEventListener("click", () => {
      const rises = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rises ? "ascending" : "descending");
      const by = rises ? 1 : -1;
      const order = (a, b) => {
        if (a === b) return 0;
        if (a === "" || b === "") return a === "" ? 1 : -1;
        return (typeof a === typeof b ? a < b : typeof a === "number") ? -by : by;
      };
      const sorted = rows.map((row) => [said(row, column), row]).sort((a, b) => order(a[0], b[0]));
      sorted.forEach(([, row], at) => (rows[at] = row));
      place();
    });
    head.replaceChildren(made);
  });
}
