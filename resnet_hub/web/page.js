/**
 * The page: photos in, answers out. The network runs in `worker.js`; what there is to say of the model is in
 * `model.json`. The first half is pure functions; node tests them.
 */
import { filled, LANGUAGES, say, TEXT } from "./text.js";

/**
 * @typedef {import("./text.js").Language} Language
 * @typedef {Record<Language, string>} Both
 * @typedef {import("./worker.js").Answer} Answer
 *
 * @typedef {object} Model
 * @property {string} title
 * @property {string} made_from
 * @property {string} revision commit of the weights on the Hub, or the hash of model.onnx
 * @property {string} licence
 * @property {string | null} link address of the model on the Hub
 * @property {(Both & { said: string })[]} labels `said`: as an English sentence says it, "a cat"
 * @property {number | null} firm_threshold top probability from which a familiar photo is answered firmly
 * @property {number[] | null} class_thresholds where an image may show several classes or none: one a class
 * @property {Record<string, Both>} sentences by kind of answer
 * @property {{ most: number, least_share: number }} named which classes a guess names
 *
 * @typedef {{ name: string | null, answer: Answer, small: HTMLCanvasElement | null }} Shown `small`: in the table
 */

/**
 * @param {number} share 0 to 1
 * @returns {string}
 */
export function percent(share) {
  return `${(100 * share).toFixed(1)}\u00a0%`;
}

/**
 * The most probable classes, best first.
 * @param {ArrayLike<number>} probabilities
 * @param {number} count
 * @returns {{ index: number, share: number }[]}
 */
export function top(probabilities, count) {
  const all = Array.from(probabilities, (share, index) => ({ index, share }));
  return all.sort((a, b) => b.share - a.share).slice(0, count);
}

/**
 * How an answer is to be given; the same rule as `Calibration.certainty`.
 * @param {boolean | null} familiar
 * @param {number} share of the best class
 * @param {number | null} firmThreshold
 * @returns {"unfamiliar" | "firm" | "unsure" | "unmeasured"}
 */
export function certainty(familiar, share, firmThreshold) {
  if (familiar === false) return "unfamiliar";
  if (firmThreshold === null) return "unmeasured";
  return share >= firmThreshold ? "firm" : "unsure";
}

/**
 * The sentence of an answer; the same rule as `statement.named`.
 * @param {Model} model
 * @param {Pick<Answer, "probabilities" | "familiar">} answer
 * @param {Language} language
 * @returns {string}
 */
export function sentence(model, answer, language) {
  if (model.class_thresholds) return shown(model, model.class_thresholds, answer.probabilities, language);
  const best = top(answer.probabilities, model.named.most);
  const how = certainty(answer.familiar, best[0].share, model.firm_threshold);
  const likely = best.filter(({ share }) => share >= model.named.least_share * best[0].share);
  const kind = how === "unsure" ? `unsure_${likely.length}` : how;
  const word = kind === "unmeasured" || language === "ja" ? language : "said";
  const [first, second, third] = best.map(({ index }) => model.labels[index][word]);
  return filled(model.sentences[kind][language], { first, second, third, share: percent(best[0].share) });
}

/**
 * The sentence of an image that may show several classes or none.
 * @param {Model} model
 * @param {number[]} thresholds one a class
 * @param {ArrayLike<number>} probabilities
 * @param {Language} language
 * @returns {string}
 */
function shown(model, thresholds, probabilities, language) {
  const names = present(model, thresholds, probabilities, language);
  return filled(model.sentences[names ? "present" : "absent"][language], { names });
}

/**
 * The classes that reach their thresholds, most probable first; "" for none.
 * @param {Model} model
 * @param {number[]} thresholds one a class
 * @param {ArrayLike<number>} probabilities
 * @param {Language} language
 * @returns {string}
 */
function present(model, thresholds, probabilities, language) {
  return top(probabilities, thresholds.length)
    .filter(({ index, share }) => share >= thresholds[index])
    .map(({ index }) => model.labels[index][language])
    .join(language === "ja" ? "、" : ", ");
}

/**
 * An answer in a cell of the table.
 * @param {Model} model
 * @param {ArrayLike<number>} probabilities
 * @param {Language} language
 * @returns {string}
 */
