/** Scores over the turns of a stream: a drawing per text, a line per method, each named where it ends. */

const TURN_ROOM = { left: 46, top: 10, bottom: 26 };
const TURN_HEIGHT = 250;
const NAME_HEIGHT = 12.5; // pixels between the names at the right
const LONGEST_NAME = 22; // characters; the buttons and the tables have the whole name
const picked = new Set(facts.methods.keys());

const pen = document.createElement("canvas").getContext("2d");
pen.font = `600 11.5px ${getComputedStyle(document.body).fontFamily}`;

const cut = (name) => name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name;
const turnScore = (value, measure) => measure === "accuracy" ? `${(100 * value).toFixed(1)}\u202f%` : value.toFixed(3);
const turnStyle = (number) => `run-${number % 8}${number >= 8 ? " again" : ""}`;

/** Lines of the methods that are picked; a start is their common first point. */
const linesOf = (chart) => chart.lines.map((line, number) => ({ number, line: line.length > 1 && chart.start !== null ? [[0, chart.start], ...line] : line }))
  .filter(({ number, line }) => picked.has(number) && line.length);

function turnScale(chart, width) {
  const values = [...linesOf(chart).flatMap(({ line }) => line.map((point) => point[1])), ...(chart.start === null ? [] : [chart.start])];
  const low = Math.min(...values), high = Math.max(...values), margin = Math.max(0.06 * (high - low), 1e-3);
  const last = Math.max(...facts.turns.loss.map((one) => one.own));
  const right = width - 16 - Math.max(...facts.methods.map((name) => pen.measureText(cut(name)).width));
  const bounds = [low - margin, high + margin], bottom = TURN_HEIGHT - TURN_ROOM.bottom;
  const first = chart.start === null ? 1 : 0;
  return {
    bounds, right, bottom, first, last,
    x: (turn) => TURN_ROOM.left + (right - TURN_ROOM.left) * (turn - first) / Math.max(1, last - first),
    y: (value) => TURN_ROOM.top + (bottom - TURN_ROOM.top) * (bounds[1] - value) / (bounds[1] - bounds[0]),
  };
}

function turnAxes(svg, chart, measure, { x, y, bounds, right, bottom, first, last }) {
  const unit = measure === "accuracy" ? 100 : 1;
  const rows = ticks(unit * bounds[0], unit * bounds[1], 7);
  if (chart.own) {
    const half = Math.min(14, (x(1) - x(0)) / 3);
    svg.append(draw("rect", { class: "own-turn", x: x(chart.own) - half, y: TURN_ROOM.top, width: 2 * half, height: bottom - TURN_ROOM.top }));
  }
  for (const value of rows.values) {
    const at = y(value / unit);
    svg.append(draw("line", { class: "grid", x1: TURN_ROOM.left, x2: right, y1: at, y2: at }));
    svg.append(draw("text", { x: TURN_ROOM.left - 7, y: at + 4, "text-anchor": "end" }, value.toFixed(rows.digits)));
  }
  svg.append(draw("line", { class: "grid frame", x1: TURN_ROOM.left, x2: right, y1: bottom, y2: bottom }));
  for (let turn = first; turn <= last; turn++) {
    svg.append(draw("line", { class: "grid frame", x1: x(turn), x2: x(turn), y1: bottom, y2: bottom + 4 }));
    svg.append(draw("text", { class: turn && turn === chart.own ? "own" : "", x: x(turn), y: bottom + 17, "text-anchor": "middle" }, turn ? `${turn}` : "start"));
  }
  if (chart.start !== null) svg.append(draw("line", { class: "start", x1: TURN_ROOM.left, x2: right, y1: y(chart.start), y2: y(chart.start) }));
}

/** Heights of the names at the right: as near to the ends of their lines as they can be without touching. */
function nameHeights(wanted, low, high) {
  const placed = wanted.map((height, i) => ({ height, i })).sort((one, other) => one.height - other.height);
  let before = low - NAME_HEIGHT;
  for (const one of placed) { one.height = Math.max(one.height, before + NAME_HEIGHT); before = one.height; }
  let after = high + NAME_HEIGHT;
  for (const one of placed.reverse()) { one.height = Math.min(one.height, after - NAME_HEIGHT); after = one.height; }
  const found = [];
  for (const one of placed) found[one.i] = one.height;
  return found;
}

