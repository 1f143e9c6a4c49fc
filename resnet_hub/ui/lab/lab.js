// Both panels of the lab: inputs report their form, buttons open a section. `element` is the panel.
let waiting;

const ask = (kind, question) => { // numbered, since requests may overtake each other
  window.labQuestions = (window.labQuestions ?? 0) + 1;
  trigger(kind, { ...question, order: window.labQuestions });
};
const report = (form) => ask("input", { topic: form.dataset.topic, values: values(form) });

const values = (form) => {
  const found = {};
  for (const input of form.elements) {
    if (input.dataset.grid) ((found[input.dataset.grid] ??= [])[input.dataset.row] ??= []).push(input.value);
    else if (input.name) found[input.name] = input.type === "checkbox" ? input.checked : input.value;
  }
  return found;
};

const showParts = (form) => {
  for (const part of form.querySelectorAll("[data-when]")) {
    const [name, value] = part.dataset.when.split("=");
    part.hidden = form.elements[name].value !== value;
  }
};

element.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-topic]");
  if (!form || event.target.type === "file" || event.target.validity.badInput) return;
  const output = event.target.parentElement.querySelector("output");
  if (output) output.value = event.target.value;
  showParts(form);
  clearTimeout(waiting); // a slider on its way reports once it rests
  waiting = setTimeout(() => report(form), 120);
});

element.addEventListener("change", async (event) => {
  if (!("upload" in event.target.dataset) || !event.target.files.length) return;
  const form = event.target.closest("form");
  const { path } = await upload(event.target.files[0]);
  event.target.parentElement.querySelector("[type=hidden]").value = path;
  report(form);
});

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-redraw]");
  if (!button) return;
  const form = button.closest("form"), { redraw, draws } = button.dataset;
  form.elements[redraw].value = (Number(form.elements[redraw].value) + 1) % Number(draws);
  report(form);
});

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-go]");
  if (!button) return;
  clearTimeout(waiting);
  const form = document.querySelector("#lab-controls form"); // the button may be in the other panel
  if (form) { // Gradio patches attributes only, and what was touched no longer follows them until it is reset
    form.reset();
    for (const hidden of form.querySelectorAll("[type=hidden]")) hidden.value = hidden.dataset.first;
    showParts(form);
  }
  ask("click", { topic: button.dataset.go, values: JSON.parse(button.dataset.values || "{}") });
});
