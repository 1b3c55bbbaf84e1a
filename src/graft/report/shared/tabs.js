"use strict";

/** An element with attributes and children; strings become text, never markup. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const signed = (value, digits) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
const grouped = (value) => Math.round(value).toLocaleString("en-US");

/** Tabs by the usual keys: arrows, Home, End. `choose(index)` is called with the tab that was selected. */
function wireTabs(list, choose) {
  const tabs = [...list.querySelectorAll('[role="tab"]')];
  const select = (index) => {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === index));
      tab.tabIndex = i === index ? 0 : -1;
    });
    choose(index);
  };
  list.addEventListener("click", (event) => {
    const index = tabs.indexOf(event.target.closest('[role="tab"]'));
    if (index >= 0) select(index);
  });
  list.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const index = (to + tabs.length) % tabs.length;
    select(index);
    tabs[index].focus();
  });
  select(0);
}

/** Panels that stand in the markup: all are shown without JavaScript, one at a time with it. */
function wirePanels(list) {
  const panels = [...list.querySelectorAll('[role="tab"]')].map((tab) =>
    document.getElementById(tab.getAttribute("aria-controls")));
  panels.forEach((panel) => panel.classList.add("tabbed"));
  wireTabs(list, (index) => panels.forEach((panel, i) => { panel.hidden = i !== index; }));
}

/** Long lists show their first rows, and a button for the rest. */
function wireLists() {
  for (const body of document.querySelectorAll("tbody[data-more]")) {
    const rest = [...body.rows].slice(Number(body.dataset.more));
    if (rest.length === 0) continue;
    const table = body.closest(".items");
    const name = table.querySelector("h4").textContent.toLowerCase();
    const button = make("button", { type: "button", class: "plain-button more" });
    const show = (open) => {
      rest.forEach((row) => { row.hidden = !open; });
      button.setAttribute("aria-expanded", String(open));
      button.textContent = open ? "Show fewer" : `Show all ${body.rows.length}`;
      button.setAttribute("aria-label", `${button.textContent}: ${name}`);
    };
    button.addEventListener("click", () => show(rest[0].hidden));
    addEventListener("beforeprint", () => show(true));
    show(false);
    table.append(button);
  }
}

addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
});

const facts = JSON.parse(document.getElementById("data").textContent);

document.querySelectorAll("[data-tabs]").forEach(wirePanels);
wireLists();