export function named(model, probabilities, language) {
  if (model.class_thresholds) return present(model, model.class_thresholds, probabilities, language) || "–";
  return model.labels[top(probabilities, 1)[0].index][language];
}

/**
 * A class activation map as shown: negative values are 0, the largest is 1.
 * @param {ArrayLike<number>} values of all classes, one map after the other
 * @param {number[]} shape (classes, h, w)
 * @param {number} index of the class
 * @returns {number[]} h times w values
 */
export function activation(values, shape, index) {
  const size = shape[1] * shape[2];
  const map = Array.from({ length: size }, (_, at) => Math.max(0, values[index * size + at]));
  const most = Math.max(...map, 1e-8);
  return map.map((value) => value / most);
}

/**
 * The colour of a place in the map: transparent, then yellow to red.
 * @param {number} value 0 to 1
 * @returns {[number, number, number, number]} red, green, blue, alpha; 0 to 255
 */
export function heat(value) {
  return [255, Math.round(220 * (1 - value)), 0, Math.round(190 * value)];
}

/**
 * The language that a browser asks for.
 * @param {readonly string[]} languages
 * @returns {Language}
 */
export function preferred(languages) {
  const asked = languages.map((each) => /** @type {Language} */ (each.slice(0, 2).toLowerCase()));
  return asked.find((each) => LANGUAGES.includes(each)) ?? LANGUAGES[0];
}

// The page

const TOP = 5;
const SMALL = 96; // pixels of a photo's side in the table
const BETWEEN_WORDS = 2000; // milliseconds between two of the camera's answers that a screen reader is told
const CAMERA = { facingMode: "environment", width: { ideal: 640 }, height: { ideal: 480 } };

/** @param {string} id @returns {any} */
const find = (id) => document.getElementById(id);

/** Asks the worker and matches its replies. */
export class Network {
  /** @param {(share: number) => void} progress */
  constructor(progress) {
    /** @type {Map<number, { resolve: (answer: Answer) => void, reject: (problem: Error) => void }>} */
    this.waiting = new Map();
    this.count = 0;
    this.ready = new Promise((resolve, reject) => {
      if (typeof WebAssembly !== "object") return reject(new Error("no_wasm"));
      this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
      this.worker.onerror = () => reject(new Error("no_session"));
      this.worker.onmessage = ({ data }) => {
        if (data.progress !== undefined) progress(data.progress);
        else if (data.ready) resolve(true);
        else if (data.id === undefined) reject(new Error(data.problem, { cause: data.cause }));
        else this.settle(data);
      };
    });
  }

  /** @param {{ id: number, answer?: Answer, problem?: string, cause?: string }} reply */
  settle({ id, answer, problem, cause }) {
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (answer) resolve(answer);
    else reject(new Error(problem, { cause }));
  }

  /**
   * @param {Blob | ImageBitmap} photo
   * @returns {Promise<Answer>}
   */
  async ask(photo) {
    await this.ready;
    return new Promise((resolve, reject) => {
      this.waiting.set(++this.count, { resolve, reject });
      this.worker.postMessage({ id: this.count, photo }, photo instanceof ImageBitmap ? [photo] : []);
    });
  }
}

