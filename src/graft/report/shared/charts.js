/**
 * Charts: a table of rows plus encodings in, a figure with a readout and arrow keys out. `page/charts.py` says what a
 * chart holds. Observable Plot makes scales, axes and marks; here are names, and what is read by pointer and by keys.
 */

const MARGIN = { left: 50, right: 14, top: 26, bottom: 44 };
const REACH = 44; // pixels from the pointer to the point that is read
const NARROW = 480; // pixels of width: below, there are fewer ticks
const LEAST_WIDTH = 260, PRINTED_WIDTH = 480;

function draw(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const short = (count) => count >= 1e9 ? `${+(count / 1e9).toPrecision(3)} G` : count >= 1e6
  ? `${+(count / 1e6).toPrecision(3)} M` : count >= 1e3 ? `${+(count / 1e3).toPrecision(3)} k` : `${count}`;

/** The words of a tick: as many digits as its axis needs. */
const tickWords = ({ unit = "", sign, counted, names }) => (value, i, all) => {
  if (names?.[value]) return names[value];
  if (counted) return short(value);
  const step = all.length > 1 ? Math.abs(all[1] - all[0]) : 1, digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  if (Math.abs(value) < step / 1e6) return unit ? `0${unit}` : (0).toFixed(digits);
  return (sign ? signed(value, digits) : value.toFixed(digits).replace("-", "−")) + unit;
};

const at = (place) => (row) => row[place];
const ends = { x1: at(0), y1: at(1), x2: at(2), y2: at(3) };
const MARKS = {
  line: (rows, look) => Plot.line(rows, { x: at(0), y: at(1), ...look }),
  shape: (rows, look) => Plot.line(rows, { x: at(0), y: at(1), curve: "linear-closed", ...look }),
  dot: (rows, look) => Plot.dot(rows, { x: at(0), y: at(1), title: (row) => row.length > 3 ? row[2] : null, ...look }),
  link: (rows, look) => Plot.link(rows, { ...ends, ...look }),
  rect: (rows, look) => Plot.rect(rows, { ...ends, ...look }),
  across: (rows, look) => Plot.ruleY(rows, { y: at(0), ...look }),
  upright: (rows, look) => Plot.ruleX(rows, { x: at(0), ...look }),
  text: (rows, { words, ...look }) => Plot.text(rows, { ...(rows[0][0] === null ? {} : { x: at(0) }), y: at(1), text: () => words, ...look }),
  between: (rows, look) => Plot.differenceY(rows, { x: at(0), y1: rows[0][1], y2: at(1), stroke: "none", ...look }),
};

/** A mark whose elements have the layer's class and that of their row, its last cell; `clip` cuts it off outside [from, to]. */
function layerOf({ mark, rows, class: name, clip, look }, key) {
  const classOf = ({ __data__: place }) => [name, rows[place]?.at(-1)].filter((one) => typeof one === "string").join(" ");
  return MARKS[mark](rows, { ...look, render(index, scales, values, dimensions, context, next) {
    const group = next(index, scales, values, dimensions, context);
    for (const one of group.children) if (classOf(one)) one.setAttribute("class", classOf(one));
    if (!clip) return group;
    const { width, height, marginLeft, marginRight, marginTop, marginBottom } = dimensions;
    const [from, to] = clip.map((value, end) => value === null ? end * width : scales.x(value));
    const left = Math.max(from, marginLeft), right = Math.min(to, width - marginRight);
    const area = draw("clipPath", { id: key });
    area.append(draw("rect", { x: left, y: marginTop, width: Math.max(0, right - left), height: height - marginTop - marginBottom }));
    for (const one of [...group.children]) one.setAttribute("clip-path", `url(#${key})`);
    group.append(area);
    return group;
  } });
}

/** From the least to the most of points and lines, with some room; where lines count, those that do not may leave the frame. */
function reach({ domain, room = 0.07, least = 1e-3 }, place, { spots = [] }, layers) {
  if (domain) return domain;
  const lines = layers.filter((one) => one.mark === "line"), counted = lines.some((one) => one.counts) ? lines.filter((one) => one.counts) : lines;
  const levels = layers.filter((one) => one.mark === (place ? "across" : "upright")).flatMap((one) => one.rows.map(at(0)));
  const values = [...levels, ...spots.flatMap((spot) => place ? spot.y : spot.x), ...counted.flatMap((one) => one.rows.map(at(place)))].filter((value) => value !== null);
  if (!values.length) return [0, 1];
  const low = Math.min(...values), high = Math.max(...values), margin = Math.max(room * (high - low), least);
  return [low - margin, high + margin];
}

/** Lines as long as points are uncertain, each way: from the cell `low` to the next; to a bound alone, too. */
function barsOf(spots, name, low) {
  const known = spots.filter((spot) => !spot.bare), from = (ends) => ends[low] ?? ends[0];
  const along = known.filter(({ x }) => Number.isFinite(x[low + 1])).map(({ x, y, look }) => [from(x), y[0], x[low + 1], y[0], look]);
  const up = known.filter(({ y }) => Number.isFinite(y[low + 1])).map(({ x, y, look }) => [x[0], from(y), x[0], y[low + 1], look]);
  return { mark: "link", rows: [...along, ...up], class: name, clip: [null, null] };
}

/** Axes and grid: lines at the ticks of y, the frame's lower edge, and short lines at the ticks of x. */
function axesOf({ x, y, strip = 0 }, width) {
  const [across, up] = [x, y].map((axis) => axis.values ?? axis.ticks[width > NARROW ? 0 : 1]);
  const plain = { label: null, color: "currentColor" };
  return [
    Plot.gridY({ ticks: up, strokeOpacity: 1, className: "grid" }),
    Plot.axisY({ ...plain, ticks: up, tickFormat: tickWords(y), tickSize: 0, tickPadding: 8, className: "ticks up" }),
    Plot.axisX({ ...plain, ticks: across, tickFormat: tickWords(x), tickSize: 4, tickPadding: 5, insetBottom: -strip, className: "ticks across" }),
  ];
}

const knotsOf = ({ knots, rows }) => knots ? [{ mark: "dot", rows, class: knots, look: { r: 3 } }] : [];

/** Draws into an svg to the width there is. Returns the places of values, and the frame. */
function drawChart(svg, chart, key, width, layers) {
  const [share, least, most] = chart.height, height = Math.round(Math.min(most, Math.max(least, share * width))), strip = chart.strip ?? 0;
  const margin = { ...MARGIN, ...chart.margin };
  if (chart.named) margin.right = 16 + Math.max(...facts.series.map(widthOfName));
  const domains = [chart.x, chart.y].map((axis, place) => reach(axis, place, chart, layers));
  const framed = (cell, i) => cell ?? domains[i % 2][Math.floor(i / 2)]; // of an edge that is null a rectangle reaches to the frame
  const whole = (one) => one.mark === "rect" ? { ...one, rows: one.rows.map((row) => row.map(framed)) } : one;
  const [under, over] = [true, false].map((below) => layers.filter((one) => one.mark !== "strip" && Boolean(one.under) === below).map(whole));
  const made = Plot.plot({
    width, height, marginLeft: margin.left, marginRight: margin.right, marginTop: margin.top, marginBottom: margin.bottom + strip, r: { type: "identity" },
    x: { domain: domains[0], reverse: chart.x.reverse }, y: { domain: domains[1] },
    marks: [
      ...under.map((one, i) => layerOf(one, `under-${key}-${i}`)),
      ...axesOf(chart, width),
      ...over.flatMap((one, i) => [one, ...knotsOf(one)].map((mark) => layerOf(mark, `over-${key}-${i}`))),
      ...spotsOf(chart),
    ],
  });
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.replaceChildren(...[...made.childNodes].filter((one) => one.nodeName !== "style"));
  const frame = { left: margin.left, right: width - margin.right, top: margin.top, bottom: height - margin.bottom - strip };
  const [{ apply: x, invert }, { apply: y }] = ["x", "y"].map((name) => made.scale(name));
  const edge = frame.bottom + strip;
  svg.append(draw("line", { class: "grid frame", x1: frame.left, x2: frame.right, y1: edge, y2: edge }));
  for (const one of svg.querySelectorAll(".across text")) {
    if (one.getCTM().e > frame.right - 16) one.setAttribute("text-anchor", "end");
    if (one.textContent === chart.x.own) one.setAttribute("class", "own");
  }
  if (chart.y.label) svg.append(draw("text", { x: 2, y: 12, "text-anchor": "start" }, chart.y.label));
  if (chart.x.label) svg.append(draw("text", { x: chart.x.anchor === "start" ? 2 : frame.right, y: edge + Math.max(32, margin.bottom - 11), "text-anchor": chart.x.anchor ?? "end" }, chart.x.label));
  for (const { rows, words } of layers.filter((one) => one.mark === "strip")) drawStrip(svg, rows, words, x, frame, edge);
  if (chart.note) svg.append(draw("text", { class: chart.note.class, x: frame.right, y: 13, "text-anchor": "end" }, chart.note.words));
  return { x, y, invert, frame, width, edge, place: (spot) => [x(spot.x[0]), y(spot.y[0])], size: (spot) => spot.r ?? chart.r };
}

/** Learning rates from 0 to the highest, in a strip below the frame. */
function drawStrip(svg, rows, words, x, { left, right }, bottom) {
  const top = bottom - 36, high = Math.max(...rows.map(at(1))) || 1;
  svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: top, y2: top }));
  svg.append(draw("text", { x: left, y: top - 5, "text-anchor": "start" }, "learning rate"), draw("text", { x: left - 8, y: top + 4, "text-anchor": "end" }, words));
  svg.append(draw("path", { class: "rate", d: `M${rows.map(([tokens, rate]) => `${x(tokens).toFixed(1)},${(bottom - 36 * rate / high).toFixed(1)}`).join("L")}` }));
}

