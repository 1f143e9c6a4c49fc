// The example images: a click tells which. `element` is the gallery.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-example]");
  if (button) trigger("click", { example: button.dataset.example });
});
