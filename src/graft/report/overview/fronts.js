/** Gain on the domain against loss on general text: a cross per run, and the line through those that no other beats. */

const FRONT_ROOM = { left: 52, right: 14, top: 36, bottom: 46 };
const RUN_RADIUS = 5.5;
const NEAR = 44; // pixels from the pointer to the run that is read

/** From the least to the most of the values, 0 among them, with room for marks and their names. */
function roomy(values) {
  const known = [0, ...values.filter((value) => value !== null)];
  const low = Math.min(...known), high = Math.max(...known), margin = Math.max(0.1 * (high - low), 0.004);
  return [low - margin, high + margin];
}

function frontScale(front, width) {
  const height = Math.round(Math.min(520, Math.max(340, 0.7 * width)));
  const frame = { left: FRONT_ROOM.left, right: width - FRONT_ROOM.right, top: FRONT_ROOM.top, bottom: height - FRONT_ROOM.bottom };
  const across = roomy(front.spots.flatMap((spot) => spot.x));
  const up = roomy([...front.spots.flatMap((spot) => spot.y), front.allowed]);
  const x = (gain) => frame.left + (frame.right - frame.left) * (gain - across[0]) / (across[1] - across[0]);
  const y = (loss) => frame.bottom - (frame.bottom - frame.top) * (loss - up[0]) / (up[1] - up[0]);
  return { x, y, across, up, frame, width, height };
}

function frontAxes(svg, { frame, across, up, x, y, width }) {
  const rows = ticks(100 * up[0], 100 * up[1], 6), columns = ticks(100 * across[0], 100 * across[1], width > 480 ? 7 : 4);
  const named = (value, digits) => `${Math.abs(value) < 1e-9 ? "0" : signed(value, digits)}\u202f%`;
  for (const value of rows.values) {
    const at = y(value / 100);
    svg.append(draw("line", { class: Math.abs(value) < 1e-9 ? "start" : "grid", x1: frame.left, x2: frame.right, y1: at, y2: at }));
    svg.append(draw("text", { x: frame.left - 7, y: at + 4, "text-anchor": "end" }, named(value, rows.digits)));
  }
  for (const value of columns.values) {
    const at = x(value / 100), zero = Math.abs(value) < 1e-9;
    svg.append(draw("line", { class: zero ? "start" : "grid frame", x1: at, x2: at, y1: zero ? frame.top : frame.bottom, y2: frame.bottom + 4 }));
    svg.append(draw("text", { x: at, y: frame.bottom + 18, "text-anchor": at > frame.right - 16 ? "end" : "middle" }, zero ? "0" : `${value.toFixed(columns.digits)}\u202f%`));
  }
  svg.append(draw("line", { class: "grid frame", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom }));
  svg.append(draw("text", { x: frame.right, y: frame.bottom + 36, "text-anchor": "end" }, "domain loss: gained against the base →"));
  svg.append(draw("text", { x: 2, y: 12 }, "↑ general loss, change against the base"));
}

/** Above what is allowed: tinted, its border named. */
function frontLimit(svg, front, { frame, y }) {
  if (front.allowed === null) return [];
  const at = y(front.allowed);
  svg.append(draw("rect", { class: "forbidden", x: frame.left, y: frame.top, width: frame.right - frame.left, height: Math.max(0, at - frame.top) }));
  svg.append(draw("line", { class: "budget", x1: frame.left, x2: frame.right, y1: at, y2: at }));
  svg.append(draw("text", { class: "allowed", x: frame.left + 5, y: at - 5 }, front.said));
  return sampled([[frame.left, at], [frame.right, at]]);
}

function crossOf(svg, spot, { x, y }) {
  const ends = [];
  if (spot.x[1] !== null) ends.push([[spot.x[1], spot.y[0]], [spot.x[2], spot.y[0]]]);
  if (spot.y[1] !== null) ends.push([[spot.x[0], spot.y[1]], [spot.x[0], spot.y[2]]]);
  return ends.flatMap((pair) => {
    const points = pair.map(([gain, loss]) => [x(gain), y(loss)]);
    svg.append(draw("line", { class: `whisker run-${spot.run % 8}${spot.best ? "" : " pale"}`, x1: points[0][0], y1: points[0][1], x2: points[1][0], y2: points[1][1] }));
    return sampled(points);
  });
}

