/** The mean loss over the domains against the change of the general loss: a mark per method, and the line through those
 * that no other beats in both. A spot's x and y are [value, low, high, lowest seed, highest seed]. */

const TRADE_ROOM = { left: 52, right: 16, top: 30, bottom: 46 };
const TRADE_RADIUS = 5.5;
const TRADE_REACH = 44; // pixels from the pointer to the method that is read

/** From the least to the most of the values, with room for marks and their names. */
function tradeRange(values) {
  const known = values.filter((value) => value !== null);
  const low = Math.min(...known), high = Math.max(...known), margin = Math.max(0.08 * (high - low), 0.002);
  return [low - margin, high + margin];
}

function tradeScale({ spots, start }, width) {
  const height = Math.round(Math.min(540, Math.max(360, 0.5 * width)));
  const frame = { left: TRADE_ROOM.left, right: width - TRADE_ROOM.right, top: TRADE_ROOM.top, bottom: height - TRADE_ROOM.bottom };
  const across = tradeRange([start, ...spots.flatMap((spot) => spot.x)]), up = tradeRange([0, ...spots.flatMap((spot) => spot.y)]);
  const x = (loss) => frame.left + (frame.right - frame.left) * (loss - across[0]) / (across[1] - across[0]);
  const y = (change) => frame.bottom - (frame.bottom - frame.top) * (change - up[0]) / (up[1] - up[0]);
  return { x, y, across, up, frame, width, height };
}

function tradeAxes(svg, { frame, across, up, x, y, width }) {
  const rows = ticks(100 * up[0], 100 * up[1], 6), columns = ticks(across[0], across[1], width > 480 ? 8 : 4);
  for (const value of rows.values) {
    const at = y(value / 100), zero = Math.abs(value) < 1e-9;
    svg.append(draw("line", { class: zero ? "start" : "grid", x1: frame.left, x2: frame.right, y1: at, y2: at }));
    svg.append(draw("text", { x: frame.left - 7, y: at + 4, "text-anchor": "end" }, `${zero ? "0" : signed(value, rows.digits)}\u202f%`));
  }
  for (const value of columns.values) {
    const at = x(value);
    svg.append(draw("line", { class: "grid frame", x1: at, x2: at, y1: frame.bottom, y2: frame.bottom + 4 }));
    svg.append(draw("text", { x: at, y: frame.bottom + 18, "text-anchor": at > frame.right - 16 ? "end" : "middle" }, value.toFixed(columns.digits)));
  }
  svg.append(draw("line", { class: "grid frame", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom }));
  svg.append(draw("text", { x: 2, y: frame.bottom + 36 }, "← better: mean loss over the domains, nats per token"));
  svg.append(draw("text", { x: 2, y: 12 }, "↓ better: general loss, change against the base"));
}

/** Interval (thin) and seeds (thick), across and up. What they cover is returned. */
function tradeCross(svg, spot, { x, y }) {
  const covered = [];
  const colour = `run-${spot.run % 8}${spot.best ? "" : " pale"}`;
  for (const [sort, low] of [["whisker", 1], ["seeded", 3]]) {
    const ends = [];
    if (spot.x[low] !== null) ends.push([[spot.x[low], spot.y[0]], [spot.x[low + 1], spot.y[0]]]);
    if (spot.y[low] !== null) ends.push([[spot.x[0], spot.y[low]], [spot.x[0], spot.y[low + 1]]]);
    for (const pair of ends) {
      const [[x1, y1], [x2, y2]] = pair.map(([loss, change]) => [x(loss), y(change)]);
      svg.append(draw("line", { class: `${sort} ${colour}`, x1, y1, x2, y2 }));
      covered.push(...sampled([[x1, y1], [x2, y2]]));
    }
  }
  return covered;
}

function drawTrade(svg, width) {
  const { spots, start } = facts.trade;
  const scale = tradeScale(facts.trade, width);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${scale.height}`);
  svg.setAttribute("height", scale.height);
  tradeAxes(svg, scale);
  const place = (spot) => [scale.x(spot.x[0]), scale.y(spot.y[0])];
  const best = spots.filter((spot) => spot.best).sort((one, other) => one.x[0] - other.x[0]).map(place);
  const along = [];
  if (best.length > 1) {
    svg.append(draw("path", { class: "unbeaten", d: "M" + best.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L") }));
    along.push(...sampled(best));
  }
  for (const spot of spots) along.push(...tradeCross(svg, spot, scale));
  const base = [scale.x(start), scale.y(0)];
  svg.append(draw("path", { class: "base-mark", d: `M${base[0] - 5},${base[1] - 5}l10,10M${base[0] - 5},${base[1] + 5}l10,-10` }));
  for (const spot of spots) {
    const [cx, cy] = place(spot);
    svg.append(draw("circle", { class: `mark-of run-${spot.run % 8}${spot.best ? "" : " pale"}`, cx, cy, r: TRADE_RADIUS }));
  }
  tradeLabels(svg, place, base, scale, along);
  svg.append(draw("circle", { class: "ring", r: 10, visibility: "hidden" }));
  return { place, width };
}

function tradeLabels(svg, place, base, { frame }, along) {
  const radius = TRADE_RADIUS + 1;
  const boxes = [...facts.trade.spots.map(place), base].map(([x, y]) => ({ x: x - radius, y: y - radius, w: 2 * radius, h: 2 * radius, of: [x, y] }));
  const named = [...facts.trade.spots].sort((one, other) => other.best - one.best);
  const labels = named.map((spot) => ({ lines: [spot.label], sort: spot.best ? "best" : "pale", anchors: [place(spot)], radius: TRADE_RADIUS, confusing: 12 }));
  labels.push({ lines: ["base"], sort: "pale", anchors: [base], radius: TRADE_RADIUS, confusing: 12 });
  placeLabels(svg.appendChild(draw("g", {})), labels, { left: frame.left + 3, right: frame.right - 2, top: frame.top + 2, bottom: frame.bottom - 3 }, boxes, along);
}

function tradeFigure(figure) {
  const { spots } = facts.trade;
  const svg = draw("svg", { role: "img", tabindex: 0, "aria-label": `General loss against the mean loss over the domains. ${spots.map((spot) => spot.says).join(". ")}` });
  const readout = make("p", { class: "readout", "aria-live": "polite" });
  figure.append(svg, readout);
  const order = [...spots].sort((one, other) => one.x[0] - other.x[0]);
  let drawn = null, at = null;
  const read = (spot) => {
    at = spot;
    const ring = svg.querySelector(".ring");
    ring.setAttribute("visibility", spot ? "visible" : "hidden");
    if (spot) ["cx", "cy"].forEach((name, i) => ring.setAttribute(name, drawn.place(spot)[i]));
    readout.textContent = spot ? spot.says : `On the frontier: ${order.filter((one) => one.best).map((one) => one.label).join(", ")}.`;
  };
  const redraw = () => { drawn = drawTrade(svg, Math.max(260, figure.clientWidth)); read(at); };
  for (const arrive of ["pointermove", "pointerdown"]) svg.addEventListener(arrive, (event) => {
    const box = svg.getBoundingClientRect();
    const pointer = [event.clientX - box.left, event.clientY - box.top].map((pixels) => pixels * drawn.width / box.width);
    const far = (spot) => Math.hypot(...drawn.place(spot).map((place, i) => place - pointer[i]));
    const nearest = spots.reduce((one, other) => far(other) < far(one) ? other : one);
    read(far(nearest) <= TRADE_REACH ? nearest : null);
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

tradeFigure(document.getElementById("trade-figure"));
