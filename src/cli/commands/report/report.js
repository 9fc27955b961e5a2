// A cell of a map leads to its tensors.
{
  const box = document.getElementById("filter"), tensors = document.getElementById("tensors");
  for (const map of document.querySelectorAll("figure.heat")) {
    const go = () => {
      const at = map.querySelector("output").textContent.split(": ")[0].split(", ");
      if (at.length < 2) return;
      const layer = at[1].match(/^layer (\d+)$/);
      box.value = at[0] + (layer ? " ." + layer[1] + "." : "");
      box.dispatchEvent(new Event("input"));
      box.focus();
      tensors.scrollIntoView({ block: "nearest" });
    };
    const svg = map.querySelector("svg");
    svg.addEventListener("click", go);
    svg.addEventListener("keydown", event => { if (event.key === "Enter") go(); });
  }
}
