/** Documents token by token: coloured, read by pointer, finger or arrow keys. */

const TABS_AT_MOST = 8; // documents; more of them stand in a list
const READABLE = " \n\t\u00a0\u3000\u00ad\u200b\u200c\u200d\u2060\u2028\u2029"; // stand in the running text as they are

/** What the reader is looking at. */
const reader = { document: 0, view: "change", least: 0, limits: null, spans: [], rows: [], at: 0, pinned: false };

function tokenSpan(row, index) {
  const [text, , , merged] = row;
  const span = make("span", { class: merged === 0 ? "tok end" : "tok", "data-i": index, tabindex: -1 });
  const parts = text.replaceAll("\r\n", "\n").split("\n");
  parts.forEach((part, i) => {
    if (i > 0) span.append(make("span", { class: "mark", "aria-hidden": "true" }, "⏎"), "\n");
    if (part) span.append(...markedNodes(part, READABLE));
  });
  if (!text) span.append(make("span", { class: "mark" }, "∅"));
  return span;
}

/** Code and tables want columns: many lines that begin with spaces. */
function wantsMono(tokens) {
  const lines = tokens.map((row) => row[0]).join("").split("\n");
  return lines.length > 6 && lines.filter((line) => /^( {4}|\t)/.test(line)).length > 0.4 * lines.length;
}

function repaint() {
  reader.spans.forEach((span, i) => paint(span, reader.rows[i], reader.view, reader.limits[reader.view], reader.least));
}

function about(one) {
  const count = one.tokens.reduce((sum, row) => sum + Math.max(1, row[3]), 0);
  const better = one.tokens.filter((row) => row[2] < row[1]).length;
  const cut = count < one.length ? `first ${grouped(count)} of ${grouped(one.length)} tokens shown` : `all ${grouped(one.length)} tokens shown`;
  const fact = (name, ...words) => make("span", {}, `${name} `, make("b", {}, ...words));
  return [
    fact("source", one.source), ...one.label ? [] : [fact("chosen because it", { "gained most": "gained most per token", "lost most": "lost most per token",
      "gained least": "gained least per token", "lost least": "lost least per token", "in the middle": "stands in the middle" }[one.why] ?? one.why)],
    fact("origin", make("bdi", {}, one.parents.join(", ") || "unknown")),
    ...facts.run && one.position !== undefined ? [fact("more", make("code", {}, `graft why ${facts.run} ${one.source}:${one.position}`))] : [],
    fact("mean", `${one.before.toFixed(3)} → ${one.after.toFixed(3)} ${facts.unit ?? "nats per token"}`),
    fact("likelier now", `${better} of ${one.tokens.length}`), make("span", {}, make("b", {}, cut)),
  ];
}

/** Shows the card of a token beside it, inside the window. */
function showTip(parts, index) {
  const span = reader.spans[index], row = reader.rows[index];
  parts.tip.replaceChildren(...card(row));
  parts.tip.hidden = false;
  const box = (span.getClientRects()[0] ?? span.getBoundingClientRect());
  const home = parts.root.getBoundingClientRect();
  const left = Math.min(box.left, document.documentElement.clientWidth - parts.tip.offsetWidth - 12);
  const fits = box.top - parts.tip.offsetHeight - 8 > 0;
  parts.tip.style.left = `${Math.max(home.left, left) - home.left}px`;
  parts.tip.style.top = `${(fits ? box.top - parts.tip.offsetHeight - 8 : box.bottom + 8) - home.top}px`;
}

function point(parts, index) {
  reader.spans[reader.at]?.classList.remove("at");
  reader.spans[reader.at]?.setAttribute("tabindex", -1);
  reader.at = index;
  reader.spans[index].setAttribute("tabindex", 0);
  reader.spans[index].classList.add("at");
  showTip(parts, index);
}

function hideTip(parts) {
  parts.tip.hidden = true;
  reader.spans[reader.at]?.classList.remove("at");
}

function openDocument(parts, index) {
  const one = facts.documents[index];
  Object.assign(reader, { document: index, rows: one.tokens, at: 0 });
  reader.spans = one.tokens.map(tokenSpan);
  parts.text.replaceChildren(...reader.spans);
  if (reader.spans.length) reader.spans[0].tabIndex = 0;
  parts.text.scrollTop = 0;
  parts.about.replaceChildren(...about(one));
  parts.mono.checked = wantsMono(one.tokens);
  parts.text.classList.toggle("mono", parts.mono.checked);
  if (parts.listed) parts.panel.setAttribute("aria-label", documentName(one));
  else parts.panel.setAttribute("aria-labelledby", `document-tab-${index}`);
  hideTip(parts);
  repaint();
}

/** On paper every document that has a tab stands below the one that is open, in the same colours. */
function printAll(root) {
  root.querySelectorAll(".printed").forEach((one) => one.remove());
  facts.documents.forEach((one, number) => {
    if (number === reader.document) return;
    const spans = one.tokens.map(tokenSpan);
    spans.forEach((span, i) => paint(span, one.tokens[i], reader.view, reader.limits[reader.view], reader.least));
    const text = make("div", { class: wantsMono(one.tokens) ? "text mono" : "text", dir: "auto" }, ...spans);
    root.append(make("div", { class: "printed" }, make("h4", {}, documentName(one)), make("div", { class: "about" }, ...about(one)), text));
  });
}

