/** Labels beside points of a drawing: each where it covers no other label, no point, and as little of a line as can be. */

const LINE_HEIGHT = 14;
const APART = 6; // pixels between labels side by side
const NAME_HEIGHT = 12.5; // pixels between the names at the right
const LONGEST_NAME = 22; // characters; buttons and tables have the whole name
const CLEAR = 14, APART_ON_LINE = 36; // pixels from a point that may be left out to any other, and to one of its kind
const STRANGE = 7; // pixels within which a label could be taken for that of another point
const DIRECTIONS = [[1, 0], [0.7, -0.7], [0.7, 0.7], [-1, 0], [-0.7, -0.7], [-0.7, 0.7], [0, -1], [0, 1]];
const DISTANCES = [7, 14, 24, 38, 56, 80];

const pen = document.createElement("canvas").getContext("2d");
pen.font = `600 11.5px ${getComputedStyle(document.body).fontFamily}`;
const cut = (name) => name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name;
const widthOfName = (name) => pen.measureText(cut(name)).width;

const overlap = (one, other) => Math.max(0, Math.min(one.x + one.w, other.x + other.w) - Math.max(one.x, other.x)) *
  Math.max(0, Math.min(one.y + one.h, other.y + other.h) - Math.max(one.y, other.y));

/** Points every few pixels along lines, which labels rather not cover. */
function sampled(corners) {
  const found = [];
  for (let i = 1; i < corners.length; i++) {
    const [[x, y], [u, v]] = [corners[i - 1], corners[i]];
    const parts = Math.max(1, Math.ceil(Math.hypot(u - x, v - y) / 5));
    for (let k = 0; k < parts; k++) found.push([x + (u - x) * k / parts, y + (v - y) * k / parts]);
  }
  return found;
}

/** Where a label could stand: beside each of its anchors, in every direction, near first. */
function candidates({ anchors, radius }, w, h) {
  return anchors.flatMap(([px, py]) => DISTANCES.flatMap((far) => DIRECTIONS.map(([dx, dy]) => {
    const reach = radius + far;
    const x = px + dx * reach - (dx > 0.1 ? 0 : dx < -0.1 ? w : w / 2);
    const y = py + dy * reach - (dy > 0.1 ? 0 : dy < -0.1 ? h : h / 2);
    return { x, y, w, h, far, from: [px, py], end: dx < -0.1 ? "end" : dx > 0.1 ? "start" : "middle" };
  })));
}

/** Cost of a place: none may leave the frame; what it covers weighs most, then other points near it or on its leader. */
function costOf(place, frame, boxes, along, confusing) {
  const { x, y, w, h, far, from } = place;
  if (x < frame.left || x + w > frame.right || y < frame.top || y + h > frame.bottom) return Infinity;
  const hard = boxes.reduce((sum, box) => sum + overlap(place, box), 0);
  const crossed = along.filter(([px, py]) => px > x - 2 && px < x + w + 2 && py > y - 1 && py < y + h + 1).length;
  const wide = { x: x - STRANGE, y: y - STRANGE, w: w + 2 * STRANGE, h: h + 2 * STRANGE };
  const others = boxes.filter((box) => box.of?.join() !== from.join());
  const strange = others.filter((box) => box.of && overlap(wide, box) > 0).length;
  const led = far < DISTANCES[2] ? [] : sampled([from, edgeOf(place)]);
  const struck = others.filter((box) => led.some(([px, py]) => px > box.x && px < box.x + box.w && py > box.y && py < box.y + box.h)).length;
  return hard * 1000 + struck * 60 + strange * confusing + crossed * 9 + far;
}

/** The point of a place that is nearest to what it names. */
const edgeOf = ({ x, y, w, h, from }) => [Math.min(Math.max(from[0], x), x + w), Math.min(Math.max(from[1], y), y + h)];

/**
 * Writes labels, the important ones first. labels: { lines, sort, anchors, radius, optional, confusing }, the last being how
 * much it costs to stand near another point; boxes: what is there already, `of` a point.
 * An optional one that finds no room is left out, any other stands where it covers least, led to its point by a line.
 */
function placeLabels(layer, labels, frame, boxes, along) {
  for (const { lines, sort, optional, confusing = 4, ...where } of labels) {
    const text = layer.appendChild(draw("text", { class: `label ${sort}` }));
    for (const words of lines) text.append(draw("tspan", { x: 0, dy: text.childNodes.length ? LINE_HEIGHT : 0 }, words));
    const w = Math.max(...[...text.childNodes].map((line) => line.getComputedTextLength()));
    const places = candidates(where, w, LINE_HEIGHT * lines.length).map((place) => [costOf(place, frame, boxes, along, confusing), place]);
    const [cost, best] = places.reduce((one, other) => other[0] < one[0] ? other : one);
    if (cost === Infinity || (optional && (cost >= 1000 || best.far > DISTANCES[2]))) { text.remove(); continue; }
    const x = best.end === "end" ? best.x + w : best.end === "middle" ? best.x + w / 2 : best.x;
    text.setAttribute("text-anchor", best.end);
    text.setAttribute("transform", `translate(${x.toFixed(1)},${(best.y + LINE_HEIGHT - 3.5).toFixed(1)})`);
    boxes.push({ x: best.x - APART, y: best.y, w: best.w + 2 * APART, h: best.h });
    if (best.far < DISTANCES[2]) continue;
    const [x2, y2] = edgeOf(best);
    layer.prepend(draw("line", { class: `leader ${sort}`, x1: best.from[0], y1: best.from[1], x2, y2 }));
  }
}

