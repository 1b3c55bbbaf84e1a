/** Reading a chart: its legend, what stands under the pointer, and the same numbers as a table. */

/** The point nearest to a number of tokens, or null. */
const at = (points, tokens) => points.length === 0 ? null : points.reduce((best, point) =>
  Math.abs(point[0] - tokens) < Math.abs(best[0] - tokens) ? point : best);

function readWords(data, tokens) {
  const words = [`${grouped(tokens)} tokens`];
  const held = at(data.validation, tokens);
  if (held) {
    const change = held[1] - data.validation[0][1];
    const where = held[0] === tokens ? "" : ` at ${grouped(held[0])}`;
    words.push(`validation ${held[1].toFixed(3)}${where} (${signed(change, 3)}, ${signed(100 * change / data.validation[0][1], 1)}\u202f% against step 0)`);
  }
  const trained = at(smoothed(data.training), tokens);
  if (trained) words.push(`training ${trained[1].toFixed(3)} (smoothed)`);
  const rate = at(data.rate, tokens);
  if (rate) words.push(`rate ${rateWords(rate[1])}`);
  return words.join(" · ");
}

function legend(data) {
  const list = make("div", { class: "legend" });
  const add = (sort, words) => {
    const swatch = draw("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" });
    swatch.append(draw("line", { class: sort, x1: 0, x2: 26, y1: 5, y2: 5 }));
    if (sort === "spike") swatch.replaceChildren(draw("path", { class: sort, d: "M13,9l5,-8h-10z" }));
    if (sort === "held") swatch.append(draw("circle", { class: "knot", cx: 13, cy: 5, r: 3 }));
    const entry = make("span", {}, words);
    entry.prepend(swatch);
    list.append(entry);
  };
  if (data.validation.length) { add("held", "validation"); add("start", "validation at step 0"); }
  if (data.training.length) add("smooth", "training, smoothed (pale: single steps)");
  if (data.spikes.length) add("spike", "a step that stands out");
  return list;
}

function numbers(data) {
  const body = make("tbody");
  const start = data.validation[0][1];
  for (const [tokens, loss] of data.validation) {
    body.append(make("tr", {}, make("td", { class: "n" }, grouped(tokens)), make("td", { class: "n" }, loss.toFixed(4)),
      make("td", { class: "n" }, signed(loss - start, 4)), make("td", { class: "n" }, `${signed(100 * (loss - start) / start, 1)}\u202f%`)));
  }
  const head = make("tr", {}, ...["Tokens trained", "Validation, nats per token", "Change", "Relative"].map((word) =>
    make("th", { scope: "col", class: "n" }, word)));
  return make("details", {}, make("summary", {}, "Validation as numbers"),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Validation as numbers" }, make("table", {}, make("thead", {}, head), body)));
}

/** One figure: heading, legend, drawing, read-out by pointer and by arrow keys, and the numbers. */
function chart(figure, key) {
  const name = figure.dataset.source;
  const data = series(name);
  const top = make("div", { class: "top" }, make("h3", {}, name));
  figure.append(top);
  if (data.training.length + data.validation.length === 0) {
    figure.append(make("p", { class: "quiet" }, "Neither trained on nor watched while training: there is no curve."));
    return;
  }
  const end = Math.max(...[...data.training, ...data.validation].map((point) => point[0]));
  const readout = make("p", { class: "readout", "aria-live": "polite" });
  const svg = draw("svg", { role: "img", tabindex: 0, "aria-label": `Learning curve of ${name}. ${readWords(data, end)}` });
  figure.append(legend(data), svg, readout);
  if (data.validation.length === 0) figure.append(make("p", { class: "quiet" }, "No validation text of this source was watched while training."));
  if (data.training.length === 0) figure.append(make("p", { class: "quiet" }, "Not trained on: only watched."));
  let close = false, scale, width, place = null;
  const read = (tokens) => {
    const cross = svg.querySelector(".cross");
    place = tokens;
    readout.textContent = readWords(data, tokens ?? end);
    cross.setAttribute("visibility", tokens === null ? "hidden" : "visible");
    if (tokens !== null) ["x1", "x2"].forEach((end) => cross.setAttribute(end, scale.x(tokens)));
  };
  const redraw = () => {
    width = Math.max(260, figure.clientWidth);
    scale = plot(svg, key, data, width, close);
    read(place);
  };
  if (data.training.length && data.validation.length) {
    const button = make("button", { type: "button", class: "plain-button", "aria-pressed": "false" }, "Validation only");
    button.addEventListener("click", () => { close = !close; button.setAttribute("aria-pressed", String(close)); redraw(); });
    top.append(button);
  }
  wireReading(svg, () => ({ scale, width, place, data }), read);
  if (data.validation.length) figure.append(numbers(data));
  new ResizeObserver(() => { if (Math.max(260, figure.clientWidth) !== width) redraw(); }).observe(figure);
  redraw();
}

function wireReading(svg, now, read) {
  svg.addEventListener("pointermove", (event) => {
    const { scale, width } = now();
    const box = svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) * width / box.width - ROOM.left) / (width - ROOM.left - ROOM.right);
    read(Math.round(Math.min(1, Math.max(0, share)) * scale.last));
  });
  svg.addEventListener("pointerleave", () => read(null));
  svg.addEventListener("blur", () => read(null));
  svg.addEventListener("keydown", (event) => {
    const { scale, place, data } = now();
    const stops = (data.validation.length ? data.validation : data.training).map((point) => point[0]);
    const here = place === null ? -1 : stops.indexOf(at(stops.map((stop) => [stop]), place)[0]);
    const index = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: stops.length - 1 }[event.key];
    if (index === undefined || scale === undefined) return;
    event.preventDefault();
    read(stops[Math.min(stops.length - 1, Math.max(0, index))]);
  });
}

document.querySelectorAll("figure.chart").forEach(chart);