/** What is shown, and in which language. */
class Page {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    /** @type {Language} */
    this.language = remembered() ?? preferred(navigator.languages);
    this.status = "loading";
    /** @type {{ code: string, name: string }[]} */
    this.problems = [];
    /** @type {Shown[]} */
    this.shown = [];
    this.chosen = 0; // the class whose map is shown
    this.picked = false; // whether the visitor chose it
    this.told = 0; // when a screen reader was last told something
    /** @type {MediaStream | null} */
    this.stream = null;
    this.rate = 0;
    this.turn = 0; // a newer choice of photos ends an older one
    /** @type {symbol | null} */
    this.asking = null; // the request for the camera that the browser still shows
    this.network = new Network((share) => {
      find("progress").hidden = false;
      find("progress").value = share;
    });
  }

  /** @param {string} key @param {Record<string, string | number>} values */
  say(key, values = {}) {
    return say(key, this.language, values);
  }

  /** Write every text in the page's language. */
  translate() {
    write(this.language);
    find("camera").textContent = this.say(this.stream ? "camera_stop" : "camera_start");
    this.describe();
    this.render();
  }

  /** What the model is. */
  describe() {
    const { model } = this;
    document.title = model.title;
    find("title").textContent = model.title;
    const about = { ...model, licence: model.licence || "–" };
    find("about").textContent = this.say("about", about);
    if (!model.link) return;
    const link = Object.assign(document.createElement("a"), {
      href: model.link,
      textContent: this.say("on_the_hub"),
    });
    find("about").append(" ", link);
  }

  /** Show status, problem and answers. */
  render() {
    find("status").textContent = this.status ? this.say(this.status) : "";
    find("problem").hidden = !this.problems.length;
    const sentences = this.problems.map(({ code, name }) => this.say(code, { name }));
    put("problem", [...new Set(sentences)].join(" "));
    find("answer").hidden = this.shown.length !== 1 && !this.stream;
    find("several").hidden = this.shown.length < 2;
    find("several").setAttribute("aria-label", this.say("answered", { count: this.shown.length }));
    if (this.shown.length === 1) this.renderOne(this.shown[0]);
    else find("rows").replaceChildren(...this.shown.map((each) => this.row(each)));
    this.tell();
  }

  /** Say the answer, or how many there are, to who does not see it. */
  tell() {
    if (!this.shown.length) return put("said", "");
    if (this.status === "computing") return;
    const now = performance.now();
    if (this.stream && now - this.told < BETWEEN_WORDS) return;
    this.told = now;
    const [{ answer }] = this.shown;
    const count = this.shown.length;
    put("said", count > 1 ? this.say("answered", { count }) : sentence(this.model, answer, this.language));
  }

  /** @param {Shown} shown */
  renderOne({ name, answer }) {
    const { labels } = this.model;
    const [height, width] = answer.seen.shape;
    const best = top(answer.probabilities, TOP);
    const named = (index) => labels[index][this.language];
    find("name").textContent = name ?? this.say("from_camera");
    for (const id of ["photo", "video"]) find(id).setAttribute("aria-label", find("name").textContent);
    find("sentence").textContent = sentence(this.model, answer, this.language);
    find("seen-words").textContent = this.say("seen", { width, height });
    find("seen").setAttribute("aria-label", find("seen-words").textContent);
    find("map-switch").hidden = !answer.cam;
    const milliseconds = Math.round(answer.milliseconds);
    const words = [this.say("details", { milliseconds })];
    if (this.stream) words.push(this.say("rate", { rate: this.rate.toFixed(this.rate < 10 ? 1 : 0) }));
    find("details").textContent = words.join(" · ");
    const bars = best.map(({ index, share }) => ({ index, share, name: named(index) }));
    this.renderBars(bars, Boolean(answer.cam));
    if (!this.stream) draw(find("photo"), answer.photo);
    drawSeen(find("seen"), answer, find("map").checked ? this.chosen : null);
  }

  /** @param {{ index: number, share: number, name: string }[]} best @param {boolean} hasMap to switch to */
  renderBars(best, hasMap) {
    const list = find("bars");
    while (list.children.length > best.length) list.lastChild.remove();
    while (list.children.length < best.length) list.append(bar());
    best.forEach(({ index, share, name }, place) => {
      const button = list.children[place].firstChild;
      const [label, value, line] = button.children;
      label.textContent = name;
      value.textContent = percent(share);
      line.style.width = `${100 * share}%`;
      button.dataset.index = index;
      button.disabled = !hasMap;
      if (hasMap) button.setAttribute("aria-pressed", String(index === this.chosen && find("map").checked));
      else button.removeAttribute("aria-pressed");
    });
  }

  /** @param {Shown} shown */
  row({ name, answer, small }) {
    const [best] = top(answer.probabilities, 1);
    const familiar = answer.familiar === null ? "not_measured" : answer.familiar ? "yes" : "no";
    const isUnfamiliar = answer.familiar === false;
    const cells = [
      small,
      name ?? "",
      isUnfamiliar ? "–" : named(this.model, answer.probabilities, this.language),
      isUnfamiliar || this.model.class_thresholds ? "" : percent(best.share),
      this.say(familiar),
    ];
    const row = document.createElement("tr");
    for (const content of cells) {
      const cell = document.createElement("td");
      cell.append(content);
      row.append(cell);
    }
    return row;
  }

  /** @param {unknown} error @param {string} name of a file */
  note(error, name = "") {
    const code = error instanceof Error && error.message in TEXT ? error.message : "no_session";
    this.problems.push({ code, name });
  }

  /** @param {unknown} error */
  fail(error) {
    this.note(error);
    this.status = "";
    this.render();
  }

  /**
   * Answer files one after the other.
   * @param {Iterable<File>} files
   */
  async take(files) {
    this.stopCamera();
    this.asking = null;
    const turn = ++this.turn;
    this.problems = [];
    this.status = "computing";
    this.render();
    for (const file of files) {
      try {
        const answer = await this.network.ask(file);
        if (turn !== this.turn) return answer.photo.close();
        this.add(file.name, answer);
      } catch (error) {
        if (turn !== this.turn) return;
        this.note(error, file.name);
      }
      this.render();
    }
    this.status = "";
    this.render();
  }

  /**
   * Of many photos little is kept: the table shows them small, and without their maps.
   * @param {string} name
   * @param {Answer} answer
   */
  add(name, answer) {
    const small = document.createElement("canvas");
    draw(small, answer.photo, SMALL);
    this.shown.push({ name, answer, small });
    [{ index: this.chosen }] = top(answer.probabilities, 1);
    if (this.shown.length < 2) return;
    for (const each of this.shown) {
      each.answer.photo.close();
      each.answer.cam = null;
    }
  }

  /** Answer the camera's frames until it is stopped. */
  async startCamera() {
    if (this.status !== "computing") this.problems = [];
    this.render();
    const asking = Symbol("camera");
    this.asking = asking;
    let stream;
    try {
      if (!navigator.mediaDevices) throw new Error("a page without https has no camera");
      stream = await navigator.mediaDevices.getUserMedia({ video: CAMERA });
    } catch (error) {
      if (this.asking !== asking) return;
      const denied = error instanceof DOMException && error.name === "NotAllowedError";
      this.note(new Error(denied ? "camera_denied" : "no_camera"));
      if (this.status !== "computing") this.status = "";
      return this.render(); // photos that are being answered go on
    }
    if (this.asking !== asking) return stop(stream); // another choice was made while the browser asked
    this.turn++;
    this.problems = [];
    this.stream = stream;
    this.forget();
    const video = find("video");
    video.srcObject = stream;
    video.hidden = false;
    find("photo").hidden = true;
    this.status = "";
    this.translate();
    const lost = () => {
      if (this.stream !== stream) return; // another choice was made meanwhile
      this.stopCamera();
      this.fail(new Error("no_camera"));
    };
    for (const track of stream.getTracks()) track.addEventListener("ended", lost); // unplugged, or no longer allowed
    try {
      await video.play();
    } catch {
      return lost();
    }
    await this.watch(video, stream);
  }

  /** @param {HTMLVideoElement} video @param {MediaStream} stream */
  async watch(video, stream) {
    for (let last = performance.now(); this.stream === stream; ) {
      try {
        const answer = await this.network.ask(await createImageBitmap(video));
        answer.photo.close(); // the video shows it
        if (this.stream !== stream) return;
        const now = performance.now();
        const each = 1000 / Math.max(now - last, 1); // a clock may be coarse
        this.rate = this.rate ? 0.8 * this.rate + 0.2 * each : each;
        last = now;
        this.shown = [{ name: null, answer, small: null }];
        if (!this.picked) [{ index: this.chosen }] = top(answer.probabilities, 1);
        this.render();
        await new Promise(requestAnimationFrame);
      } catch (error) {
        if (this.stream !== stream) return;
        this.stopCamera();
        return this.fail(error);
      }
    }
  }

  stopCamera() {
    if (this.stream) stop(this.stream);
    this.stream = null;
    this.rate = 0;
    Object.assign(find("video"), { hidden: true, srcObject: null });
    find("photo").hidden = false;
    this.forget();
    this.translate();
  }

  /** Let go of the answers. */
  forget() {
    for (const { answer } of this.shown) answer.photo.close();
    this.shown = [];
    this.picked = false;
  }

  /** @param {Language} language */
  speak(language) {
    this.language = language;
    try {
      localStorage.setItem("language", language);
    } catch {} // a browser that keeps nothing
    this.translate();
  }
}

