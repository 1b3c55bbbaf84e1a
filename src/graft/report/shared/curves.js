/** Learning curves: one chart per source, drawn as SVG to the width there is. */

const SVG = "http://www.w3.org/2000/svg";
const ROOM = { left: 44, right: 16, top: 24, bottom: 8 };
const HEIGHT = 260;
const RATE_HEIGHT = 58;
const X_AXIS = 36;

function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** About `wanted` round values between low and high. */
function ticks(low, high, wanted) {
  const power = 10 ** Math.floor(Math.log10((high - low) / wanted));
  const step = [1, 2, 5, 10].map((part) => part * power).find((size) => (high - low) / size <= wanted) || power * 10;
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high * (1 + 1e-9); n++) found.push(n * step);
  return { values: found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

const signed = (value, digits) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
const grouped = (value) => Math.round(value).toLocaleString("en-US");
const short = (tokens) => tokens >= 1e9 ? `${+(tokens / 1e9).toPrecision(3)} G` : tokens >= 1e6
  ? `${+(tokens / 1e6).toPrecision(3)} M` : tokens >= 1e3 ? `${+(tokens / 1e3).toPrecision(3)} k` : `${tokens}`;
const rateWords = (rate) => rate.toExponential(1).replace(/\.0e/, "e").replace("-", "−");

/** Mean over a window of a tenth of the points, so that the noise of single steps does not hide the course. */
function smoothed(points) {
  const half = Math.max(1, Math.round(points.length / 20));
  return points.map(([x], i) => {
    const near = points.slice(Math.max(0, i - half), i + half + 1);
    return [x, near.reduce((sum, point) => sum + point[1], 0) / near.length];
  });
}

/** Points over tokens, not steps. */
function series(name) {
  const curves = facts.curves;
  const place = (points) => points.map(([step, value]) => [step * curves.tokens_per_step, value]);
  const { training, validation, spikes } = curves.sources[name];
  return { training: place(training), validation: place(validation), rate: place(curves.rate), spikes: place(spikes) };
}

function scales(data, width, close) {
  const losses = [...(close && data.validation.length ? [] : data.training), ...data.validation].map((point) => point[1]);
  const last = Math.max(1, ...[...data.training, ...data.validation, ...data.rate].map((point) => point[0]));
  let low = Math.min(...losses), high = Math.max(...losses);
  const margin = Math.max((high - low) * 0.07, 1e-3);
  low -= margin; high += margin;
  return {
    low, high, last,
    x: (tokens) => ROOM.left + (width - ROOM.left - ROOM.right) * tokens / last,
    y: (loss) => ROOM.top + (HEIGHT - ROOM.top - ROOM.bottom) * (high - loss) / (high - low),
  };
}

const path = (points, x, y) => "M" + points.map(([tokens, value]) => `${x(tokens).toFixed(1)},${y(value).toFixed(1)}`).join("L");

/** Areas between validation and its start: below it gain, above it loss (hatched, so that colour is not alone). */
function areas(svg, key, data, { x, y }) {
  const start = data.validation[0][1];
  const last = data.validation.at(-1)[0];
  const under = `${path(data.validation, x, y)}L${x(last)},${y(start)}Z`;
  const base = y(start);
  const bounds = { gain: [base, HEIGHT - base], loss: [0, base] };
  const defs = svg.appendChild(draw("defs", {}));
  const hatch = defs.appendChild(draw("pattern", { id: `hatch-${key}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }));
  hatch.append(draw("line", { class: "hatch", x1: 0, y1: 0, x2: 0, y2: 6 }));
  for (const [sort, [top, height]] of Object.entries(bounds)) {
    const clip = defs.appendChild(draw("clipPath", { id: `clip-${sort}-${key}` }));
    clip.append(draw("rect", { x: 0, y: top, width: 4000, height: Math.max(0, height) }));
    const fill = sort === "loss" ? { fill: `url(#hatch-${key})` } : {};
    svg.append(draw("path", { class: `area ${sort}`, d: under, "clip-path": `url(#clip-${sort}-${key})`, ...fill }));
  }
}

function axes(svg, scale, width) {
  const right = width - ROOM.right;
  const across = ticks(scale.low, scale.high, 6);
  for (const value of across.values) {
    const y = scale.y(value);
    svg.append(draw("line", { class: "grid", x1: ROOM.left, x2: right, y1: y, y2: y }));
    svg.append(draw("text", { x: ROOM.left - 8, y: y + 4, "text-anchor": "end" }, value.toFixed(across.digits)));
  }
  const bottom = HEIGHT + RATE_HEIGHT;
  svg.append(draw("line", { class: "grid frame", x1: ROOM.left, x2: right, y1: bottom, y2: bottom }));
  for (const tokens of ticks(0, scale.last, width > 480 ? 6 : 4).values) {
    const x = scale.x(tokens);
    svg.append(draw("line", { class: "grid frame", x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
    svg.append(draw("text", { x, y: bottom + 17, "text-anchor": x > right - 14 ? "end" : "middle" }, short(tokens)));
  }
  svg.append(draw("text", { x: right, y: bottom + 32, "text-anchor": "end" }, "tokens trained, all sources"));
}

function rateStrip(svg, data, scale, width) {
  if (data.rate.length === 0) return;
  const high = Math.max(...data.rate.map((point) => point[1])) || 1;
  const top = HEIGHT + 22, bottom = HEIGHT + RATE_HEIGHT;
  const y = (rate) => bottom - (bottom - top) * rate / high;
  svg.append(draw("line", { class: "grid", x1: ROOM.left, x2: width - ROOM.right, y1: top, y2: top }));
  svg.append(draw("text", { x: ROOM.left, y: top - 5 }, "learning rate"));
  svg.append(draw("text", { x: ROOM.left - 8, y: top + 4, "text-anchor": "end" }, rateWords(high)));
  svg.append(draw("path", { class: "rate", d: path(data.rate, scale.x, y) }));
}

/** The last validation loss against the first, written above the curve's end, where no line runs. */
function endLabel(svg, data, width) {
  const [first, last] = [data.validation[0], data.validation.at(-1)];
  const change = last[1] - first[1];
  const sort = change < 0 ? "gain" : "loss";
  const words = `${change < 0 ? "▼" : "▲"} ${signed(change, 3)} nats (${signed(100 * change / first[1], 1)}\u202f%) against step 0`;
  svg.append(draw("text", { class: `end ${sort}`, x: width - ROOM.right, y: 13, "text-anchor": "end" }, words));
}

/** A step whose loss stands out, at its tip; where means over steps are drawn, above their line. */
function spike(x, y, step) {
  const mark = draw("path", { class: "spike", d: `M${x.toFixed(1)},${(y - 2).toFixed(1)}l5,-8h-10z` });
  mark.append(draw("title", {}, `step ${step} stands out`));
  return mark;
}

function plot(svg, key, data, width, close) {
  const scale = scales(data, width, close);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT + RATE_HEIGHT + X_AXIS}`);
  svg.setAttribute("height", HEIGHT + RATE_HEIGHT + X_AXIS);
  axes(svg, scale, width);
  const inside = svg.appendChild(draw("defs", {})).appendChild(draw("clipPath", { id: `frame-${key}` }));
  inside.append(draw("rect", { x: ROOM.left, y: 0, width: width - ROOM.left, height: HEIGHT }));
  const lines = svg.appendChild(draw("g", { "clip-path": `url(#frame-${key})` }));
  if (data.validation.length > 1) areas(lines, key, data, scale);
  if (data.training.length && !(close && data.validation.length)) {
    lines.append(draw("path", { class: "raw", d: path(data.training, scale.x, scale.y) }));
    lines.append(draw("path", { class: "smooth", d: path(smoothed(data.training), scale.x, scale.y) }));
  }
  if (data.validation.length) {
    const start = scale.y(data.validation[0][1]);
    lines.append(draw("line", { class: "start", x1: ROOM.left, x2: width - ROOM.right, y1: start, y2: start }));
    lines.append(draw("path", { class: "held", d: path(data.validation, scale.x, scale.y) }));
    for (const [tokens, loss] of data.validation) {
      svg.append(draw("circle", { class: "knot", cx: scale.x(tokens), cy: scale.y(loss), r: 3.2 }));
    }
  }
  for (const [tokens, loss] of close ? [] : data.spikes) {
    lines.append(spike(scale.x(tokens), Math.max(ROOM.top, scale.y(loss)), grouped(tokens / facts.curves.tokens_per_step)));
  }
  if (data.validation.length > 1) endLabel(svg, data, width);
  rateStrip(svg, data, scale, width);
  svg.append(draw("line", { class: "cross", y1: ROOM.top, y2: HEIGHT + RATE_HEIGHT, visibility: "hidden" }));
  return scale;
}
