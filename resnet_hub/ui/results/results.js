// The prediction grid's form: uploads a zip or the files of a folder, then asks for the grid.
element.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-run]");
  if (!button) return;
  const form = element.querySelector("form");
  const [zip] = form.elements.zip.files;
  const files = [...form.elements.folder.files].filter((file) => !file.name.startsWith(".")); // .DS_Store
  const model = form.elements.model.value;
  const words = button.textContent;
  [button.disabled, button.textContent] = [true, button.dataset.uploading];
  try {
    if (zip) trigger("click", { model, zip: (await upload(zip)).path });
    else if (files.length > Number(form.dataset.most)) trigger("click", { model, count: files.length });
    else {
      const sent = [];
      for (const file of files) sent.push({ name: file.webkitRelativePath, path: (await upload(file)).path });
      trigger("click", { model, files: sent });
    }
  } finally {
    [button.disabled, button.textContent] = [false, words];
  }
});

element.addEventListener("change", (event) => { // one or the other
  const other = { zip: "folder", folder: "zip" }[event.target.name];
  if (other && event.target.files.length) element.querySelector("form").elements[other].value = "";
});
