/**
 * The network, away from the page's thread: a photo in, `Answer` or the code of a problem out.
 *
 * The photo is decoded with its orientation and without colour conversion, as Python does it; resizing, cropping
 * and normalising are inside the model.
 */
import * as ort from "./ort/ort.wasm.min.mjs";

const MOST_PIXELS = 24_000_000; // a larger photo is decoded at half its size, as in Python

/**
 * @typedef {object} Answer
 * @property {Float32Array} probabilities one a class
 * @property {boolean | null} familiar null where no threshold was measured
 * @property {{ values: Float32Array, shape: number[] } | null} cam (classes, h, w)
 * @property {{ values: Uint8Array, shape: number[] }} seen the network's input, (h, w, channels)
 * @property {ImageBitmap} photo at most 640 pixels a side
 * @property {number} milliseconds in the network, decoding apart
 */

/** A problem that the page has a sentence for: its message is the code. */
class Problem extends Error {}

/**
 * Download with progress.
 * @param {string} url
 * @param {(share: number) => void} progress
 * @returns {Promise<Uint8Array>}
 */
async function download(url, progress) {
  const response = await fetch(url);
  if (!response.ok || !response.body) throw new Problem("no_model");
  const total = Number(response.headers.get("Content-Length")) || 0;
  const parts = [];
  let length = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    length += value.length;
    if (total) progress(Math.min(length / total, 1)); // the length of a compressed file is another
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** @returns {Promise<ort.InferenceSession>} */
async function load() {
  ort.env.wasm.numThreads = 1; // more need headers that static hosts do not send
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.logLevel = "error";
  let model;
  try {
    model = await download("model.onnx", (share) => postMessage({ progress: share }));
  } catch (error) {
    throw error instanceof Problem ? error : new Problem("no_model", { cause: error });
  }
  try {
    return await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Problem(problemOf(error), { cause: error });
  }
}

/** @param {unknown} error of a session that was not made @returns {string} */
function problemOf(error) {
  const said = String(error);
  if (/memory|alloc|range/i.test(said)) return "too_large";
  return /protobuf/i.test(said) ? "damaged" : "no_session";
}

/**
 * @param {Blob | ImageBitmap} photo
 * @returns {Promise<{ pixels: Uint8Array, width: number, height: number, small: ImageBitmap }>} RGB on white
 */
async function decode(photo) {
  const bitmap = await opened(photo);
  try {
    const first = bitmap.width * bitmap.height > MOST_PIXELS ? 0.5 : 1;
    for (const scale of [first, first / 2, first / 4]) {
      const found = drawn(bitmap, scale);
      if (found) return { ...found, small: await thumbnail(bitmap) };
    }
    throw new Problem("too_large");
  } catch (error) {
    throw error instanceof Problem ? error : new Problem("too_large", { cause: error });
  } finally {
    bitmap.close();
  }
}

/** @param {Blob | ImageBitmap} photo @returns {Promise<ImageBitmap>} */
async function opened(photo) {
  if (photo instanceof ImageBitmap) return photo;
  const usual = { colorSpaceConversion: "none" };
  try {
    return await createImageBitmap(photo, { ...usual, imageOrientation: "from-image" }).catch((error) => {
      if (!(error instanceof TypeError)) throw error;
      return createImageBitmap(photo, usual); // Chrome before 112 has no such word, and turns photos anyway
    });
  } catch (error) {
    throw new Problem("not_an_image", { cause: error });
  }
}

/**
 * @param {ImageBitmap} bitmap
 * @param {number} scale
 * @returns {{ pixels: Uint8Array, width: number, height: number } | null} null where the canvas is too large for
 *   the browser, which Safari on iOS does not say: it draws nothing
 */
function drawn(bitmap, scale) {
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.floor(side * scale)));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) return null;
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  const data = read(context, width, height);
  if (data?.[3] !== 255) return null; // not even the white below the photo
  const pixels = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; to < pixels.length; from += 4) {
    pixels[to++] = data[from];
    pixels[to++] = data[from + 1];
    pixels[to++] = data[from + 2];
  }
  return { pixels, width, height };
}

/** The pixels of a canvas, where there is memory for them. @param {OffscreenCanvasRenderingContext2D} context */
function read(context, width, height) {
  try {
    return context.getImageData(0, 0, width, height).data;
  } catch {
    return null;
  }
}

/** @param {ImageBitmap} bitmap */
function thumbnail(bitmap) {
  const scale = Math.min(1, 640 / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  return createImageBitmap(bitmap, { resizeWidth: width, resizeHeight: height });
}

/**
 * @param {ort.InferenceSession} session
 * @param {Blob | ImageBitmap} photo
 * @returns {Promise<Answer>}
 */
async function answer(session, photo) {
  const { pixels, width, height, small } = await decode(photo);
  const started = performance.now();
  const found = await session
    .run({ image: new ort.Tensor("uint8", pixels, [height, width, 3]) })
    .catch((error) => {
      small.close();
      throw new Problem("too_large", { cause: error });
    });
  const { probabilities, familiar, cam, seen } = found;
  return {
    probabilities: probabilities.data,
    familiar: familiar ? Boolean(familiar.data[0]) : null,
    cam: cam ? { values: cam.data, shape: [...cam.dims] } : null,
    seen: { values: seen.data, shape: [...seen.dims] },
    photo: small,
    milliseconds: performance.now() - started,
  };
}

/** @param {unknown} error @returns {string} */
function codeOf(error) {
  return error instanceof Problem ? error.message : "no_session";
}

const loaded = load();
loaded.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ problem: codeOf(error), cause: String(error.cause ?? error) }),
);

/** @param {MessageEvent<{ id: number, photo: Blob | ImageBitmap }>} event */
self.onmessage = async ({ data: { id, photo } }) => {
  try {
    const result = await answer(await loaded, photo);
    postMessage({ id, answer: result }, { transfer: [result.photo] });
  } catch (error) {
    postMessage({ id, problem: codeOf(error), cause: String(error.cause ?? error) });
  }
};