/** A mark for each shape of the points, each element with its point's class. */
function spotsOf({ spots = [], r, spot: kind = "mark-of" }) {
  return [...new Set(spots.map((spot) => spot.shape ?? "circle"))].map((symbol) => {
    const these = spots.filter((spot) => (spot.shape ?? "circle") === symbol);
    const [drawn, rotate] = symbol === "diamond" ? ["square", 45] : [symbol, 0];
    return Plot.dot(these, { x: (spot) => spot.x[0], y: (spot) => spot.y[0], r: (spot) => spot.r ?? r, symbol: drawn, rotate, sort: null, render(...given) {
      const group = given.at(-1)(...given.slice(0, -1));
      for (const one of group.children) {
        const spot = these[one.__data__];
        spot.element = one;
        one.setAttribute("class", `${spot.kind ?? kind} ${spot.look}`);
      }
      return group;
    } });
  });
}

/** What is read of points: each by what it says; a ring is round it in every drawing that has it. */
function pointsOf(chart, svg, scale, layers) {
  const { place, size } = scale;
  const spots = roomyOnes(chart.spots, place);
  for (const spot of spots.filter((one) => one.halo)) {
    const [cx, cy] = place(spot);
    svg.append(draw("circle", { class: `spot ${spot.look} halo`, cx, cy, r: size(spot) + 4 }));
  }
  nameSpots(svg, chart, spots, layers, scale);
  const ring = svg.appendChild(draw("circle", { class: "ring", r: chart.ring ?? 10, visibility: "hidden" }));
  const ordered = chart.ordered ? spots : [...spots].sort((one, other) => place(one)[0] - place(other)[0] || one.y[0] - other.y[0]);
  return {
    stops: ordered.map((spot) => spot.says),
    upright: chart.ordered, // up and down lead along a line, too; elsewhere they scroll the page
    under([left, top]) {
      const far = (spot) => { const [x, y] = place(spot); return Math.hypot(x - left, y - top); };
      const nearest = spots.reduce((one, other) => far(other) < far(one) ? other : one);
      return far(nearest) <= REACH ? nearest.says : null;
    },
    words: (says) => says ?? chart.rest,
    show(says) {
      const spot = spots.find((one) => one.says === says);
      ring.setAttribute("visibility", spot ? "visible" : "hidden");
      if (spot) ["cx", "cy"].forEach((name, i) => ring.setAttribute(name, place(spot)[i]));
    },
  };
}

