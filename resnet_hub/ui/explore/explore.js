// The buttons under "Export". `element` is the panel they stand in.
element.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { copy, png } = button.dataset;
  const texts = {
    link: () => location.origin + location.pathname + panel().dataset.query,
    python: () => button.closest(".design").querySelector("pre").textContent,
  };
  if (copy && await address.copy(texts[copy]())) say(button);
  if (png) draw(button.closest(".design").querySelector("[data-svg]").href, png);
});

const panel = () => element.querySelector("[data-query]");

function say(button) {
  const text = button.textContent, { done } = panel().dataset;
  if (text === done) return;
  button.textContent = done;
  setTimeout(() => { // unless another language has taken its place
    if (button.textContent === done) button.textContent = text;
  }, 1500);
}

async function draw(svg, name) {
  const image = new Image();
  image.src = svg;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [3 * image.width, 3 * image.height];
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const link = document.createElement("a");
  [link.href, link.download] = [canvas.toDataURL("image/png"), name];
  link.click();
}

if (matchMedia("(max-width: 800px)").matches) { // on a phone what can be changed is folded under the drawing
  document.querySelectorAll("#designs .controls > button, #designs .controls .label-wrap.open").forEach((button) => button.click());
}