function drawTurns(svg, chart, measure, width) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${TURN_HEIGHT}`);
  svg.setAttribute("height", TURN_HEIGHT);
  const lines = linesOf(chart);
  if (!lines.length) return null;
  const scale = turnScale(chart, width), { x, y, right, bottom } = scale;
  turnAxes(svg, chart, measure, scale);
  for (const { number, line } of lines) {
    const points = line.map(([turn, value]) => [x(turn), y(value)]);
    svg.append(draw("path", { class: `trace ${turnStyle(number)}`, d: "M" + points.map(([u, v]) => `${u.toFixed(1)},${v.toFixed(1)}`).join("L") }));
    points.slice(line[0][0] === 0 ? 1 : 0).forEach(([cx, cy]) => svg.append(draw("circle", { class: `knot-of ${turnStyle(number)}`, cx, cy, r: 2.6 })));
  }
  const heights = nameHeights(lines.map(({ line }) => y(line.at(-1)[1]) + 4), TURN_ROOM.top + 4, bottom + 10);
  lines.forEach(({ number, line }, i) => {
    svg.append(draw("path", { class: `lead ${turnStyle(number)}`, d: `M${x(line.at(-1)[0]) + 3},${y(line.at(-1)[1]).toFixed(1)}L${right + 11},${(heights[i] - 4).toFixed(1)}` }));
    svg.append(draw("text", { class: `name-of ${turnStyle(number)}`, x: right + 14, y: heights[i].toFixed(1) }, cut(facts.methods[number])));
  });
  svg.append(draw("line", { class: "cross", y1: TURN_ROOM.top, y2: bottom, visibility: "hidden" }));
  return scale;
}

/** What every method that is drawn came to in a turn, the best first. */
function turnWords(chart, measure, turn) {
  if (turn === 0) return `The base: ${turnScore(chart.start, measure)}`;
  const scored = linesOf(chart).flatMap(({ number, line }) => line.filter((point) => point[0] === turn).map((point) => [point[1], facts.methods[number]]));
  if (!scored.length) return picked.size ? `After turn ${turn}: no model.` : "No method is chosen.";
  scored.sort((one, other) => measure === "accuracy" ? other[0] - one[0] : one[0] - other[0]);
  return `After turn ${turn}, the best first: ${scored.map(([value, name]) => `${name} ${turnScore(value, measure)}`).join(" · ")}`;
}

const turnRedraws = [];

function turnFigure(figure) {
  const measure = figure.dataset.measure, chart = facts.turns[measure][Number(figure.dataset.chart)];
  const svg = draw("svg", { role: "img", tabindex: 0 });
  const readout = make("p", { class: "readout", "aria-live": "polite" });
  figure.append(svg, readout);
  const last = Math.max(...facts.turns.loss.map((one) => one.own)), first = chart.start === null ? 1 : 0;
  let scale = null, width = 0, place = null;
  const read = (turn) => {
    place = turn;
    const cross = svg.querySelector(".cross");
    if (cross) {
      cross.setAttribute("visibility", turn === null ? "hidden" : "visible");
      if (turn !== null) ["x1", "x2"].forEach((end) => cross.setAttribute(end, scale.x(turn)));
    }
    readout.textContent = turnWords(chart, measure, turn ?? last);
  };
  const redraw = () => {
    width = figure.clientWidth;
    scale = drawTurns(svg, chart, measure, Math.max(260, width));
    svg.setAttribute("aria-label", `${chart.name} over the turns. ${turnWords(chart, measure, last)}`);
    read(place);
  };
  svg.addEventListener("pointermove", (event) => {
    if (!scale) return;
    const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) * Math.max(260, width) / box.width;
    const share = (at - TURN_ROOM.left) / (scale.right - TURN_ROOM.left);
    read(Math.min(last, Math.max(first, first + Math.round(share * (last - first)))));
  });
  for (const leave of ["pointerleave", "blur"]) svg.addEventListener(leave, () => read(null));
  svg.addEventListener("keydown", (event) => {
    const turn = { ArrowRight: (place ?? first - 1) + 1, ArrowLeft: (place ?? last + 1) - 1, Home: first, End: last }[event.key];
    if (turn === undefined) return;
    event.preventDefault();
    read(Math.min(last, Math.max(first, turn)));
  });
  new ResizeObserver(() => { if (figure.clientWidth && figure.clientWidth !== width) redraw(); }).observe(figure);
  turnRedraws.push(redraw);
  redraw();
}

function methodButtons(room) {
  for (const number of facts.ranked) {
    const button = make("button", { type: "button", class: "plain-button chooser", "aria-pressed": "true" });
    button.append(make("span", { class: `swatch ${turnStyle(number)}`, "aria-hidden": "true" }), facts.methods[number]);
    button.addEventListener("click", () => {
      if (!picked.delete(number)) picked.add(number);
      button.setAttribute("aria-pressed", String(picked.has(number)));
      turnRedraws.forEach((redraw) => redraw());
    });
    room.append(button);
  }
}

methodButtons(document.getElementById("chosen"));
document.querySelectorAll("figure.turned").forEach(turnFigure);