function wireReader(parts) {
  const index = (event) => Number(event.target.closest?.(".tok")?.dataset.i ?? -1);
  parts.text.addEventListener("pointerover", (event) => { if (index(event) >= 0 && event.pointerType !== "touch") point(parts, index(event)); });
  parts.text.addEventListener("pointerleave", () => { if (!parts.text.contains(document.activeElement)) hideTip(parts); });
  parts.text.addEventListener("click", (event) => { if (index(event) >= 0) reader.spans[index(event)].focus({ preventScroll: true }); });
  parts.text.addEventListener("focusin", (event) => {
    if (index(event) < 0) return;
    point(parts, index(event));
    parts.live.textContent = spoken(reader.rows[index(event)]);
  });
  parts.text.addEventListener("focusout", () => hideTip(parts));
  parts.text.addEventListener("scroll", () => hideTip(parts));
  parts.text.addEventListener("keydown", (event) => {
    const here = index(event), last = reader.spans.length - 1;
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") hideTip(parts);
    if (here < 0 || to === undefined) return;
    event.preventDefault();
    const span = reader.spans[Math.min(last, Math.max(0, to))];
    span.scrollIntoView({ block: "nearest" });
    requestAnimationFrame(() => span.focus({ preventScroll: true }));
  });
  parts.mono.addEventListener("change", () => parts.text.classList.toggle("mono", parts.mono.checked));
}

function viewChoice(parts) {
  const choice = make("fieldset", {}, make("legend", {}, "Colour by"));
  const choose = (view) => {
    reader.view = view;
    parts.scale.replaceChildren(...ramp(view, reader.limits[view]));
    parts.slider.max = reader.limits[view];
    reader.least = Number(parts.slider.value);
    parts.level.textContent = `${reader.least.toFixed(1)} nats`;
    repaint();
  };
  for (const [view, { name }] of Object.entries(VIEWS)) {
    const input = make("input", { type: "radio", name: "view", value: view });
    input.checked = view === reader.view;
    input.addEventListener("change", () => choose(view));
    choice.append(make("label", { class: "choice" }, input, make("span", {}, name)));
  }
  parts.slider.addEventListener("input", () => choose(reader.view));
  choose(reader.view);
  return choice;
}

function documentTabs() {
  const list = make("div", { class: "tabs", role: "tablist", "aria-label": "Documents" });
  facts.documents.forEach((one, i) => list.append(make("button", { type: "button", role: "tab", id: `document-tab-${i}`,
    "aria-controls": "document-panel" }, documentName(one))));
  return list;
}

const documentName = (one) => `${one.source}: ${one.label ?? one.why}`;

/** Where there are too many for tabs: a list to choose from, and the next and the one before by a button. */
function documentList(choose) {
  const select = make("select", { id: "document-choice" }, ...facts.documents.map((one, i) => make("option", { value: i }, documentName(one))));
  const go = (index) => { select.value = String(Math.min(facts.documents.length - 1, Math.max(0, index))); choose(Number(select.value)); };
  const step = (by, word) => {
    const button = make("button", { type: "button", class: "plain-button" }, word);
    button.addEventListener("click", () => go(select.selectedIndex + by));
    return button;
  };
  select.addEventListener("change", () => choose(select.selectedIndex));
  return make("div", { class: "bench" }, make("label", { for: "document-choice" }, "Document ", select), step(-1, "Previous"), step(1, "Next"));
}

function startReader(root) {
  reader.limits = limits();
  const parts = {
    root, scale: make("div", { class: "scale" }), level: make("output", { for: "least" }), live: make("p", { class: "sr", "aria-live": "polite" }),
    slider: make("input", { type: "range", id: "least", min: 0, max: reader.limits.change, step: 0.1, value: 0 }),
    mono: make("input", { type: "checkbox" }), about: make("div", { class: "about" }), tip: make("div", { class: "tip", role: "tooltip", id: "tip" }),
    text: make("div", { class: "text", role: "group", dir: "auto", "aria-label": "Text of the document; arrow keys go from token to token" }),
  };
  parts.tip.hidden = true;
  parts.panel = make("div", { role: "tabpanel", id: "document-panel" }, parts.about, parts.text);
  parts.listed = facts.documents.length > TABS_AT_MOST;
  const choose = (index) => openDocument(parts, index);
  const chooser = parts.listed ? documentList(choose) : documentTabs();
  const hiding = make("label", { for: "least" }, "Hide below ", parts.slider, " ", parts.level);
  const bench = make("div", { class: "bench" });
  bench.append(viewChoice(parts), hiding, make("label", {}, parts.mono, " monospace"), parts.scale);
  root.append(chooser, bench, parts.panel, parts.tip, parts.live);
  wireReader(parts);
  if (!parts.listed) addEventListener("beforeprint", () => printAll(root));
  addEventListener("afterprint", () => root.querySelectorAll(".printed").forEach((one) => one.remove()));
  if (parts.listed) { parts.panel.setAttribute("role", "group"); choose(0); } else wireTabs(chooser, choose);
}

if (facts.documents.length) startReader(document.getElementById("reader"));
