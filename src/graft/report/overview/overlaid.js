/** Learning curves of several runs over each other; which are drawn is chosen by their buttons. */

const CURVES_AT_FIRST = 8; // runs that are drawn before anybody chooses: as many as there are colours
const chosen = new Set(facts.runs.map((_, run) => run).filter((run) => Object.values(facts.curves).flat().some((one) => one.run === run)).slice(0, CURVES_AT_FIRST));
const CURVE_HEIGHT = 300;

const curvesOf = (source) => facts.curves[source].filter((one) => chosen.has(one.run));
const nearestTo = (points, tokens) => points.reduce((best, point) => Math.abs(point[0] - tokens) < Math.abs(best[0] - tokens) ? point : best);
const tracing = (points, scale) => "M" + points.map(([tokens, loss]) => `${scale.x(tokens).toFixed(1)},${scale.y(loss).toFixed(1)}`).join("L");

/** Heights by validation losses where there are any: single training steps may leave the frame. */
function overlaidScale(curves, width) {
  const watched = curves.flatMap((one) => one.validation);
  const points = watched.length ? watched : curves.flatMap((one) => one.training);
  const last = Math.max(1, ...curves.flatMap((one) => [...one.validation, ...one.training].map((point) => point[0])));
  const losses = points.length ? points.map((point) => point[1]) : [0, 1];
  const margin = Math.max(1e-3, 0.07 * (Math.max(...losses) - Math.min(...losses)));
  const low = Math.min(...losses) - margin, high = Math.max(...losses) + margin;
  return {
    low, high, last,
    x: (tokens) => ROOM.left + (width - ROOM.left - ROOM.right) * tokens / last,
    y: (loss) => ROOM.top + (CURVE_HEIGHT - ROOM.top - ROOM.bottom) * (high - loss) / (high - low),
  };
}

