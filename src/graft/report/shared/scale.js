/** How a token is shown: its text with marks, its colour by the view, and its numbers in words. */

const VIEWS = {
  change: { name: "Change", value: (row) => row[2] - row[1] },
  before: { name: "Before", value: (row) => row[1] },
  after: { name: "After", value: (row) => row[2] },
};
const STRONGEST = 0.62; // opacity: text on the fullest colour keeps a contrast of at least 4.5

/** Values at which the colours are full: a high quantile over all documents, so that one scale serves them all. */
function limits() {
  const rows = facts.documents.flatMap((one) => one.tokens);
  const high = (values) => {
    const sorted = values.sort((a, b) => a - b);
    return Math.max(1, Math.ceil(sorted[Math.floor(0.9 * (sorted.length - 1))] || 0));
  };
  const change = high(rows.map((row) => Math.abs(VIEWS.change.value(row))));
  const level = high(rows.flatMap((row) => [row[1], row[2]]));
  return { change, before: level, after: level };
}

/** Text as (shown, is a mark) pairs; `keep` says which characters stand as they are although they have a mark. */
function pieces(text, keep = "") {
  const found = [];
  for (const char of text) {
    const control = /[\p{Cc}\p{Co}\p{Cs}]/u.test(char) ? `[U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]` : null;
    const mark = keep.includes(char) ? null : facts.marks[char] ?? control;
    if (found.length && !mark && !found.at(-1)[1]) found.at(-1)[0] += char;
    else found.push([mark ?? char, Boolean(mark)]);
  }
  return found;
}

const markedNodes = (text, keep) => pieces(text, keep).map(([shown, mark]) => mark ? make("span", { class: "mark" }, shown) : shown);

/** exp(-nats) in percent, to three digits. */
function probability(nats) {
  const percent = 100 * Math.exp(-nats);
  if (percent < 0.001) return "< 0.001\u202f%";
  return `${percent > 99.95 ? percent.toFixed(2) : Number(percent.toPrecision(3))}\u202f%`;
}

/** "more likely by a factor of 6.2" from a change in nats. */
function times(change) {
  const factor = Math.exp(Math.abs(change));
  const words = factor < 10 ? factor.toFixed(1) : factor < 1e6 ? grouped(Number(factor.toPrecision(2))) : `10^${Math.round(Math.log10(factor))}`;
  if (Math.abs(change) < 0.005) return "as likely as before";
  return `${change < 0 ? "more" : "less"} likely by a factor of ${words}`;
}

/** The numbers of one token, for the card that stands beside it. */
function card(row) {
  const [text, before, after, merged] = row;
  const line = (name, ...cells) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell)));
  const shown = make("bdi", { class: "token" }, ...(text ? markedNodes(text) : ["∅"]));
  const body = make("tbody", {}, line("before", `${before.toFixed(3)} nats`, `p = ${probability(before)}`),
    line("after", `${after.toFixed(3)} nats`, `p = ${probability(after)}`), line("change", `${signed(after - before, 3)} nats`, ""));
  const words = [times(after - before)];
  if (merged > 1) words.push(`${merged} ${facts.merged ?? "tokens that share a character"}`);
  if (merged === 0) words.push("a mark of the tokenizer, not text");
  return [shown, make("table", {}, body), words.join("; ")];
}

/** The same in one sentence, for those who do not see the card. */
function spoken(row) {
  return `${pieces(row[0]).map((piece) => piece[0]).join("") || "∅"}: before ${row[1].toFixed(3)} nats, after ${row[2].toFixed(3)}, ` +
    `change ${signed(row[2] - row[1], 3)}, ${times(row[2] - row[1])}`;
}

/** Opacity for a share of the full value: small changes show too, in the ramp as in the text. */
const strengthOf = (share) => STRONGEST * Math.min(1, Math.abs(share)) ** 0.7;

/** Colour of one token under a view; values below `least` are hidden. */
function paint(span, row, view, limit, least) {
  const value = VIEWS[view].value(row);
  const strength = Math.abs(value) < least ? 0 : strengthOf(value / limit);
  span.classList.toggle("up", view === "change" && value > 0);
  span.classList.toggle("down", view === "change" && value < 0);
  span.classList.toggle("level", view !== "change");
  span.style.setProperty("--a", strength.toFixed(3));
}

/** The legend's ramp with its ends named. */
function ramp(view, limit) {
  const shares = Array.from({ length: 17 }, (_, i) => view === "change" ? i / 8 - 1 : i / 16);
  const tone = (share) => view !== "change" ? "surprise" : share < 0 ? "gain" : "loss";
  const stops = shares.map((share) => `rgb(var(--${tone(share)}) / ${strengthOf(share).toFixed(3)})`);
  const bar = make("span", { class: "ramp", "aria-hidden": "true" });
  bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  return view === "change" ? [`gained ${limit} nats or more`, bar, `lost ${limit} or more (underlined)`]
    : ["0 nats: expected", bar, `${limit} nats or more: surprising`];
}
