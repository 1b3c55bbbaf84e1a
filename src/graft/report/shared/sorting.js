/** Tables sorted by a column: a heading becomes a button; what stands in the markup is the order without JavaScript. */

const valueOf = (row, column) => row.cells[column]?.dataset.value;

/** Numbers by size, words by the alphabet, what is not known last whichever way. */
function compared(one, other, down) {
  if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
  const [a, b] = [Number(one), Number(other)];
  const order = Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other, "en", { numeric: true }) : a - b;
  return down ? -order : order;
}

for (const table of document.querySelectorAll("table[data-sorted]")) {
  const body = table.tBodies[0], first = [...body.rows];
  for (const head of table.tHead.querySelectorAll("th[data-sort]")) {
    const column = head.cellIndex;
    const button = make("button", { type: "button", class: "sorter" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort"), next = { ascending: "descending", descending: null }[now] ?? (now ? null : "ascending");
      table.tHead.querySelectorAll("th[aria-sort]").forEach((one) => one.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const rows = next ? [...first].sort((one, other) => compared(valueOf(one, column), valueOf(other, column), next === "descending")) : first;
      body.append(...rows);
    });
  }
}
