// A click on a position of a map frames what it depends on in the network's input. `element` is the panel.
element.addEventListener("click", (event) => {
  const map = event.target.closest("[data-map]");
  if (!map) return;
  const { size, field, jump, start, input } = JSON.parse(map.dataset.map);
  const box = map.firstElementChild.getBoundingClientRect(); // the image: a finger's button is higher than a wide map
  const byKey = event.detail === 0; // a key is in the middle
  const place = (at, from, long, count) => {
    const share = byKey ? 0.5 : (at - from) / long;
    return Math.max(0, Math.min(Math.floor(share * count), count - 1));
  };
  const row = place(event.clientY, box.top, box.height, size[0]);
  const column = place(event.clientX, box.left, box.width, size[1]);
  const frame = map.closest(".design").querySelector(".input i");
  const span = (position, long) => { // the part of the field that lies inside the image, in percent
    const first = Math.max(start + position * jump - field / 2, 0);
    const last = Math.min(start + position * jump + field / 2, long);
    return [(100 * first) / long, (100 * (last - first)) / long];
  };
  const [top, height] = span(row, input[0]), [left, width] = span(column, input[1]);
  Object.assign(frame.style, { top: `${top}%`, height: `${height}%`, left: `${left}%`, width: `${width}%` });
  frame.hidden = false;
});
