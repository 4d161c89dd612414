// Sorting, the filter by class, the matrix of confusions and the lists of photographs. Reads #data.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const name = (label) => data.classes[label];
const STEP = 60;  // photographs that a list shows at a time
const filter = { text: "", exact: null, pair: null };
let shownWrong = STEP;

// The filter by class, which all parts follow.
const fits = (label) => filter.exact === null
  ? name(label).toLowerCase().includes(filter.text.toLowerCase()) : label === filter.exact;
const isAll = () => filter.pair === null && filter.exact === null && filter.text === "";
const keeps = (labels) => filter.pair === null
  ? labels.some(fits) : labels.every((label) => filter.pair.includes(label));

function setFilter(next) {
  Object.assign(filter, { text: "", exact: null, pair: null }, next);
  find("filter").value = filter.exact !== null ? name(filter.exact) : filter.text;
  shownWrong = STEP;
  show();
}

function show() {
  for (const part of document.querySelectorAll("[data-classes]")) {
    part.hidden = !isAll() && !keeps(part.dataset.classes.split(" ").map(Number));
  }
  const classes = data.classes.filter((_, label) => keeps([label])).length;
  const pair = filter.pair && `${name(filter.pair[0])} taken for ${name(filter.pair[1])}`;
  find("filtered").textContent = isAll() ? "" : pair || `${classes} of ${data.classes.length} classes`;
  showWrong();
  showList("suspect-list", data.suspects.filter(isKept));
  for (const section of [find("pairs"), find("labels")]) {
    const any = section.querySelector("article:not([hidden]), #suspect-list figure");
    section.querySelector(".nothing").hidden = isAll() || any !== null;
  }
}

const isKept = (row) => isAll() || (filter.pair
  ? row[1] === filter.pair[0] && row[2] === filter.pair[1] : keeps([row[1], row[2]]));

function showWrong() {
  const rows = data.wrong.filter(isKept);
  showList("wrong-list", rows.slice(0, shownWrong));
  const shown = Math.min(shownWrong, rows.length);
  find("wrong-count").textContent = `${shown} of ${rows.length} shown`;
  find("more").hidden = shown === rows.length;
}

function showList(id, rows) {
  find(id).replaceChildren(...rows.map(figure));
}

function figure([path, truth, guess, probability, truthProbability, rank, photo]) {
  const made = document.createElement("figure");
  let picture;
  if (photo < 0) {
    picture = document.createElement("div");
    picture.className = "none";
    picture.textContent = "only in wrong.csv";
  } else {
    picture = new Image();
    picture.src = data.photos[photo];
    picture.alt = `A photograph of ${name(truth)}`;
  }
  const caption = document.createElement("figcaption");
  const guessed = document.createElement("b");
  guessed.textContent = `${name(guess)} ${probability}\u00a0%`;
  caption.append(guessed, document.createElement("br"), `is ${name(truth)}, ${truthProbability}\u00a0%, place\u00a0${rank}`);
  made.append(picture, caption);
  made.title = path;
  return made;
}

find("filter").addEventListener("input", (event) => setFilter({ text: event.target.value }));
find("filter-bar").addEventListener("submit", (event) => event.preventDefault());
find("clear").addEventListener("click", () => setFilter({}));
find("more").addEventListener("click", () => { shownWrong += STEP; showWrong(); });

// The table of classes: names show what has to do with them, headings sort.
const table = find("class-table");
table.addEventListener("click", (event) => {
  const picked = event.target.closest(".pick");
  if (picked) setFilter({ exact: Number(picked.closest("tr").dataset.classes) });
  const heading = event.target.closest("th[aria-sort]");
  if (heading) sortBy(heading);
});

function sortBy(heading) {
  const up = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows], place = heading.cellIndex;
  const value = (row) => row.cells[place].textContent;
  rows.sort((one, other) => {
    if (place === 0) return (up ? 1 : -1) * value(one).localeCompare(value(other));
    if (value(one) === "" || value(other) === "") return (value(one) === "") - (value(other) === "");
    return (up ? 1 : -1) * (Number(value(one)) - Number(value(other)));
  });
  table.tBodies[0].append(...rows);
}

// The matrix: only cells that are not empty are drawn.
const canvas = find("matrix"), pen = canvas.getContext("2d"), count = data.classes.length;
const NAMES_FROM = 11;  // pixels that a cell must have for the names of its classes
let source, order, placeOf, cells, byCount, at, view, margin, size;

