/** Likeness against change: a drawing per measure, a mark per run; to the right is more alike, so the axis of a measure of
 * which smaller is closer runs backwards. A spot's y is [change, low, high]. */

const LIKE_ROOM = { left: 52, right: 14, top: 26, bottom: 44 };
const LIKE_HEIGHT = 330;
const LIKE_RADIUS = 5;
const LIKE_REACH = 40; // pixels from the pointer to the run that is read

/** From the least to the most of the values, with room for marks and their names. */
function likeRange(values, least) {
  const known = values.filter((value) => value !== null);
  const low = Math.min(...known), high = Math.max(...known), margin = Math.max(0.1 * (high - low), least);
  return [low - margin, high + margin];
}

function likeScale({ spots, larger }, width) {
  const frame = { left: LIKE_ROOM.left, right: width - LIKE_ROOM.right, top: LIKE_ROOM.top, bottom: LIKE_HEIGHT - LIKE_ROOM.bottom };
  const values = spots.map((spot) => spot.x), largest = Math.max(...values.map(Math.abs));
  const across = likeRange(values, 0.02 * largest || 1e-3), up = likeRange([0, ...spots.flatMap((spot) => spot.y)], 0.002);
  const share = (value) => (value - across[0]) / (across[1] - across[0]);
  const x = (value) => frame.left + (frame.right - frame.left) * (larger ? share(value) : 1 - share(value));
  const y = (change) => frame.bottom - (frame.bottom - frame.top) * (change - up[0]) / (up[1] - up[0]);
  return { x, y, across, up, frame, width };
}

function likeAxes(svg, { frame, across, up, x, y, width }) {
  const rows = ticks(100 * up[0], 100 * up[1], 6), columns = ticks(across[0], across[1], width > 480 ? 6 : 4);
  for (const value of rows.values) {
    const at = y(value / 100), zero = Math.abs(value) < 1e-9;
    svg.append(draw("line", { class: zero ? "start zero" : "grid", x1: frame.left, x2: frame.right, y1: at, y2: at }));
    svg.append(draw("text", { x: frame.left - 7, y: at + 4, "text-anchor": "end" }, `${zero ? "0" : signed(value, rows.digits)}\u202f%`));
  }
  for (const value of columns.values) {
    const at = x(value);
    const words = (Math.abs(value) < 1e-9 ? 0 : value).toFixed(columns.digits).replace("-", "−");
    svg.append(draw("line", { class: "grid frame", x1: at, x2: at, y1: frame.bottom, y2: frame.bottom + 4 }));
    svg.append(draw("text", { class: "across", x: at, y: frame.bottom + 18, "text-anchor": at > frame.right - 16 ? "end" : "middle" }, words));
  }
  svg.append(draw("line", { class: "grid frame", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom }));
  svg.append(draw("text", { x: frame.right, y: frame.bottom + 35, "text-anchor": "end" }, "more alike →"));
  svg.append(draw("text", { x: 2, y: 12 }, "↓ better: change of the test loss"));
}

function drawLike(svg, panel, width) {
  const scale = likeScale(panel, width), { x, y, frame } = scale;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${LIKE_HEIGHT}`);
  svg.setAttribute("height", LIKE_HEIGHT);
  likeAxes(svg, scale);
  const place = (spot) => [x(spot.x), y(spot.y[0])];
  const along = [];
  for (const spot of panel.spots.filter((one) => one.y[1] !== null)) {
    const [at, ...ends] = [x(spot.x), y(spot.y[1]), y(spot.y[2])];
    svg.append(draw("line", { class: `whisker run-${spot.text % 8}`, x1: at, x2: at, y1: ends[0], y2: ends[1] }));
    along.push(...sampled([[at, ends[0]], [at, ends[1]]]));
  }
  for (const spot of panel.spots) {
    const [cx, cy] = place(spot);
    svg.append(draw("circle", { class: `mark-of run-${spot.text % 8}${spot.sure ? "" : " pale"}`, cx, cy, r: LIKE_RADIUS }));
  }
  const boxes = panel.spots.map((spot) => { const [u, v] = place(spot), r = LIKE_RADIUS + 1; return { x: u - r, y: v - r, w: 2 * r, h: 2 * r, of: [u, v] }; });
  const labels = panel.names.map((name) => ({
    lines: [name], sort: "pale", anchors: panel.spots.filter((spot) => spot.label === name).map(place), radius: LIKE_RADIUS, optional: true, confusing: 8,
  }));
  placeLabels(svg.appendChild(draw("g", {})), labels, { left: frame.left + 3, right: frame.right - 2, top: frame.top + 2, bottom: frame.bottom - 3 }, boxes, along);
  svg.append(draw("circle", { class: "ring", r: 9, visibility: "hidden" }));
  return { place, width };
}

function likeFigure(figure) {
  const panel = facts.panels[Number(figure.dataset.panel)];
  const readout = make("p", { class: "readout", "aria-live": "polite" });
  if (!panel.spots.length) { readout.textContent = "This measure has no value for a text with a run."; figure.append(readout); return; }
  const svg = draw("svg", { role: "img", tabindex: 0, "aria-label": `Change of the loss against ${panel.name}. ${panel.spots.map((spot) => spot.says).join(". ")}` });
  figure.append(svg, readout);
  const order = [...panel.spots].sort((one, other) => (one.x - other.x) * (panel.larger ? 1 : -1) || one.y[0] - other.y[0]);
  let drawn = null, at = null;
  const read = (spot) => {
    at = spot;
    const ring = svg.querySelector(".ring");
    ring.setAttribute("visibility", spot ? "visible" : "hidden");
    if (spot) ["cx", "cy"].forEach((name, i) => ring.setAttribute(name, drawn.place(spot)[i]));
    readout.textContent = spot ? spot.says : panel.larger ? "" : "Smaller is closer: the axis falls to the right.";
  };
  const redraw = () => { drawn = drawLike(svg, panel, Math.max(260, figure.clientWidth)); read(at); };
  for (const arrive of ["pointermove", "pointerdown"]) svg.addEventListener(arrive, (event) => {
    const box = svg.getBoundingClientRect();
    const pointer = [event.clientX - box.left, event.clientY - box.top].map((pixels) => pixels * drawn.width / box.width);
    const far = (spot) => Math.hypot(...drawn.place(spot).map((place, i) => place - pointer[i]));
    const nearest = panel.spots.reduce((one, other) => far(other) < far(one) ? other : one);
    read(far(nearest) <= LIKE_REACH ? nearest : null);
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

document.querySelectorAll("figure.likened").forEach(likeFigure);
