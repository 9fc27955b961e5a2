for (const map of document.querySelectorAll("figure.heat")) {
  const lines = name => map.dataset[name].split("\n");
  const rows = lines("rows"), columns = lines("columns"), values = lines("values");
  const svg = map.querySelector("svg"), cells = map.querySelector(".cells"), mark = map.querySelector(".at");
  const word = map.dataset.word, said = map.querySelector("output");
  let at = -1;
  const show = (row, column) => {
    const next = row * columns.length + column;
    if (next === at) return;
    at = next;
    mark.setAttribute("x", column);
    mark.setAttribute("y", row);
    mark.style.display = "inline";
    const name = /^\d/.test(columns[column]) ? word + " " + columns[column] : columns[column];
    said.textContent = rows[row] + ", " + name + ": " + (values[at] || "nothing");
  };
  const hide = () => {
    at = -1;
    mark.style.display = "none";
    said.textContent = "";
  };
  svg.addEventListener("pointermove", event => {
    const box = cells.querySelector("rect").getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / box.width * columns.length);
    const row = Math.floor((event.clientY - box.top) / box.height * rows.length);
    if (row >= 0 && row < rows.length && column >= 0 && column < columns.length) show(row, column);
    else hide();
  });
  svg.addEventListener("pointerleave", hide);
  // One stop for the tab key; arrows move within the map.
  svg.tabIndex = 0;
  svg.setAttribute("role", "application");
  svg.setAttribute("aria-roledescription", "heat map");
  svg.addEventListener("focus", () => { if (at < 0) show(0, 0); });
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", event => {
    const start = Math.max(at, 0);
    let row = Math.floor(start / columns.length), column = start % columns.length;
    switch (event.key) {
      case "ArrowLeft": column -= 1; break;
      case "ArrowRight": column += 1; break;
      case "ArrowUp": row -= 1; break;
      case "ArrowDown": row += 1; break;
      case "Home": column = 0; break;
      case "End": column = columns.length - 1; break;
      default: return;
    }
    event.preventDefault();
    show(Math.min(Math.max(row, 0), rows.length - 1), Math.min(Math.max(column, 0), columns.length - 1));
  });
}
