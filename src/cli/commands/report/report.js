// The rows of tensors whose name, stage or kind of module hold the text of the box.
const box = document.getElementById("filter"), said = document.getElementById("filtered");
const rows = [...document.querySelectorAll("#tensors tbody tr")];
const filter = () => {
  const wanted = box.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  let n = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !wanted.every(word => text.includes(word));
    if (!row.hidden) n += 1;
  }
  said.textContent = wanted.length ? n + " of " + rows.length : "";
};
if (box) {
  box.addEventListener("input", filter);
  filter();
}
// A cell of a map leads to its tensors.
for (const map of document.querySelectorAll("figure.heat")) {
  const go = () => {
    const at = map.querySelector("output").textContent.split(": ")[0].split(", ");
    if (at.length < 2) return;
    const layer = at[1].match(/^layer (\d+)$/);
    box.value = at[0] + (layer ? " ." + layer[1] + "." : "");
    filter();
    box.focus();
    document.getElementById("tensors").scrollIntoView({ block: "nearest" });
  };
  const svg = map.querySelector("svg");
  svg.addEventListener("click", go);
  svg.addEventListener("keydown", event => { if (event.key === "Enter") go(); });
}
