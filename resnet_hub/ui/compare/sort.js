// A press on a heading sorts its table: numbers from the largest, words from a; again turns it around.
// Empty cells stay last. The listener sits on the element, which outlives every new table inside it.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-sort]");
  if (!button) return;
  const heading = button.closest("th");
  const column = [...heading.parentNode.children].indexOf(heading);
  const first = button.dataset.kind === "number" ? "descending" : "ascending";
  const turned = { ascending: "descending", descending: "ascending" };
  const order = turned[heading.getAttribute("aria-sort")] || first;
  heading.parentNode.querySelectorAll("th").forEach((other) => other.setAttribute("aria-sort", "none"));
  heading.setAttribute("aria-sort", order);
  const body = heading.closest("table").tBodies[0];
  const value = (row) => row.children[column].dataset.value;
  const compare = (a, b) =>
    button.dataset.kind === "number" ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
  [...body.rows]
    .sort((a, b) => {
      if (!value(a) || !value(b)) return (value(a) ? 0 : 1) - (value(b) ? 0 : 1);
      return compare(value(a), value(b)) * (order === "ascending" ? 1 : -1);
    })
    .forEach((row) => body.append(row));
});