function overlaidAxes(svg, scale, width) {
  const right = width - ROOM.right, bottom = CURVE_HEIGHT - ROOM.bottom;
  const rows = ticks(scale.low, scale.high, 6);
  for (const value of rows.values) {
    svg.append(draw("line", { class: "grid", x1: ROOM.left, x2: right, y1: scale.y(value), y2: scale.y(value) }));
    svg.append(draw("text", { x: ROOM.left - 8, y: scale.y(value) + 4, "text-anchor": "end" }, value.toFixed(rows.digits)));
  }
  for (const tokens of ticks(0, scale.last, width > 480 ? 6 : 4).values) {
    const x = scale.x(tokens);
    svg.append(draw("line", { class: "grid frame", x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
    svg.append(draw("text", { x, y: bottom + 17, "text-anchor": x > right - 14 ? "end" : "middle" }, short(tokens)));
  }
  svg.append(draw("line", { class: "grid frame", x1: ROOM.left, x2: right, y1: bottom, y2: bottom }));
  svg.append(draw("text", { x: right, y: bottom + 33, "text-anchor": "end" }, "tokens trained, all sources"));
}

function drawOverlaid(svg, source, key, width) {
  const curves = curvesOf(source), scale = overlaidScale(curves, width);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${CURVE_HEIGHT + X_AXIS}`);
  svg.setAttribute("height", CURVE_HEIGHT + X_AXIS);
  overlaidAxes(svg, scale, width);
  const clip = svg.appendChild(draw("defs", {})).appendChild(draw("clipPath", { id: `overlaid-${key}` }));
  clip.append(draw("rect", { x: ROOM.left, y: 0, width: width - ROOM.left, height: CURVE_HEIGHT - ROOM.bottom }));
  const lines = svg.appendChild(draw("g", { "clip-path": `url(#overlaid-${key})` }));
  const style = (one) => `run-${one.run % 8}${one.run >= 8 ? " again" : ""}`;
  for (const one of curves) if (one.training.length) lines.append(draw("path", { class: `trace thin ${style(one)}`, d: tracing(smoothed(one.training), scale) }));
  for (const one of curves) if (one.validation.length) {
    lines.append(draw("path", { class: `trace ${style(one)}`, d: tracing(one.validation, scale) }));
    for (const [tokens, loss] of one.validation) lines.append(draw("circle", { class: `knot-of ${style(one)}`, cx: scale.x(tokens), cy: scale.y(loss), r: 3 }));
  }
  svg.append(draw("line", { class: "cross", y1: ROOM.top, y2: CURVE_HEIGHT - ROOM.bottom, visibility: "hidden" }));
  return scale;
}

/** What every run that is drawn had come to at these tokens; at the end where none are named. */
function overlaidWords(source, tokens) {
  const said = curvesOf(source).filter((one) => one.validation.length || one.training.length).map((one) => {
    const points = one.validation.length ? one.validation : one.training;
    const [at, loss] = tokens === null ? points.at(-1) : nearestTo(points, tokens);
    return [loss, `${facts.runs[one.run]} ${loss.toFixed(3)}${tokens === null || at === tokens ? "" : ` (at ${short(at)})`}`];
  });
  if (!said.length) return "No run is chosen.";
  const words = said.sort((one, other) => one[0] - other[0]).map((pair) => pair[1]).join(" · ");
  return `${tokens === null ? "At the end" : `${grouped(tokens)} tokens`}, the lowest first: ${words}`;
}

const redraws = [];

function overlaidFigure(figure, key) {
  const source = figure.dataset.source;
  const svg = draw("svg", { role: "img", tabindex: 0 });
  const readout = make("p", { class: "readout", "aria-live": "polite" });
  figure.append(make("h3", {}, source), svg, readout);
  let scale, width, place = null;
  const read = (tokens) => {
    place = tokens;
    const cross = svg.querySelector(".cross");
    cross.setAttribute("visibility", tokens === null ? "hidden" : "visible");
    if (tokens !== null) ["x1", "x2"].forEach((end) => cross.setAttribute(end, scale.x(tokens)));
    readout.textContent = overlaidWords(source, tokens);
  };
  const redraw = () => {
    width = Math.max(260, figure.clientWidth);
    scale = drawOverlaid(svg, source, key, width);
    svg.setAttribute("aria-label", `Learning curves on ${source}. ${overlaidWords(source, null)}`);
    read(place);
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) * width / box.width - ROOM.left) / (width - ROOM.left - ROOM.right);
    read(Math.round(Math.min(1, Math.max(0, share)) * scale.last));
  });
  for (const leave of ["pointerleave", "blur"]) svg.addEventListener(leave, () => read(null));
  svg.addEventListener("keydown", (event) => {
    const points = curvesOf(source).flatMap((one) => one.validation.length ? one.validation : one.training);
    const stops = [...new Set(points.map((point) => point[0]))].sort((one, other) => one - other);
    const here = place === null ? -1 : stops.findIndex((stop) => stop >= place);
    const index = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: stops.length - 1 }[event.key];
    if (index === undefined || !stops.length) return;
    event.preventDefault();
    read(stops[Math.min(stops.length - 1, Math.max(0, index))]);
  });
  new ResizeObserver(() => { if (Math.max(260, figure.clientWidth) !== width) redraw(); }).observe(figure);
  redraws.push(redraw);
  redraw();
}

function runButtons(room) {
  const drawable = facts.runs.map((label, run) => [label, run]).filter(([, run]) => Object.values(facts.curves).flat().some((one) => one.run === run));
  for (const [label, run] of drawable) {
    const button = make("button", { type: "button", class: "plain-button chooser", "aria-pressed": String(chosen.has(run)) });
    button.append(make("span", { class: `swatch run-${run % 8}${run >= 8 ? " again" : ""}`, "aria-hidden": "true" }), label);
    button.addEventListener("click", () => {
      if (!chosen.delete(run)) chosen.add(run);
      button.setAttribute("aria-pressed", String(chosen.has(run)));
      redraws.forEach((redraw) => redraw());
    });
    room.append(button);
  }
}

if (document.getElementById("chosen")) {
  runButtons(document.getElementById("chosen"));
  document.querySelectorAll("figure.overlaid").forEach(overlaidFigure);
}
