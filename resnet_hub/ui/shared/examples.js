// The example images: a click tells which. `element` is the gallery.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-example]");
  if (!button) return;
  trigger("click", { example: button.dataset.example });
  const photo = document.getElementById(element.closest("[id$=examples]").id.replace("examples", "photo"));
  if (innerWidth <= 700) photo.scrollIntoView(); // on a phone the examples are below the answer
});
