// The example images: a click tells which. `element` is the gallery.
const photo = () => document.getElementById(element.closest("[id$=examples]").id.replace("examples", "photo"));

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-example]");
  if (!button) return;
  trigger("click", { example: button.dataset.example });
});

// A file too large for the photo's place is refused before it is sent, in the page's words and not in Gradio's.
const most = window.gradio_config?.max_file_size ?? Infinity;
for (const kind of ["change", "drop"]) addEventListener(kind, (event) => {
  const files = [...((event.dataTransfer ?? event.target).files ?? [])];
  if (!photo()?.contains(event.target) || files.every((file) => file.size <= most)) return;
  event.stopImmediatePropagation();
  event.preventDefault();
  if (kind === "change") event.target.value = "";
  trigger("input");
}, true);