/** Runs that differ in their seed alone: each joined to the mean of all. */
function seedsOf(svg, front, { x, y }) {
  for (const family of front.families) {
    const spots = front.spots.filter((spot) => family.includes(spot.label));
    const mean = ["x", "y"].map((axis) => spots.reduce((sum, spot) => sum + spot[axis][0], 0) / spots.length);
    const [u, v] = [x(mean[0]), y(mean[1])];
    for (const spot of spots) svg.append(draw("line", { class: "seeds", x1: x(spot.x[0]), y1: y(spot.y[0]), x2: u, y2: v }));
    svg.append(draw("path", { class: "seeds mean", d: `M${u},${v - 5}L${u + 5},${v}L${u},${v + 5}L${u - 5},${v}Z` }));
  }
}

function drawFront(svg, front, width) {
  const scale = frontScale(front, width);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${scale.height}`);
  svg.setAttribute("height", scale.height);
  const along = frontLimit(svg, front, scale);
  frontAxes(svg, scale);
  const place = (spot) => [scale.x(spot.x[0]), scale.y(spot.y[0])];
  const best = front.spots.filter((spot) => spot.best).sort((one, other) => one.x[0] - other.x[0]);
  if (best.length > 1) {
    const points = best.map(place);
    svg.append(draw("path", { class: "unbeaten", d: "M" + points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L") }));
    along.push(...sampled(points));
  }
  for (const spot of front.spots) along.push(...crossOf(svg, spot, scale));
  seedsOf(svg, front, scale);
  for (const spot of front.spots) {
    const [x, y] = place(spot);
    svg.append(draw("circle", { class: `mark-of run-${spot.run % 8}${spot.best ? "" : " pale"}`, cx: x, cy: y, r: RUN_RADIUS }));
  }
  const boxes = front.spots.map((spot) => { const [x, y] = place(spot), r = RUN_RADIUS + 1; return { x: x - r, y: y - r, w: 2 * r, h: 2 * r, of: [x, y] }; });
  const { left, right, top, bottom } = scale.frame;
  const ordered = [...front.spots].sort((one, other) => other.best - one.best);
  const labels = ordered.map((spot) => ({ lines: [spot.label], sort: spot.best ? "best" : "pale", anchors: [place(spot)], radius: RUN_RADIUS, confusing: 12 }));
  placeLabels(svg.appendChild(draw("g", {})), labels, { left: left + 3, right: right - 2, top: top + 2, bottom: bottom - 3 }, boxes, along);
  svg.append(draw("circle", { class: "ring", r: 10, visibility: "hidden" }));
  return { place, width };
}

function frontFigure(figure) {
  const front = facts.fronts[Number(figure.dataset.front)];
  const svg = draw("svg", { role: "img", tabindex: 0, "aria-label": `General loss against domain gain. ${front.spots.map((spot) => spot.says).join(". ")}` });
  const readout = make("p", { class: "readout", "aria-live": "polite" });
  figure.append(svg, readout);
  const order = [...front.spots].sort((one, other) => one.x[0] - other.x[0]);
  let drawn = null, at = null;
  const read = (spot) => {
    at = spot;
    const ring = svg.querySelector(".ring");
    ring.setAttribute("visibility", spot ? "visible" : "hidden");
    if (spot) ["cx", "cy"].forEach((name, i) => ring.setAttribute(name, drawn.place(spot)[i]));
    readout.textContent = spot ? spot.says : `On the frontier: ${front.best.join(", ")}.`;
  };
  const redraw = () => { drawn = drawFront(svg, front, Math.max(260, figure.clientWidth)); read(at); };
  for (const arrive of ["pointermove", "pointerdown"]) svg.addEventListener(arrive, (event) => {
    const box = svg.getBoundingClientRect();
    const pointer = [event.clientX - box.left, event.clientY - box.top].map((pixels) => pixels * drawn.width / box.width);
    const far = (spot) => Math.hypot(...drawn.place(spot).map((place, i) => place - pointer[i]));
    const nearest = front.spots.reduce((one, other) => far(other) < far(one) ? other : one);
    read(far(nearest) <= NEAR ? nearest : null);
  });
  for (const leave of ["pointerleave", "blur"]) svg.addEventListener(leave, () => read(null));
  svg.addEventListener("keydown", (event) => {
    const here = order.indexOf(at), last = order.length - 1;
    const index = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: last }[event.key];
    if (index === undefined) return;
    event.preventDefault();
    read(order[Math.min(last, Math.max(0, index))]);
  });
  new ResizeObserver(() => { if (Math.max(260, figure.clientWidth) !== drawn.width) redraw(); }).observe(figure);
  redraw();
}

document.querySelectorAll("figure.front").forEach(frontFigure);