/** What is read of lines: of each that has a name its value nearest to a place on x, the first one best. */
function linesOf(chart, svg, { x, invert, frame, edge }, layers) {
  const lines = layers.filter((one) => one.name !== undefined && one.rows.length), { read } = chart;
  lines.sort((one, other) => Boolean(other.leads) - Boolean(one.leads));
  const every = lines.filter((one) => one.stops).flatMap(({ rows }) => rows.map((row) => row[0]));
  const stops = [...new Set(every)].sort((one, other) => one - other);
  const cross = svg.appendChild(draw("line", { class: "cross", y1: frame.top, y2: edge, visibility: "hidden" }));
  const found = (place) => lines.flatMap(({ name, rows, digits = read.digits, unit = read.unit ?? "", against, exact }) => {
    const row = place === null ? rows.at(-1) : rows.reduce((best, one) => Math.abs(one[0] - place) < Math.abs(best[0] - place) ? one : best);
    if (exact && row[0] !== place) return [];
    const number = digits === null ? row[1].toExponential(1).replace(/\.0e/, "e").replace("-", "−") : row[1].toFixed(digits) + unit;
    const where = place === null || row[0] === place || !read.where ? "" : ` at ${grouped(row[0])}`, change = row[1] - against;
    const grown = against === undefined ? "" : ` (${signed(change, 3)}, ${signed(100 * change / against, 1)}\u202f% against step 0)`;
    return [[row[1], `${name} ${number}${where}${grown}`]];
  });
  return {
    stops,
    under: ([left]) => Math.round(Math.min(Math.max(invert(left), chart.x.domain[0]), chart.x.domain[1])),
    words(place) {
      if (!lines.length) return read.none;
      if (place === 0 && read.start) return read.start;
      const here = place ?? (read.end ? null : chart.x.domain[1]), values = found(here);
      if (read.best) values.sort((one, other) => read.best * (one[0] - other[0]));
      const head = here === null ? read.end : read.head.replace("{}", grouped(here));
      return values.length ? head + values.map((pair) => pair[1]).join(" · ") : read.missing.replace("{}", grouped(here));
    },
    show(place) {
      cross.setAttribute("visibility", place === null ? "hidden" : "visible");
      if (place !== null) ["x1", "x2"].forEach((end) => cross.setAttribute(end, x(place)));
    },
  };
}

