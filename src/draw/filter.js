{
  const box = document.getElementById("filter"), said = document.getElementById("filtered");
  if (box) {
    const rows = [...document.querySelectorAll("#tensors tbody tr")];
    const filter = () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      let n = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every(word => text.includes(word));
        if (!row.hidden) n += 1;
      }
      said.textContent = words.length ? n + " of " + rows.length : "";
    };
    box.addEventListener("input", filter);
    filter();
  }
}