/** Takes away points that may be left out where they find no room on their line. Returns the others. */
function roomyOnes(spots, place) {
  const far = (one, other) => Math.hypot(...place(one).map((pixel, i) => pixel - place(other)[i]));
  const kept = spots.filter((spot) => spot.sparse === undefined);
  for (const spot of spots.filter((one) => one.sparse !== undefined).sort((one, other) => one.sparse - other.sparse)) {
    if (kept.every((other) => far(spot, other) >= (other.sparse === undefined ? CLEAR : APART_ON_LINE))) kept.push(spot);
    else spot.element.remove();
  }
  return spots.filter((spot) => kept.includes(spot));
}

/** Names of points, the important first; on a narrow drawing only their first lines. A line may have a name along itself. */
function nameSpots(svg, chart, spots, layers, { x, y, frame, width, place, size }) {
  const pixels = (rows) => rows.map((row) => [x(row[0]), y(row[1])]);
  const solid = layers.filter((one) => one.covers !== false);
  const along = solid.flatMap(({ mark, rows }) => mark === "line" ? sampled(pixels(rows)) : mark === "link"
    ? rows.flatMap((row) => sampled([[x(row[0]), y(row[1])], [x(row[2]), y(row[3])]])) : mark === "across"
      ? sampled([[frame.left, y(rows[0][0])], [frame.right, y(rows[0][0])]]) : mark === "upright" ? sampled([[x(rows[0][0]), frame.top], [x(rows[0][0]), frame.bottom]]) : []);
  const boxes = spots.map((spot) => { const [u, v] = place(spot), r = size(spot) + 1; return { x: u - r, y: v - r, w: 2 * r, h: 2 * r, of: [u, v] }; });
  for (const written of svg.querySelectorAll("text.allowed")) {
    const { x: left, y: top, width: w, height: h } = written.getBBox(), { e, f } = written.getCTM();
    boxes.push({ x: left + e, y: top + f, w, h });
  }
  const inside = { left: frame.left + 3, right: frame.right - 2, top: frame.top + 2, bottom: frame.bottom - 3 };
  const labels = [];
  for (const spot of spots.filter((one) => one.label)) {
    const lines = width < (chart.roomy ?? 0) ? spot.label[0].split(": ") : spot.label;
    const same = labels.find((one) => one.optional && spot.optional && one.lines.join() === lines.join());
    if (same) same.anchors.push(place(spot));
    else labels.push({ lines, sort: spot.sort, anchors: [place(spot)], radius: size(spot) + (spot.halo ? 4 : 0), optional: spot.optional, confusing: spot.confusing, rank: spot.rank ?? 0 });
  }
  for (const { label, rank, rows, sort } of layers.filter((one) => one.label)) {
    const anchors = sampled(pixels(rows)).filter(([u, v], i) => i % 6 === 0 && u > frame.left && u < frame.right && v > frame.top && v < frame.bottom);
    if (anchors.length) labels.push({ lines: label, sort, anchors, radius: 4, rank });
  }
  placeLabels(svg.appendChild(draw("g", {})), labels.sort((one, other) => one.rank - other.rank), inside, boxes, along);
}

/** The name of a line where it ends, at the right of the frame: as near to the end as names can be without touching. */
function nameLines(svg, layers, { x, y, frame }) {
  const named = layers.filter((one) => one.named && one.rows.length).map(({ rows, named, style }) => ({ name: cut(named), style, end: [x(rows.at(-1)[0]), y(rows.at(-1)[1])] }));
  const placed = named.map((one) => ({ ...one, height: one.end[1] + 4 })).sort((one, other) => one.height - other.height);
  let before = frame.top + 4 - NAME_HEIGHT;
  for (const one of placed) before = one.height = Math.max(one.height, before + NAME_HEIGHT);
  let after = frame.bottom + 10 + NAME_HEIGHT;
  for (const one of placed.reverse()) after = one.height = Math.min(one.height, after - NAME_HEIGHT);
  for (const { name, style, end: [left, top], height } of placed) {
    svg.append(draw("path", { class: `lead ${style}`, d: `M${left + 3},${top.toFixed(1)}L${frame.right + 11},${(height - 4).toFixed(1)}` }));
    svg.append(draw("text", { class: `name-of ${style}`, x: frame.right + 14, y: height.toFixed(1), "text-anchor": "start" }, name));
  }
}