const chosen = new Set(facts.chosen); // series that are drawn, by number
const redraws = [], sharing = new Map(); // readouts and the figures that speak through them

/** A figure: its drawing, redrawn to its width, and its readout by pointer and by arrow keys. */
function chartFigure(figure, key) {
  const chart = facts.charts[Number(figure.dataset.chart)];
  const svg = draw("svg", { role: "img", tabindex: 0, "text-anchor": "middle" });
  const readout = document.getElementById(chart.readout) ?? make("p", { class: "readout", "aria-live": "polite" });
  if (chart.spots && !chart.spots.length) { readout.textContent = chart.none; figure.append(readout); return; }
  (figure.querySelector(".drawing") ?? figure).append(svg, ...(chart.readout ? [] : [readout]));
  const mates = sharing.get(readout) ?? sharing.set(readout, []).get(readout);
  let width = 0, close = false, place = null, reading = null;
  const read = (what) => {
    for (const show of mates) show(what);
    readout.textContent = reading.words(what);
  };
  mates.push((what) => { place = what; reading?.show(what); });
  const redraw = (hidden = 0) => { // hidden: the width of what is behind a tab, 0 to leave it until it is seen
    if (!figure.clientWidth && !hidden) return;
    width = Math.max(LEAST_WIDTH, figure.clientWidth || hidden);
    const shown = chart.layers.filter((one) => (one.series === undefined || chosen.has(one.series)) && !(close && one.loose));
    const layers = [...shown, ...["whisker", "seeded"].map((name, i) => barsOf(chart.spots ?? [], name, 1 + 2 * i)).filter((bars) => bars.rows.length)];
    const scale = drawChart(svg, chart, key, width, layers);
    reading = chart.spots ? pointsOf(chart, svg, scale, layers) : linesOf(chart, svg, scale, layers);
    if (chart.named) nameLines(svg, layers, scale);
    svg.setAttribute("aria-label", `${chart.about}. ${chart.spots && !chart.readout ? chart.spots.map((spot) => spot.says).join(". ") : reading.words(null)}`);
    read(place);
  };
  if (chart.closer) figure.querySelector(".top").append(toggle(chart.closer, (pressed) => { close = pressed; redraw(); }));
  wireReading(svg, () => ({ reading, place, width }), read);
  new ResizeObserver(() => { if (figure.clientWidth && Math.max(LEAST_WIDTH, figure.clientWidth) !== width) redraw(); }).observe(figure);
  redraws.push(redraw);
  redraw();
}

function wireReading(svg, now, read) {
  for (const arrive of ["pointermove", "pointerdown"]) svg.addEventListener(arrive, (event) => {
    const box = svg.getBoundingClientRect(), { reading, width } = now();
    read(reading.under([event.clientX - box.left, event.clientY - box.top].map((pixels) => pixels * width / box.width)));
  });
  for (const leave of ["pointerleave", "blur"]) svg.addEventListener(leave, () => read(null));
  svg.addEventListener("keydown", (event) => {
    const { reading: { stops, upright }, place } = now(), here = place === null ? -1 : stops.findIndex((stop) => typeof place === "number" ? stop >= place : stop === place);
    const index = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: stops.length - 1, ...(upright ? { ArrowDown: here + 1, ArrowUp: here - 1 } : {}) }[event.key];
    if (index === undefined || !stops.length) return;
    event.preventDefault();
    read(stops[Math.min(stops.length - 1, Math.max(0, index))]);
  });
}

function toggle(words, act, pressed = false) {
  const button = make("button", { type: "button", class: "plain-button", "aria-pressed": String(pressed) }, words);
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    act(button.getAttribute("aria-pressed") === "true");
  });
  return button;
}

/** A button for every series, in their order, by which it is drawn or not. */
function seriesButtons(room) {
  for (const number of facts.order) {
    const button = toggle(facts.series[number], (pressed) => { pressed ? chosen.add(number) : chosen.delete(number); redraws.forEach((redraw) => redraw()); }, chosen.has(number));
    button.classList.add("chooser");
    button.prepend(make("span", { class: `swatch ${facts.styles[number]}`, "aria-hidden": "true" }));
    room.append(button);
  }
}

const room = document.getElementById("chosen");
if (room) seriesButtons(room);
document.querySelectorAll("figure[data-chart]").forEach(chartFigure);
addEventListener("beforeprint", () => redraws.forEach((redraw) => redraw(PRINTED_WIDTH)));
