/** What the budget bought and cost: the domain loss over the change of the general loss, drawn to the width there is. */

const COST_ROOM = { left: 46, right: 12, top: 40, bottom: 44 };
const RADIUS = { base: 5, pilot: 2.6, law: 2.6, choice: 5.5, place: 4, result: 5, taken: 7 };
const LAW_APART = 36; // pixels between the ratios that are marked on the law, at least
const FEW = 12; // ratios of a law that all may be marked; of more only round ones are
const OTHERS_APART = 14; // and from any other point
const ROOMY = 440; // pixels of width: below, labels are without numbers, which are read all the same
const REACH = 48; // pixels from the pointer to the point that is read

/** Pixels of a view, and whether a point is inside its frame; what is pinned stands at the right edge with an arrow. */
function costScale(view, width) {
  const height = Math.round(Math.min(470, Math.max(370, 0.8 * width)));
  const frame = { left: COST_ROOM.left, right: width - COST_ROOM.right, top: COST_ROOM.top, bottom: height - COST_ROOM.bottom };
  const x = (change) => frame.left + (frame.right - frame.left) * (change - view.x[0]) / (view.x[1] - view.x[0]);
  const y = (loss) => frame.bottom - (frame.bottom - frame.top) * (loss - view.y[0]) / (view.y[1] - view.y[0]);
  const level = (spot) => spot.y[0] >= view.y[0] && spot.y[0] <= view.y[1];
  const pinned = (spot) => level(spot) && spot.x[0] > view.x[1] && ["choice", "result", "taken"].includes(spot.sort);
  const inside = (spot) => pinned(spot) || (level(spot) && spot.x[0] >= view.x[0] && spot.x[0] <= view.x[1]);
  const place = (spot) => [pinned(spot) ? frame.right - 9 : x(spot.x[0]), y(spot.y[0])];
  return { x, y, height, width, frame, inside, pinned, place, view };
}

const corners = (spots, { x, y }) => spots.map((spot) => [x(spot.x[0]), y(spot.y[0])]);
const joined = (points) => points.length ? "M" + points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L") : "";
const ofGroup = (spots, group) => spots.filter((spot) => spot.group === group);

function costAxes(svg, scale) {
  const { frame, view } = scale;
  const up = ticks(view.y[0], view.y[1], 6), across = ticks(100 * view.x[0], 100 * view.x[1], scale.width > 480 ? 7 : 5);
  for (const value of up.values) {
    const y = scale.y(value);
    svg.append(draw("line", { class: "grid", x1: frame.left, x2: frame.right, y1: y, y2: y }));
    svg.append(draw("text", { x: frame.left - 8, y: y + 4, "text-anchor": "end" }, value.toFixed(up.digits)));
  }
  for (const value of across.values) {
    const x = scale.x(value / 100), zero = Math.abs(value) < 1e-9;
    svg.append(draw("line", { class: zero ? "start" : "grid frame", x1: x, x2: x, y1: zero ? frame.top : frame.bottom, y2: frame.bottom + 4 }));
    svg.append(draw("text", { x, y: frame.bottom + 17, "text-anchor": x > frame.right - 16 ? "end" : "middle" },
      `${zero ? "0" : signed(value, across.digits)}\u202f%`));
  }
  svg.append(draw("line", { class: "grid frame", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom }));
  svg.append(draw("text", { x: frame.right, y: frame.bottom + 34, "text-anchor": "end" }, "general loss, change against the base →"));
  svg.append(draw("text", { x: 2, y: 12 }, "↑ domain loss, nats per token"));
}