/** @param {MediaStream} stream */
function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

/** @returns {Language | null} the language that a visitor chose before */
function remembered() {
  try {
    return LANGUAGES.find((each) => each === localStorage.getItem("language")) ?? null;
  } catch {
    return null;
  }
}

/** @returns {HTMLLIElement} an empty bar: name, share, line */
function bar() {
  const item = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const line = Object.assign(document.createElement("span"), { className: "bar" });
  button.append(document.createElement("span"), document.createElement("span"), line);
  item.append(button);
  return item;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} image
 * @param {number} most pixels a side
 */
function draw(canvas, image, most = Infinity) {
  const scale = Math.min(1, most / Math.max(image.width, image.height));
  [canvas.width, canvas.height] = [image.width, image.height].map((side) =>
    Math.max(1, Math.round(side * scale)),
  );
  canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
}

/** Write a text where it is another one: what is written is read out. @param {string} id @param {string} text */
function put(id, text) {
  if (find(id).textContent !== text) find(id).textContent = text;
}

/** Write the texts that say nothing of a model. @param {Language} language */
function write(language) {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = say(/** @type {HTMLElement} */ (element).dataset.text ?? "", language);
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute(
      "aria-pressed",
      String(/** @type {HTMLElement} */ (button).dataset.language === language),
    );
  }
}

