/**
 * Keeps the page's files, so that it works offline after the first load. `files.js` names them and changes with
 * each of them, which is how a browser notices a new version.
 */
/// <reference lib="webworker" />
importScripts("files.js");

/** @type {{ version: string, files: Record<string, string> }} `files`: name -> hash, as `integrity` takes it */
const { version, files } = self.pageFiles;
// Caches belong to a whole host, which may hold other pages like this one.
const own = `resnet_hub ${self.registration.scope} `;
const name = own + version;

self.addEventListener("install", (event) => {
  // Of a host to which half of a new version is uploaded nothing is kept; the next visit tries again.
  const wanted = Object.entries({ "./": undefined, ...files }).map(
    ([file, integrity]) => new Request(file, { cache: "no-cache", ...(integrity && { integrity }) }),
  );
  event.waitUntil(keep(wanted).then(() => self.skipWaiting()));
});

/** @param {Request[]} wanted */
async function keep(wanted) {
  const cache = await caches.open(name);
  await cache.addAll(wanted);
  const page = await (await cache.match("./"))?.text(); // without a hash, since hosts add to it
  if (page?.includes(version)) return;
  await caches.delete(name);
  throw new Error("the page itself is of another version");
}

self.addEventListener("activate", (event) => {
  const old = caches.keys().then((keys) => keys.filter((key) => key.startsWith(own) && key !== name));
  const gone = old.then((keys) => Promise.all(keys.map((key) => caches.delete(key))));
  event.waitUntil(gone.then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method !== "GET" || new URL(url).origin !== self.location.origin) return;
  const { pathname } = new URL(url);
  const asked = pathname === new URL("index.html", self.location.href).pathname ? "./" : event.request;
  const kept = caches.open(name).then((cache) => cache.match(asked, { ignoreSearch: true }));
  const found = kept.catch(() => undefined); // storage that fails is no worse than none
  event.respondWith(found.then((answer) => answer ?? fetch(event.request)));
});
