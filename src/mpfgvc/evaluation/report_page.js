// Sorting, the filter by class, the matrix of confusions, the lists of photographs, one enlarged. Reads #data.
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
    picture.tabIndex = 0;
  }
  const caption = document.createElement("figcaption");
  const guessed = document.createElement("b");
  guessed.textContent = `${name(guess)} ${probability}\u00a0%`;
  caption.append(guessed, document.createElement("br"), `is ${name(truth)}, ${truthProbability}\u00a0%, rank\u00a0${rank}`);
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
  const rows = [...table.tBodies[0].rows], column = heading.cellIndex;
  const value = (row) => row.cells[column].textContent;
  rows.sort((one, other) => {
    if (column === 0) return (up ? 1 : -1) * value(one).localeCompare(value(other));
    if (value(one) === "" || value(other) === "") return (value(one) === "") - (value(other) === "");
    return (up ? 1 : -1) * (Number(value(one)) - Number(value(other)));
  });
  table.tBodies[0].append(...rows);
}

// A photograph of any list, enlarged.
const large = find("large");
function enlarge(picture) {
  large.querySelector("img").src = picture.src;
  large.querySelector("img").alt = picture.alt;
  const figure = picture.closest("figure");
  large.querySelector("p").textContent = `${figure.innerText} (${figure.title || picture.title})`;
  large.showModal();
}
document.addEventListener("click", (event) => {
  if (event.target.matches(".photos img")) enlarge(event.target);
  else if (event.target === large || event.target.closest("#large button")) large.close();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches(".photos img")) return;
  event.preventDefault();  // else the same key closes it: the button in it has the focus now
  enlarge(event.target);
});

// The matrix: only cells that are not empty are drawn, each 16 pixels wide before the drawing is scaled.
const CELL = 16, matrix = find("matrix"), count = data.classes.length;
let source, order, cells, byCount, at, margin;

function svg(tag, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function drawMatrix() {
  source = find("matrix-source").value;
  order = data.orders[source];
  const indexOf = [];
  order.forEach((label, index) => { indexOf[label] = index; });
  cells = new Map(data.cells[source].map(([truth, guess, n]) => [indexOf[truth] * count + indexOf[guess], n]));
  byCount = [...cells].filter(([key]) => Math.floor(key / count) !== key % count)
    .sort((one, other) => other[1] - one[1] || one[0] - other[0]).map(([key]) => key);
  const named = find("named").checked;
  margin = named ? 14 + 7 * Math.max(...data.classes.map((text) => cut(text).length)) : 4;
  const side = margin + CELL * count;
  const drawing = svg("svg", { viewBox: `0 0 ${side} ${side}` });
  drawing.style.width = named ? `max(${side}px, min(100%, 28rem))` : "min(100%, 46rem)";
  for (const [key, n] of cells) {
    const row = Math.floor(key / count), column = key % count, edge = Math.max(CELL, row === column ? 0 : side / 330);
    const left = margin + CELL * column, top = margin + CELL * row, share = n / data.totals[order[row]];
    drawing.append(svg("rect", { "data-key": key, class: row === column ? "right" : "wrong", x: left, y: top, width: edge,
      height: edge, "fill-opacity": 0.2 + 0.8 * Math.sqrt(share) }));
    if (named) drawing.append(svg("text", { class: "count", x: left + CELL / 2, y: top + 12 }, n));
  }
  for (let index = 0; named && index < count; index++) {
    const label = cut(name(order[index])), middle = margin + CELL * index + 12;
    drawing.append(svg("text", { x: margin - 6, y: middle, "text-anchor": "end" }, label));
    drawing.append(svg("text", { x: 0, y: 0, transform: `translate(${middle},${margin - 6}) rotate(-90)` }, label));
  }
  drawing.append(svg("rect", { class: "chosen", width: CELL, height: CELL }));
  matrix.replaceChildren(drawing);
  go(byCount.length ? byCount[0] : 0, false);
}

const cut = (text) => text.length > 24 ? `${text.slice(0, 14)}…${text.slice(-9)}` : text;  // names differ at their ends, too

function go(key, follow = true) {
  at = key;
  const row = Math.floor(at / count), column = at % count;
  const chosen = matrix.querySelector(".chosen"), truth = order[row], guess = order[column], n = cells.get(at) || 0;
  chosen.setAttribute("x", margin + CELL * column);
  chosen.setAttribute("y", margin + CELL * row);
  if (follow) chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
  const said = truth === guess ? "recognised" : `taken for ${name(guess)}`;
  find("cell").textContent = `${name(truth)}, ${said}: ${n} of ${data.totals[truth]} photographs`;
  find("cell-photos").hidden = truth === guess || n === 0 || source !== find("matrix-source").dataset.main;
}

function next(step) {
  if (byCount.length) go(byCount[(byCount.indexOf(at) + step + byCount.length) % byCount.length]);
}
function listPhotos() {
  setFilter({ pair: [order[Math.floor(at / count)], order[at % count]] });
  find("wrong").scrollIntoView();
}

matrix.addEventListener("keydown", (event) => {
  if (event.key === "n") next(1);
  if (event.key === "p") next(-1);
  if (event.key === "Enter" && !find("cell-photos").hidden) listPhotos();
});
matrix.addEventListener("click", (event) => { if (event.target.dataset.key) go(Number(event.target.dataset.key)); });
find("matrix-source").dataset.main = find("matrix-source").value;
find("matrix-source").addEventListener("change", drawMatrix);
find("named").addEventListener("change", drawMatrix);
find("next").addEventListener("click", () => next(1));
find("cell-photos").addEventListener("click", listPhotos);
for (const picture of document.querySelectorAll("#pairs img")) picture.tabIndex = 0;
drawMatrix();
show();