function useSource(chosen) {
  source = chosen;
  order = data.orders[source];
  placeOf = [];
  order.forEach((label, place) => { placeOf[label] = place; });
  cells = new Map(data.cells[source].map(([truth, guess, n]) => [placeOf[truth] * count + placeOf[guess], n]));
  byCount = [...cells].filter(([key]) => Math.floor(key / count) !== key % count)
    .sort((one, other) => other[1] - one[1] || one[0] - other[0]).map(([key]) => key);
  at = byCount.length ? byCount[0] : 0;
  fit();
}

function measure() {
  const width = canvas.clientWidth, high = Math.round(Math.min(width, 720, innerHeight * 0.85));
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(high * ratio);
  canvas.style.height = `${high}px`;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  size = { width, high };
}

const marginFor = (scale) => scale >= NAMES_FROM ? Math.min(170, size.width * 0.3) : 8;
function fit() {
  measure();
  const room = Math.min(size.width, size.high);
  let scale = (room - marginFor(NAMES_FROM)) / count;
  if (scale < NAMES_FROM) scale = Math.min((room - 8) / count, NAMES_FROM - 0.01);
  view = { scale: Math.min(scale, 48), x: 0, y: 0 };
  draw();
}

function zoom(factor) {
  const [row, column] = [Math.floor(at / count), at % count];
  const least = (Math.min(size.width, size.high) - 8) / count;
  const scale = Math.max(Math.min(least, 48), Math.min(48, view.scale * factor));
  const middle = (length) => (length - marginFor(scale)) / scale / 2;
  view = { scale, x: column + 0.5 - middle(size.width), y: row + 0.5 - middle(size.high) };
  draw();
}

function keepInside() {
  margin = marginFor(view.scale);
  const limit = (start, length) => Math.max(0, Math.min(start, count - (length - margin) / view.scale));
  view.x = limit(view.x, size.width);
  view.y = limit(view.y, size.high);
}

function bringIntoView() {
  const [row, column] = [Math.floor(at / count), at % count];
  const across = (size.width - margin) / view.scale, down = (size.high - margin) / view.scale;
  view.x = Math.min(column, Math.max(view.x, column + 1 - across));
  view.y = Math.min(row, Math.max(view.y, row + 1 - down));
  draw();
}

function draw() {
  keepInside();
  const colours = getComputedStyle(document.documentElement), colour = (key) => colours.getPropertyValue(key);
  const { scale, x, y } = view, whole = margin + count * scale <= Math.min(size.width, size.high) + 1;
  canvas.style.touchAction = whole ? "auto" : "none";  // a finger scrolls the page, or moves what is zoomed
  pen.clearRect(0, 0, size.width, size.high);
  pen.save();
  pen.beginPath();
  pen.rect(margin, margin, size.width - margin, size.high - margin);
  pen.clip();
  drawCells(scale, x, y, colour);
  const [row, column] = [Math.floor(at / count), at % count], edge = Math.max(scale, 7);
  pen.strokeStyle = colour("--text");
  pen.lineWidth = 2;
  pen.strokeRect(margin + (column - x + 0.5) * scale - edge / 2, margin + (row - y + 0.5) * scale - edge / 2, edge, edge);
  pen.restore();
  if (scale >= NAMES_FROM) drawNames(scale, x, y, colour);
  say();
}

function drawCells(scale, x, y, colour) {
  pen.strokeStyle = colour("--line");
  pen.lineWidth = 1;
  if (scale >= 6) {
    pen.beginPath();
    for (let place = 0; place <= count; place++) {
      const across = margin + (place - x) * scale, down = margin + (place - y) * scale;
      pen.moveTo(across, margin + (0 - y) * scale); pen.lineTo(across, margin + (count - y) * scale);
      pen.moveTo(margin + (0 - x) * scale, down); pen.lineTo(margin + (count - x) * scale, down);
    }
    pen.stroke();
  }
  for (const [key, n] of cells) {
    const row = Math.floor(key / count), column = key % count, share = n / data.totals[order[row]];
    const edge = row === column ? Math.max(scale, 1) : Math.max(scale, 2.2);
    const strength = 0.2 + 0.8 * Math.sqrt(share);
    pen.globalAlpha = strength;
    pen.fillStyle = colour(row === column ? "--good" : "--bad");
    pen.fillRect(margin + (column - x) * scale, margin + (row - y) * scale, edge, edge);
    pen.globalAlpha = 1;
    if (scale >= 17) {
      pen.fillStyle = strength > 0.6 ? "#151614" : colour("--text");
      pen.font = "12px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.fillText(n, margin + (column - x + 0.5) * scale, margin + (row - y + 0.5) * scale + 4);
    }
  }
}

