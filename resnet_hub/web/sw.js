/**
 * Keeps the page's files, so that it works offline after the first load. `files.js` names them and changes with
 * each of them, which is how a browser notices a new version.
 */
/// <reference lib="webworker" />
importScripts("files.js");

/** @type {{ version: string, files: string[] }} */
const { version, files } = self.pageFiles;
// Caches belong to a whole host, which may hold other pages like this one.
const own = `resnet_hub ${self.registration.scope} `;
const name = own + version;

self.addEventListener("install", (event) => {
  const kept = caches
    .open(name)
    .then((cache) => cache.addAll(files.map((file) => new Request(file, { cache: "no-cache" }))));
  event.waitUntil(kept.then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = caches.keys().then((keys) => keys.filter((key) => key.startsWith(own) && key !== name));
  const gone = old.then((keys) => Promise.all(keys.map((key) => caches.delete(key))));
  event.waitUntil(gone.then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method !== "GET" || new URL(url).origin !== self.location.origin) return;
  const kept = caches.open(name).then((cache) => cache.match(event.request, { ignoreSearch: true }));
  event.respondWith(kept.then((found) => found ?? fetch(event.request)));
});