/** The side on which more is forgotten than allowed: tinted and hatched, its border named. */
function forbidden(svg, key, scale) {
  const { frame } = scale;
  const x = scale.x(facts.frontier.budget);
  const pattern = { width: 9, height: 9, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" };
  const hatch = svg.appendChild(draw("defs", {})).appendChild(draw("pattern", { id: `beyond-${key}`, ...pattern }));
  hatch.append(draw("line", { class: "hatch", x1: 0, y1: 0, x2: 0, y2: 9 }));
  const box = { x, y: frame.top, width: Math.max(0, frame.right - x), height: frame.bottom - frame.top };
  svg.append(draw("rect", { class: "forbidden", ...box }), draw("rect", { fill: `url(#beyond-${key})`, ...box }));
  svg.append(draw("line", { class: "budget", x1: x, x2: x, y1: frame.top - 4, y2: frame.bottom }));
  const label = svg.appendChild(draw("text", { class: "allowed", y: frame.top - 9, x: 0 }, facts.frontier.allowed));
  const half = label.getComputedTextLength() / 2;
  label.setAttribute("x", Math.min(Math.max(x - half, 2), frame.right - 2 * half));
  return sampled([[x, frame.top], [x, frame.bottom]]);
}

/** Between both losses low and both high, wherever the law knows its interval. */
function ribbons(law, scale) {
  const known = (spot) => [...spot.x, ...spot.y].every((value) => value !== null);
  const runs = [[]];
  for (const spot of law) known(spot) ? runs.at(-1).push(spot) : runs.push([]);
  const side = (run, end) => run.map((spot) => [scale.x(spot.x[end]), scale.y(spot.y[end])]);
  return runs.filter((run) => run.length > 1).map((run) => `${joined([...side(run, 1), ...side(run, 2).reverse()])}Z`);
}

/** Ratios to be marked on the law: round ones first, none too near to another, none on another point. */
function markedRatios(law, others, scale) {
  const rounds = [1, 0.5, 0.25, 0.1, 0.05];
  const rank = ({ ratio }) => {
    const found = rounds.findIndex((step) => Math.abs(ratio / step - Math.round(ratio / step)) < 1e-6);
    return found < 0 ? rounds.length : found;
  };
  const apart = (one, other) => Math.hypot(...scale.place(one).map((at, i) => at - scale.place(other)[i]));
  const chosen = [];
  const round = law.filter((spot) => scale.inside(spot) && (law.length <= FEW || rank(spot) < rounds.length - 1));
  for (const spot of round.sort((one, other) => rank(one) - rank(other))) {
    if (others.every((other) => apart(spot, other) >= OTHERS_APART) && chosen.every((other) => apart(spot, other) >= LAW_APART)) chosen.push(spot);
  }
  return law.filter((spot) => chosen.includes(spot));
}

/** Lines and areas, clipped to the frame; beyond the budget the law is dimmed and dashed. What they cover is returned. */
function costLines(svg, key, scale, spots) {
  const { frame } = scale, budget = scale.x(facts.frontier.budget), defs = svg.appendChild(draw("defs", {}));
  const clip = (name, left, right) => {
    const path = defs.appendChild(draw("clipPath", { id: `${name}-${key}` }));
    path.append(draw("rect", { x: left, y: frame.top, width: Math.max(0, right - left), height: frame.bottom - frame.top }));
    return { "clip-path": `url(#${name}-${key})` };
  };
  const within = clip("within", frame.left, Math.min(budget, frame.right)), over = clip("over", budget, frame.right);
  const all = clip("all", frame.left, frame.right);
  const law = ofGroup(spots, "law");
  for (const d of ribbons(law, scale)) svg.append(draw("path", { class: "ribbon", d, ...within }), draw("path", { class: "ribbon beyond", d, ...over }));
  const along = [];
  const line = (sort, points, ...clips) => {
    clips.forEach((area, i) => svg.append(draw("path", { class: i ? `${sort} beyond` : sort, d: joined(points), ...area })));
    along.push(...sampled(points));
  };
  const runs = new Set(spots.filter((spot) => spot.sort === "pilot").map((spot) => spot.group));
  for (const run of runs) line("piloted", corners(ofGroup(spots, run), scale), all);
  line("law", corners(law, scale), within, over);
  line("walked", corners(ofGroup(spots, "line"), scale), all);
  for (const spot of spots.filter((one) => scale.inside(one) && !scale.pinned(one) && one.sort !== "law")) along.push(...whiskers(svg, spot, scale, all));
  return along;
}

/** A cross-hair as wide and high as what the point may be; a bound from one side is a whisker to that side. */
function whiskers(svg, spot, scale, area) {
  const [[x, left, right], [y, low, high]] = [spot.x, spot.y];
  const ends = [];
  if (right !== null) ends.push([[left ?? x, y], [right, y]]);
  if (high !== null) ends.push([[x, low ?? y], [x, high]]);
  return ends.flatMap((pair) => {
    const points = pair.map(([change, loss]) => [scale.x(change), scale.y(loss)]);
    svg.append(draw("path", { class: `whisker ${spot.sort}`, d: joined(points), ...area }));
    return sampled(points);
  });
}

const SHAPES = {
  base: (x, y, r) => draw("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r }),
  choice: (x, y, r) => draw("path", { d: `M${x},${y - r}L${x + r},${y}L${x},${y + r}L${x - r},${y}Z` }),
};

function costMarks(svg, scale, spots) {
  for (const spot of spots) {
    const [x, y] = scale.place(spot);
    const radius = RADIUS[spot.sort];
    const shape = SHAPES[spot.sort]?.(x, y, radius) ?? draw("circle", { cx: x, cy: y, r: radius });
    shape.setAttribute("class", `spot ${spot.sort}${spot.sort === "law" && spot.x[0] > facts.frontier.budget ? " beyond" : ""}`);
    svg.append(shape);
    if (spot.sort === "taken") svg.append(draw("circle", { class: "spot halo", cx: x, cy: y, r: radius + 4 }));
  }
}

/** What is written where, the important first: the model taken, result, prediction, then places, pilots, the law's ratios. */
function costLabels(scale, spots, law) {
  const whole = !scale.view.closer;
  const plain = (spot) => {
    const lines = whole && spot.sort === "taken" ? ["taken"] : scale.width < ROOMY ? (spot.label[0] ?? "").split(": ") : [...spot.label];
    if (scale.pinned(spot)) lines[0] += " →";
    return { lines, sort: spot.sort, anchors: [scale.place(spot)], radius: RADIUS[spot.sort] + (spot.sort === "taken" ? 4 : 0) };
  };
  const order = whole ? ["taken", "base"] : ["taken", "result", "choice", "base", "place"];
  const labels = order.flatMap((sort) => spots.filter((spot) => spot.sort === sort).map(plain));
  const { tokens, shorter } = facts.frontier;
  const { frame } = scale;
  const path = sampled(corners(law, scale)).filter(([x, y], i) => i % 6 === 0 && x > frame.left && x < frame.right && y > frame.top && y < frame.bottom);
  const name = [`expected after ${shorter ? "up to " : ""}${short(tokens)} tokens`, ...(whole ? [] : ["by share of domain text"])];
  if (path.length) labels.push({ lines: name, sort: "law name", anchors: path, radius: 4 });
  labels.push(...spots.filter((spot) => spot.sort === "pilot" && spot.label.length).map((spot) => ({ ...plain(spot), confusing: 16 })));
  if (!whole) labels.push(...spots.filter((spot) => spot.sort === "law").map((spot) => ({ ...plain(spot), optional: true, confusing: 16 })));
  return labels;
}

/** One drawing of a view. Returns its scale and the points that can be read, in the order in which keys reach them. */
function drawCost(svg, key, view, width) {
  const scale = costScale(view, width);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${scale.height}`);
  svg.setAttribute("height", scale.height);
  const every = facts.frontier.spots, law = ofGroup(every, "law"), shown = every.filter((spot) => spot.sort in RADIUS && scale.inside(spot));
  const marked = markedRatios(law, shown.filter((spot) => spot.sort !== "law"), scale);
  const spots = shown.filter((spot) => spot.sort !== "law" || marked.includes(spot));
  const border = forbidden(svg, key, scale);
  costAxes(svg, scale);
  const along = [...border, ...costLines(svg, key, scale, every)];
  costMarks(svg, scale, spots);
  const boxes = spots.map((spot) => { const [x, y] = scale.place(spot), r = RADIUS[spot.sort] + 2; return { x: x - r, y: y - r, w: 2 * r, h: 2 * r, of: [x, y] }; });
  const { left, right, top, bottom } = scale.frame;
  placeLabels(svg.appendChild(draw("g", {})), costLabels(scale, spots, law), { left: left + 3, right: right - 2, top: top + 2, bottom: bottom - 3 }, boxes, along);
  svg.append(draw("circle", { class: "ring", r: 11, visibility: "hidden" }));
  return { scale, spots };
}

/** The drawings of all views: what is read in one is ringed in all, and said in one place. */
function costFigures(figures, readout) {
  const [outcome] = ["taken", "choice", "base"].flatMap((sort) => facts.frontier.spots.filter((spot) => spot.sort === sort));
  const drawings = figures.map((figure, key) => {
    const svg = draw("svg", { role: "img", tabindex: 0, "aria-label": `Domain loss against general loss. ${outcome.says}` });
    figure.append(svg);
    return { figure, svg, key, view: facts.frontier.views[key], width: 0 };
  });
  let at = null;
  const read = (spot) => {
    at = spot;
    readout.textContent = (spot ?? outcome).says;
    for (const { svg, scale, spots } of drawings.filter((one) => one.width)) {
      const ring = svg.querySelector(".ring");
      ring.setAttribute("visibility", spots.includes(spot) ? "visible" : "hidden");
      if (spot) ["cx", "cy"].forEach((name, i) => ring.setAttribute(name, scale.place(spot)[i]));
    }
  };
  for (const drawing of drawings) {
    const redraw = () => {
      drawing.width = Math.max(260, drawing.figure.clientWidth);
      Object.assign(drawing, drawCost(drawing.svg, drawing.key, drawing.view, drawing.width));
      read(at);
    };
    new ResizeObserver(() => { if (Math.max(260, drawing.figure.clientWidth) !== drawing.width) redraw(); }).observe(drawing.figure);
    redraw();
    wireCost(drawing, () => at, read);
  }
}

function wireCost(drawing, now, read) {
  const { svg } = drawing;
  for (const arrive of ["pointermove", "pointerdown"]) svg.addEventListener(arrive, (event) => {
    const box = svg.getBoundingClientRect();
    const pointer = [event.clientX - box.left, event.clientY - box.top].map((pixels) => pixels * drawing.width / box.width);
    const far = (spot) => Math.hypot(...drawing.scale.place(spot).map((at, i) => at - pointer[i]));
    const nearest = drawing.spots.reduce((one, other) => far(other) < far(one) ? other : one);
    read(far(nearest) <= REACH ? nearest : null);
  });
  for (const leave of ["pointerleave", "blur"]) svg.addEventListener(leave, () => read(null));
  svg.addEventListener("keydown", (event) => {
    const here = drawing.spots.indexOf(now()), last = drawing.spots.length - 1;
    const index = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: last }[event.key];
    if (index === undefined) return;
    event.preventDefault();
    read(drawing.spots[Math.min(last, Math.max(0, index))]);
  });
}

if (facts.frontier) costFigures([...document.querySelectorAll("figure.frontier")], document.getElementById("frontier-readout"));