function drawNames(scale, x, y, colour) {
  const tall = Math.min(13, scale - 1), row = Math.floor(at / count), column = at % count;
  pen.fillStyle = colour("--text");
  for (let place = 0; place < count; place++) {
    const down = margin + (place - y + 0.5) * scale, across = margin + (place - x + 0.5) * scale;
    if (down > margin && down < size.high) {
      pen.font = `${place === row ? "bold " : ""}${tall}px system-ui, sans-serif`;
      pen.textAlign = "right";
      pen.fillText(cut(name(order[place])), margin - 4, down + tall / 3);
    }
    if (across > margin && across < size.width) {
      pen.font = `${place === column ? "bold " : ""}${tall}px system-ui, sans-serif`;
      pen.save();
      pen.translate(across + tall / 3, margin - 4);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      pen.fillText(cut(name(order[place])), 0, 0);
      pen.restore();
    }
  }
}

function cut(text) {
  if (pen.measureText(text).width <= margin - 8) return text;
  while (text.length > 1 && pen.measureText(text + "…").width > margin - 8) text = text.slice(0, -1);
  return text + "…";
}

function say() {
  const truth = order[Math.floor(at / count)], guess = order[at % count], n = cells.get(at) || 0;
  const said = truth === guess ? "recognised" : `taken for ${name(guess)}`;
  find("cell").textContent = `${name(truth)}, ${said}: ${n} of ${data.totals[truth]} photographs`;
  find("cell-photos").hidden = truth === guess || n === 0 || source !== find("matrix-source").dataset.main;
}

function go(key) { at = key; bringIntoView(); }
function next(step) {
  const now = byCount.indexOf(at);
  if (byCount.length) go(byCount[(now + step + byCount.length) % byCount.length]);
}
function listPhotos() {
  setFilter({ pair: [order[Math.floor(at / count)], order[at % count]] });
  find("wrong").scrollIntoView();
}

canvas.addEventListener("keydown", (event) => {
  const row = Math.floor(at / count), column = at % count, last = count - 1;
  const moves = {
    ArrowUp: () => go(Math.max(row - 1, 0) * count + column), ArrowDown: () => go(Math.min(row + 1, last) * count + column),
    ArrowLeft: () => go(row * count + Math.max(column - 1, 0)), ArrowRight: () => go(row * count + Math.min(column + 1, last)),
    n: () => next(1), p: () => next(-1), "+": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: fit,
    Enter: () => { if (!find("cell-photos").hidden) listPhotos(); },
  };
  if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  moves[event.key]();
});

// With a finger or a mouse: a tap or a click takes the nearest cell, a drag moves the matrix.
let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  drag = { left: event.offsetX, top: event.offsetY, x: view.x, y: view.y, moved: false };
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const across = event.offsetX - drag.left, down = event.offsetY - drag.top;
  if (Math.abs(across) + Math.abs(down) > 6) drag.moved = true;
  if (drag.moved) { view.x = drag.x - across / view.scale; view.y = drag.y - down / view.scale; draw(); }
});
for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
  canvas.addEventListener(end, (event) => {
    if (drag && !drag.moved && end === "pointerup") pick(event.offsetX, event.offsetY);
    drag = null;
  });
}

function pick(left, top) {
  const column = Math.floor((left - margin) / view.scale + view.x), row = Math.floor((top - margin) / view.scale + view.y);
  if (row < 0 || column < 0 || row >= count || column >= count) return;
  const reach = Math.ceil(6 / view.scale);
  let best = row * count + column, least = Infinity;
  for (const key of view.scale < 12 ? cells.keys() : []) {
    const away = Math.hypot(Math.floor(key / count) - row, key % count - column);
    if (away <= reach && away < least) { best = key; least = away; }
  }
  at = best;
  draw();
}

find("matrix-source").dataset.main = find("matrix-source").value;
find("matrix-source").addEventListener("change", (event) => useSource(event.target.value));
find("zoom-in").addEventListener("click", () => zoom(1.5));
find("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
find("zoom-all").addEventListener("click", fit);
find("zoom-next").addEventListener("click", () => next(1));
find("cell-photos").addEventListener("click", listPhotos);
addEventListener("resize", () => { measure(); draw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
useSource(find("matrix-source").value);
show();
