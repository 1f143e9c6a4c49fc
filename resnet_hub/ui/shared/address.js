// What the page's scripts share: when it is built, its address, and the clipboard.
(() => {
  const page = document.documentElement;

  // The page's language as it was sent, or switched to; Gradio names the browser's own in its place.
  let spoken = page.lang;
  new MutationObserver(() => {
    if (page.lang !== spoken) page.lang = spoken;
  }).observe(page, { attributes: true, attributeFilter: ["lang"] });

  // Shown at once when nothing has moved for a while: parts that come one by one would push each other about.
  // The tab of the address is selected before, as a visitor would, since some are filled by that event only.
  // Gradio first selects the leftmost one: until the visitor has arrived, no selection is the visitor's.
  let rest, arrived = false;
  const button = (tab) => document.querySelector(`[role=tab][data-tab-id="${CSS.escape(tab)}"]`);
  const show = () => page.classList.add("built");
  const rested = () => {
    const wanted = button(current);
    if (wanted && wanted.getAttribute("aria-selected") !== "true") {
      wanted.click();
      rest = setTimeout(rested, 1000);
      return;
    }
    building.disconnect();
    arrived = true;
    show();
    if (wanted) return;
    current = "classify"; // the address names no tab of this page
    write(false);
  };
  setTimeout(show, 30000);
  const building = new MutationObserver(() => {
    clearTimeout(rest);
    if (button("classify")) rest = setTimeout(rested, 200);
  });
  building.observe(page, { childList: true, subtree: true });

  // Gradio closes the stream of an upload's progress, which ended with the upload, by a method that only warns.
  const warn = console.warn;
  console.warn = (...said) => said[0] === "Method not implemented." || warn.apply(console, said);

  // One entry of the history for each tab, topic and study; each tab remembers what it said last.
  const kept = {};
  const read = () => {
    const query = new URLSearchParams(location.search);
    const tab = query.get("tab") || (query.has("a") || query.has("b") ? "explore" : "classify");
    ["tab", "lang"].forEach((name) => query.delete(name));
    return { tab, query };
  };
  let { tab: current, query: first } = read();
  kept[current] = first;

  // Each entry of the history would else keep the language of its time.
  let chosen = new URLSearchParams(location.search).get("lang");

  const write = (push) => {
    const all = new URLSearchParams({ tab: current });
    if (chosen) all.set("lang", chosen);
    (kept[current] ?? []).forEach((value, name) => all.set(name, value));
    tell("?" + all, push);
  };
  const tell = (query, push) => {
    if (query !== location.search) history[push ? "pushState" : "replaceState"](history.state, "", query);
    // A Space's page shows the app in a frame, and this is how the frame asks for its address to change:
    // https://huggingface.co/docs/hub/spaces-handle-url-parameters
    if (window.parent !== window) window.parent.postMessage({ queryString: query }, "https://huggingface.co");
  };

  window.address = {
    open(tab) { // a visitor selected a tab
      if (tab === current || !arrived) return;
      current = tab;
      write(true);
    },
    say(tab, query, push = false) { // what a tab shows, as a query
      kept[tab] = new URLSearchParams(query);
      if (tab === current) write(push);
    },
    language(code) {
      page.lang = spoken = chosen = code;
      const query = new URLSearchParams(location.search);
      if (query.get("lang") === code) return;
      query.set("lang", code);
      tell("?" + query, false);
    },
    async copy(text) { // whether it was copied
      try {
        await navigator.clipboard.writeText(text);
        return true;
      } catch { // a page served without https has no clipboard
        const before = document.activeElement;
        const box = document.body.appendChild(document.createElement("textarea"));
        box.value = text;
        box.select();
        const isCopied = document.execCommand("copy");
        box.remove();
        before?.focus({ preventScroll: true });
        return isCopied;
      }
    },
  };

  addEventListener("popstate", () => {
    const { tab, query } = read();
    current = tab;
    button(tab)?.click();
    if (!dispatchEvent(new CustomEvent("address", { cancelable: true, detail: { tab, query } }))) kept[tab] = query;
    write(false); // where no one goes back inside a tab, the address follows what it shows
  });
})();
