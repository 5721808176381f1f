"use strict";
// Tables that sort and filter, values under the pointer. Without it the page says the same.

function number(cell) {
  const text = cell.getAttribute("data-v");
  return text === null || text === "" ? null : Number(text);
}

function compare(one, other, at, numeric, sign) {
  const a = one.cells[at], b = other.cells[at];
  if (!numeric) return sign * a.textContent.localeCompare(b.textContent, "en", {numeric: true});
  const x = number(a), y = number(b);
  if (x === null || y === null) return (x === null) - (y === null); // what has no number stays last
  return sign * (x - y);
}

function sortable(table) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], before = [...body.rows];
  heads.forEach((head, at) => {
    const button = document.createElement("button"), numeric = head.classList.contains("n");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort"), first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      const next = now === "none" ? first : now === first ? second : "none";
      heads.forEach(one => one.setAttribute("aria-sort", one === head ? next : "none"));
      const sign = next === "ascending" ? 1 : -1;
      body.append(...(next === "none" ? before : before.slice().sort((a, b) => compare(a, b, at, numeric, sign))));
    });
  });
}

function filterable(box) {
  const input = box.querySelector("input"), count = box.querySelector(".count");
  if (!input) return;
  const rows = [...box.querySelectorAll("tbody tr")];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of rows) {
      const text = [...row.cells].map(cell => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      left += !row.hidden;
    }
    const all = count.dataset.of, name = count.dataset.name;
    count.textContent = words.length ? `${left} of ${all} ${name}` : `${all} ${name}`;
  });
}

// Values under the pointer

function place([low, high, scale], value) { // as a fraction of the axis
  if (scale === "log") return Math.log(value / low) / Math.log(high / low);
  return (value - low) / (high - low);
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function nearest(panel, series, x, y) { // fractions of the axes -> the index of a point
  let best = -1, least = Infinity;
  series.p.forEach(([px, py], at) => {
    if (px === null || py === null) return;
    const across = place(panel.x, px) - x, up = series.dots ? place(panel.y, py) - y : 0;
    const distance = across * across + up * up;
    if (distance < least) { least = distance; best = at; }
  });
  return best;
}

function values(panel, x, y) { // -> [heading, rows, place of the line]
  const found = panel.series.map(series => [series, nearest(panel, series, x, y)]).filter(([, at]) => at >= 0);
  if (!found.length) return null;
  const dots = found.filter(([series]) => series.dots);
  const away = ([series, at]) => {
    const [px, py] = series.p[at];
    return Math.hypot(place(panel.x, px) - x, series.dots ? place(panel.y, py) - y : 0);
  };
  found.sort((a, b) => away(a) - away(b));
  const [first, at] = found[0], middle = first.p[at][0];
  const rows = (dots.length && first.dots ? found.slice(0, 1) : found)
    .filter(([series, own]) => Math.abs(place(panel.x, series.p[own][0]) - place(panel.x, middle)) < 0.02)
    .map(([series, own]) => [series.label, series.p[own][1], series.notes ? series.notes[own] : ""]);
  if (!first.dots) rows.sort((a, b) => b[1] - a[1]);
  const name = panel.names[String(middle)];
  return [name || `${panel.name} ${middle}`, rows.slice(0, 14), place(panel.x, middle)];
}

function pointed(canvas, picture) {
  const svg = canvas.querySelector("svg"), tip = element("div", undefined, "tip"), line = element("div", undefined, "cross");
  let now = null; // panel and fractions, for the keys
  tip.hidden = line.hidden = true;
  tip.setAttribute("role", "status");
  canvas.append(line, tip);
  const hide = () => { tip.hidden = line.hidden = true; };
  function show(panel, x, y) {
    const found = values(panel, x, y);
    if (!found) return hide();
    now = [panel, x, y];
    const [heading, rows, across] = found, [left, top, width, height] = panel.box;
    const table = element("table");
    for (const [label, value, note] of rows) {
      const row = table.insertRow();
      row.append(element("td", label), element("td", String(value), "n"), element("td", note));
    }
    tip.replaceChildren(element("b", heading), table);
    tip.hidden = line.hidden = false;
    const size = svg.getBoundingClientRect(), at = (left + across * width) * size.width;
    Object.assign(line.style, {left: `${at}px`, top: `${top * size.height}px`, height: `${height * size.height}px`});
    const seen = canvas.clientWidth + canvas.scrollLeft, wide = tip.offsetWidth;
    const side = at + 12 + wide <= seen ? at + 12 : Math.max(canvas.scrollLeft, at - 12 - wide);
    const down = Math.max(0, Math.min((top + (1 - y) * height) * size.height - tip.offsetHeight - 8, size.height - tip.offsetHeight));
    Object.assign(tip.style, {left: `${side}px`, top: `${down}px`});
  }
  function follow(event) {
    const size = svg.getBoundingClientRect();
    const fx = (event.clientX - size.left) / size.width, fy = (event.clientY - size.top) / size.height;
    const panel = picture.panels.find(({box: [left, top, width, height]}) =>
      fx >= left && fx <= left + width && fy >= top && fy <= top + height);
    if (!panel) return hide();
    const [left, top, width, height] = panel.box;
    show(panel, (fx - left) / width, 1 - (fy - top) / height);
  }
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") hide(); });
  canvas.addEventListener("blur", hide);
  canvas.addEventListener("keydown", event => {
    const step = {ArrowLeft: -0.02, ArrowRight: 0.02}[event.key];
    if (event.key === "Escape") return hide();
    if (!step || !picture.panels.length) return undefined;
    event.preventDefault();
    const [panel, x, y] = now || [picture.panels[0], 0, 0.5];
    return show(panel, Math.min(1, Math.max(0, x + step)), y);
  });
}

document.querySelectorAll(".table").forEach(box => {
  sortable(box.querySelector("table"));
  filterable(box);
});
const pictures = JSON.parse(document.getElementById("pictures").textContent);
document.querySelectorAll(".canvas").forEach(canvas => pointed(canvas, pictures[Number(canvas.dataset.picture)]));
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(one => { one.open = true; }));
