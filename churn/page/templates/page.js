"use strict";
// Sorts a table by a column, and opens what is folded before the page is printed. The page works without it.
const NUMBER = /^[^\p{L}\d+-]*([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)/iu;

const key = (row, column) => {
  const cell = row.cells[column];
  const text = (cell.dataset.value ?? cell.textContent).trim();
  const number = text.match(NUMBER);
  return { text, number: number ? Number(number[1].replaceAll(",", "")) : NaN, missing: text === "-" || text === "" };
};

const sort = (table, column) => {
  const head = table.tHead.rows[0].cells[column];
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [key(row, column), row]);
  const numeric = rows.every(([one]) => one.missing || !Number.isNaN(one.number));
  const current = head.getAttribute("aria-sort");
  const down = current ? current === "ascending" : numeric;
  rows.sort(([one], [other]) => {
    if (one.missing !== other.missing) return one.missing ? 1 : -1;
    const order = numeric ? one.number - other.number : one.text.localeCompare(other.text, "en", { numeric: true });
    return down ? -order : order;
  });
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows.map(([, row]) => row));
};

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.classList.contains("plot")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, column));
    head.append(button);
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
