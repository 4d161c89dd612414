"use strict";
const kind = document.getElementById("kind"), className = document.getElementById("class");
const cards = [...document.querySelectorAll(".finding")], shown = document.getElementById("shown");

function filter() {
  let count = 0;
  for (const card of cards) {
    const fits = (!kind.value || card.dataset.kind === kind.value)
      && (!className.value || JSON.parse(card.dataset.classes).includes(className.value));
    card.hidden = !fits;
    count += fits;
  }
  shown.textContent = `${count} of ${cards.length} shown`;
}

kind.addEventListener("change", filter);
className.addEventListener("change", filter);
document.getElementById("clear").addEventListener("click", () => { kind.value = ""; className.value = ""; filter(); });
for (const button of document.querySelectorAll("button[data-show]")) {
  button.addEventListener("click", () => { kind.value = button.dataset.show; filter(); kind.focus(); });
}
filter();
