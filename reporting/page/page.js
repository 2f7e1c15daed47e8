"use strict";
// Draws the figures one after the other, so that a long page can be read at once.
const waiting = [...document.querySelectorAll("script[data-figure]")];

function draw(script) {
  const place = document.getElementById(script.dataset.figure);
  const figure = JSON.parse(script.textContent);
  Plotly.newPlot(place, figure.data, figure.layout, { displayModeBar: false, responsive: true });
}

function drawNext() {
  if (!waiting.length) return;
  draw(waiting.shift());
  setTimeout(drawNext);
}

addEventListener("beforeprint", () => {
  while (waiting.length) draw(waiting.shift());
});
drawNext();
