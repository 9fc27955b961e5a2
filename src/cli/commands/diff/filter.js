{
  const box = document.getElementById("filter"), said = document.getElementById("filtered");
  if (box) {
    const rows = [...document.querySelectorAll("#tensors tbody tr")];
    const filter = () => {
      const wanted = box.value.trim().toLowerCase();
      let n = 0;
      for (const row of rows) {
        row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
        if (!row.hidden) n += 1;
      }
      said.textContent = wanted ? n + " of " + rows.length : "";
    };
    box.addEventListener("input", filter);
    filter();
  }
}