/** @param {HTMLCanvasElement} canvas @param {Answer} answer @param {number | null} index the class whose map lies over it */
function drawSeen(canvas, { seen, cam }, index) {
  const [height, width, channels] = seen.shape;
  const pixels = new Uint8ClampedArray(4 * width * height);
  for (let at = 0; at < width * height; at++) {
    for (let c = 0; c < 3; c++) pixels[4 * at + c] = seen.values[channels * at + (c % channels)];
    pixels[4 * at + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context?.putImageData(new ImageData(pixels, width, height), 0, 0);
  if (!cam || index === null || !context) return;
  const [, h, w] = cam.shape;
  const map = new OffscreenCanvas(w, h);
  const colours = Uint8ClampedArray.from(activation(cam.values, cam.shape, index).flatMap(heat));
  map.getContext("2d")?.putImageData(new ImageData(colours, w, h), 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(map, 0, 0, width, height);
}

/** @param {Page} page */
function wire(page) {
  const drop = find("drop");
  find("file").addEventListener("change", ({ target }) => {
    if (target.files.length) page.take([...target.files]);
    target.value = "";
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
    });
  }
  document.addEventListener("drop", ({ dataTransfer }) => {
    if (dataTransfer?.files.length) page.take([...dataTransfer.files]);
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData?.files.length) page.take([...clipboardData.files]);
  });
  find("camera").addEventListener("click", () => (page.stream ? page.stopCamera() : page.startCamera()));
  find("map").addEventListener("change", () => page.render());
  find("several").tabIndex = 0; // it scrolls on a phone, for the keyboard too
  find("bars").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    page.chosen = Number(button.dataset.index);
    page.picked = true;
    find("map").checked = true;
    page.render();
  });
  onLanguage((language) => page.speak(language));
}

/** @param {(language: Language) => void} speak */
function onLanguage(speak) {
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => speak(/** @type {any} */ (button).dataset.language));
  }
}

/** Without a model there is nothing to do but to say so. */
function giveUp() {
  const speak = (/** @type {Language} */ language) => {
    write(language);
    put("problem", say("no_model", language));
  };
  for (const id of ["file", "camera"]) find(id).disabled = true;
  put("status", "");
  find("problem").hidden = false;
  onLanguage(speak);
  speak(remembered() ?? preferred(navigator.languages));
}

async function start() {
  let model;
  try {
    model = await (await fetch("model.json")).json();
  } catch {
    return giveUp();
  }
  const page = new Page(model);
  wire(page);
  page.translate();
  try {
    await page.network.ready;
    if (page.status === "loading") page.status = "ready";
    page.render();
  } catch (error) {
    page.fail(error);
  }
  find("progress").hidden = true;
  await keep(page); // after the network, so that its files are downloaded once: the browser's cache has them
}

/** Keep the page's files for use offline. @param {Page} page */
async function keep(page) {
  try {
    await navigator.serviceWorker.register("sw.js", { updateViaCache: "none" }); // a new version is seen at once
    await navigator.serviceWorker.ready;
  } catch {
    return; // a browser that keeps nothing, or a page without https
  }
  if (page.status === "ready") page.status = "offline";
  page.render();
}

if (globalThis.document) start();
