// The tab's three panels: the form of a visitor's images, their predictions, the studies.

// The form uploads a zip or the files of a folder, then asks for the grid.
let isUploading = false;
element.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-run]");
  if (!button || isUploading) return;
  const form = element.querySelector("form");
  const [zip] = form.elements.zip.files;
  const files = [...form.elements.folder.files].filter((file) => !file.name.startsWith(".")); // .DS_Store
  const model = form.elements.model.value;
  isUploading = true;
  const told = Object.assign(document.createElement("p"), { textContent: button.dataset.uploading });
  told.setAttribute("role", "status");
  button.after(told);
  try {
    const most = window.gradio_config?.max_file_size ?? Infinity;
    if ([zip, ...files].some((file) => file?.size > most)) trigger("click", { model, large: true });
    else if (zip) trigger("click", { model, zip: (await upload(zip)).path });
    else if (files.length > Number(form.dataset.most)) trigger("click", { model, count: files.length });
    else {
      const sent = [];
      for (const file of files) sent.push({ name: file.webkitRelativePath, path: (await upload(file)).path });
      trigger("click", { model, files: sent });
    }
  } catch { // Gradio has said why
  } finally {
    isUploading = false;
    told.remove();
  }
});

element.addEventListener("change", (event) => { // one or the other
  const other = { zip: "folder", folder: "zip" }[event.target.name];
  if (other && event.target.files.length) element.querySelector("form").elements[other].value = "";
});

element.addEventListener("click", (event) => { // a count of the confusion matrix shows its images only
  const button = event.target.closest("[data-true][aria-pressed]");
  if (!button) return;
  const on = button.getAttribute("aria-pressed") !== "true";
  element.querySelectorAll("[aria-pressed]").forEach((each) => each.setAttribute("aria-pressed", on && each === button));
  const { true: folder, label } = button.dataset;
  for (const tile of element.querySelectorAll(".tiles figure")) {
    tile.hidden = on && (tile.dataset.true !== folder || tile.dataset.label !== label);
  }
});

// One study at a time: of those that are asked for meanwhile the last is next.
let isOpen = false, next = null;
const ask = (study) => {
  next = isOpen ? study : null;
  if (!isOpen) trigger("click", { study });
  isOpen = true;
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-study]");
  if (!button) return;
  address.say("results", { study: button.dataset.study }, true);
  ask(button.dataset.study);
});

if (element.closest("#studies")) {
  window.studyAnswered = () => {
    isOpen = false;
    if (next !== null) ask(next);
  };
  addEventListener("address", (event) => { // the visitor went back or forward
    if (event.detail.tab !== "results" || !element.querySelector("[data-study]")) return;
    event.preventDefault();
    ask(event.detail.query.get("study") ?? "");
  });
}
