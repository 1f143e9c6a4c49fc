// The example images: a click tells which. `element` is the gallery.
const beside = (name) => document.getElementById(element.closest("[id$=examples]").id.replace("examples", name));

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-example]");
  if (!button) return;
  trigger("click", { example: button.dataset.example });
});

// A file too large for the tab's places is refused before it is sent, in the page's words and not in Gradio's.
const most = window.gradio_config?.max_file_size ?? Infinity;
for (const kind of ["change", "drop"]) addEventListener(kind, (event) => {
  const files = [...((event.dataTransfer ?? event.target).files ?? [])];
  const isHere = ["photo", "many-files"].some((name) => beside(name)?.contains(event.target));
  if (!isHere || files.every((file) => file.size <= most)) return;
  event.stopImmediatePropagation();
  event.preventDefault();
  if (kind === "change") event.target.value = "";
  trigger("input");
}, true);
