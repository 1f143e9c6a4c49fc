// Both panels of the lab: inputs report their form, buttons open a section. `element` is the panel.
let waiting;

// One question at a time, since answers may overtake each other. Of those that come meanwhile the last is asked
// next; one about a control gives way to one that opens a topic.
const questions = (window.labQuestions ??= { open: null, next: null });
const ask = (kind, question) => {
  if (!questions.open) return put({ kind, question, trigger });
  if (kind === "click" || questions.next?.kind !== "click") questions.next = { kind, question, trigger };
};
const put = (next) => { // a bar runs over the figure meanwhile; answers may take seconds
  questions.next = null;
  questions.open = next;
  document.querySelector("#lab-image").setAttribute("aria-busy", String(Boolean(next)));
  next?.trigger(next.kind, next.question);
};
const isAbout = (topic) => document.querySelector("#lab-controls form")?.dataset.topic === topic;
window.labAnswered = () => {
  const { next } = questions;
  put(next?.kind === "click" || isAbout(next?.question.topic) ? next : null); // its form may be gone
  if (!document.querySelector("#lab-fault")) window.labFault?.(); // new controls beside the same fault
};
window.labAgain = () => { // in another language: what is being opened, or what is open
  const opening = [questions.next, questions.open].find((each) => each?.kind === "click");
  const form = document.querySelector("#lab-controls form");
  if (form) ask("click", opening?.question ?? { topic: form.dataset.topic, values: values(form) });
};
const report = (form) => {
  address.say("lab", query(form.dataset.topic, values(form)));
  ask("input", { topic: form.dataset.topic, values: values(form) });
};

const query = (topic, said) => { // numbers in a grid and files are not in an address
  const short = Object.entries(said).filter(([name, value]) => typeof value !== "object" && name !== "photo");
  return [["topic", topic], ...short];
};

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
  if (event.target.files[0].size > (window.gradio_config?.max_file_size ?? Infinity)) {
    event.target.value = "";
    return ask("input", { topic: form.dataset.topic, values: values(form), large: true });
  }
  const [file] = event.target.files;
  const path = await upload(file).then((sent) => sent.path, () => null);
  if (event.target.files[0] !== file) return; // another file, or another topic, meanwhile
  if (path === null) {
    event.target.value = ""; // else the same file could not be chosen again
    return;
  }
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
  open(button.dataset.go, JSON.parse(button.dataset.values || "{}"), true);
});

const open = (topic, said, push) => {
  clearTimeout(waiting);
  const form = document.querySelector("#lab-controls form"); // the button may be in the other panel
  if (form) { // Gradio patches attributes only, and what was touched no longer follows them until it is reset
    form.reset();
    for (const hidden of form.querySelectorAll("[type=hidden]")) hidden.value = said[hidden.name] ?? hidden.dataset.first;
    showParts(form);
  }
  const topics = document.querySelector("#lab-controls .topics"); // keep the keyboard's place: the button goes
  if (document.activeElement?.matches("button[data-go]")) topics.querySelector("summary").focus();
  topics.open = false;
  if (push) address.say("lab", query(topic, said), true);
  ask("click", { topic, values: said });
};

const isTop = Boolean(element.closest("#lab-controls"));
if (isTop) addEventListener("address", (event) => { // the visitor went back or forward
  const { tab, query } = event.detail;
  if (tab !== "lab" || !element.querySelector("form")) return;
  event.preventDefault();
  const { topic = "pooling", ...said } = Object.fromEntries(query);
  const flags = { true: true, false: false };
  open(topic, Object.fromEntries(Object.entries(said).map(([name, value]) => [name, flags[value] ?? value])), false);
});

// What is wrong with a control is said beside it.
const placeFault = () => {
  const fault = element.querySelector("[data-fault]");
  document.querySelectorAll("#lab-controls .fault").forEach((old) => old.remove());
  for (const old of document.querySelectorAll("#lab-controls [aria-invalid]")) {
    for (const name of ["aria-invalid", "aria-describedby"]) old.removeAttribute(name);
  }
  if (!fault) return;
  const part = document.querySelector(`#lab-controls [data-control="${fault.dataset.fault}"]`);
  if (!part) return;
  const said = { id: "lab-fault", className: "notice wrong fault", textContent: fault.textContent };
  const line = Object.assign(document.createElement("p"), said);
  line.setAttribute("role", "alert");
  part.append(line);
  for (const input of part.querySelectorAll("input, select")) {
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", said.id);
  }
};
if (!isTop) {
  window.labFault = placeFault;
  new MutationObserver(placeFault).observe(element, { childList: true, subtree: true, characterData: true });
}
