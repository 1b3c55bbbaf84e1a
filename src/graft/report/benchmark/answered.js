/** Items by task, by what became of them, and by words in them; without JavaScript all of them stand there. */

const filter = document.getElementById("filter");
if (filter) {
  const questions = [...document.querySelectorAll(".question")];
  const tasks = [...new Set(questions.map((one) => one.dataset.task))];
  const words = { loss: "", gain: "" };
  for (const one of questions) words[one.dataset.kind] ||= one.querySelector(".badge").lastChild.textContent.trim();
  const task = make("select", { id: "task" }, make("option", { value: "" }, "all tasks"), ...tasks.map((name) => make("option", { value: name }, name)));
  const text = make("input", { id: "words", type: "search", placeholder: "words in the item" });
  const kinds = Object.entries(words).filter(([, word]) => word).map(([kind, word]) => make("button", { type: "button", class: "plain-button", "aria-pressed": "true", "data-kind": kind }, word));
  const count = make("span", { class: "quiet", role: "status" });
  const show = () => {
    const wanted = new Set(kinds.filter((one) => one.getAttribute("aria-pressed") === "true").map((one) => one.dataset.kind));
    const sought = text.value.trim().toLowerCase();
    let shown = 0;
    for (const one of questions) {
      const fits = wanted.has(one.dataset.kind) && (!task.value || one.dataset.task === task.value) && (!sought || one.textContent.toLowerCase().includes(sought));
      one.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} shown`;
    document.getElementById("none").hidden = shown > 0;
  };
  for (const one of kinds) one.addEventListener("click", () => { one.setAttribute("aria-pressed", String(one.getAttribute("aria-pressed") !== "true")); show(); });
  task.addEventListener("change", show);
  text.addEventListener("input", show);
  filter.append(...kinds, ...(tasks.length > 1 ? [make("label", {}, "Task ", task)] : []), make("label", {}, "Words ", text), count);
  filter.hidden = false;
  show();
}
