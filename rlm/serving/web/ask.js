// A question, watched while it is answered, and its answer. The page stays as it is while its reader looks at others.

import { follow, get, path, post, Problem, remove } from "/api.js";
import { answerView } from "/answer.js";
import { count, dollars, field, h, say, seconds, select, trouble } from "/dom.js";
import { link } from "/links.js";
import { after, ended, START } from "/run.js";
import { stepsView } from "/steps.js";
import { treeView } from "/tree.js";

const ROUTES = [
  ["auto", "auto: by the question"],
  ["rlm", "rlm: code over the tree"],
  ["retrieve", "retrieve: what a search finds"],
  ["overview", "overview: the upper levels"],
  ["map", "map: every row"],
  ["direct", "direct: the whole text"],
];
const LIMITS = [
  ["usd", "Dollars", "any"],
  ["calls", "Calls", "1"],
  ["tokens", "Tokens", "1"],
  ["turns", "Turns", "1"],
  ["timeout_s", "Seconds", "any"],
];
const UNDER_WAY = "raptor-rlm-job"; // what this tab asked and has no answer to, so that a reload finds it again

let page = null; // made once

export async function askPage({ indexes, params }) {
  page ??= make();
  page.offer(indexes, params.get("index"));
  if (params.get("q")) page.question.value = params.get("q");
  return { title: "Ask", element: page.element, shown: page.resume };
}

function make() {
  const index = h("select", { id: "ask-index" });
  const question = h("textarea", { id: "ask-question", rows: 3, required: true, placeholder: "What do you want to know?" });
  const route = select(ROUTES, "auto");
  const model = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const child = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const doc = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const limits = LIMITS.map(([name, label, step]) => [name, label, h("input", { type: "number", min: 0, step, inputmode: "decimal" })]);
  const submit = h("button", { class: "first" }, "Ask");
  const wrong = h("div");
  const live = h("div", { class: "live" });
  const form = h(
    "form",
    { class: "card ask" },
    field("Index", index),
    field("Question", question),
    h(
      "details",
      { class: "options" },
      h("summary", null, "Route, models, limits"),
      h(
        "div",
        { class: "grid" },
        field("Route", route),
        field("Model", model, "The server's own where this is empty."),
        field("Model of sub-calls", child),
        field("Only in the document", doc, "Its id, as the list of documents shows it."),
        limits.map(([, label, control]) => field(`At most: ${label.toLowerCase()}`, control)),
      ),
    ),
    h("p", { class: "row" }, submit, h("span", { class: "meta" }, "or Ctrl+Enter")),
    wrong,
  );
  const element = h("section", { class: "page" }, h("h1", null, "Ask"), form, live);

  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.replaceChildren();
    if (!question.value.trim()) return question.focus();
    submit.disabled = true;
    try {
      const given = limits.filter(([, , control]) => control.value !== "").map(([name, , control]) => [name, Number(control.value)]);
      const asked = await post(path("indexes", index.value, "ask"), {
        question: question.value,
        route: route.value,
        model: model.value.trim() || null,
        child_model: child.value.trim() || null,
        limits: Object.fromEntries(given),
        scope: doc.value.trim() ? { doc: doc.value.trim() } : {},
      });
      watch({ ...asked, index: index.value, question: question.value });
    } catch (error) {
      wrong.replaceChildren(trouble(error));
    } finally {
      submit.disabled = false;
    }
  });

  let watched = null;
  function watch(job) {
    watched?.leave();
    sessionStorage.setItem(UNDER_WAY, JSON.stringify(job));
    watched = runView(job);
    live.replaceChildren(watched.element);
    form.querySelector("details").open = false;
    watched.element.scrollIntoView({ block: "start" });
  }

  return {
    element,
    question,
    offer(indexes, wanted) {
      const before = wanted ?? index.value;
      index.replaceChildren(...indexes.map((one) => h("option", { value: one.name }, `${one.name} · ${count(one.documents, "document")}`)));
      if (indexes.some((one) => one.name === before)) index.value = before;
      wrong.replaceChildren(...(indexes.length ? [] : [h("p", null, "There is no index yet. ", h("a", { href: link("build") }, "Build one"), " from your files.")]));
      submit.disabled = !indexes.length;
    },
    resume() {
      const kept = sessionStorage.getItem(UNDER_WAY);
      if (!watched && kept) watch(JSON.parse(kept));
    },
  };
}

// A run while it goes on, and then its answer. `job`: {job, run, index, question}.
function runView(job) {
  const stopping = new AbortController();
  const tree = treeView(job.index);
  const steps = stepsView(job.index);
  const meter = meterView();
  const cancel = h("button", { type: "button", onclick: () => stop() }, "Cancel");
  const state = h("p", { class: "state" }, "Waiting for its turn…");
  const top = h("div");
  const how = h("details", { class: "how", open: true }, h("summary", null, h("h2", null, "How it came about")), h("div", { class: "watch" }, tree.element, steps.element));
  const element = h("section", { class: "running", "aria-label": "The run" }, h("header", { class: "asked" }, h("h2", null, job.question), h("div", { class: "row" }, state, cancel)), meter.element, top, how);
  let now = START;

  async function stop() {
    cancel.disabled = true;
    state.textContent = "Cancelling…";
    try {
      await remove(path("jobs", job.job));
    } catch (error) {
      end("failed", [trouble(error)]);
    }
  }

  function end(name, parts) {
    meter.stop();
    sessionStorage.removeItem(UNDER_WAY);
    cancel.remove();
    state.replaceChildren(name);
    element.classList.add("over");
    top.replaceChildren(...parts);
  }

  function told(event) {
    now = after(now, event);
    meter.show(now);
    tree.add(event);
    steps.add(event);
    if (event.kind === "waiting") state.textContent = event.ahead ? `Waiting, ${event.ahead} before it` : "Waiting for its turn…";
    else if (event.kind === "result") answered(event.answer);
    else if (event.kind === "failed") end("failed", [trouble(new Problem(400, event.error ?? "The run failed."))]);
    else if (event.kind === "cancelled") {
      end("cancelled", [h("p", { class: "seal warn" }, h("strong", null, "Cancelled."), " What it spent until then is counted above.")]);
      say("The run was cancelled.", true);
    } else {
      if (!element.classList.contains("over")) state.textContent = now.rows ? `${now.rows.done} of ${count(now.rows.of, "row")} answered` : `Turn ${Math.max(now.turns, 1)}`;
      say(`Turn ${now.turns}, ${count(now.calls, "call")}, ${dollars(now.usd)}`);
    }
  }

  function answered(answer) {
    const view = answerView(answer, job.index);
    const run = h("p", { class: "row" }, h("a", { href: link("runs", answer.run) }, "Open this run: review, verdict, trace"));
    end(ended(answer.stop), [view.element, run]);
    how.open = false;
    say(`Answered, with ${count(answer.citations.length, "citation")}.`, true);
  }

  async function listen() {
    try {
      await tree.load();
    } catch (error) {
      tree.element.replaceChildren(trouble(error)); // the run goes on without its picture
    }
    try {
      for await (const event of follow(path("jobs", job.job, "events"), stopping.signal)) told(event);
      if (!element.classList.contains("over")) told(await lastWord());
    } catch (error) {
      if (error.name !== "AbortError") end("lost", [trouble(error), h("p", null, h("a", { href: link("runs") }, "The list of runs"), " says what became of it.")]);
    }
  }

  // Of a run that had ended before anybody listened.
  async function lastWord() {
    const found = await get(path("jobs", job.job));
    return { ...found, kind: found.state === "done" ? "result" : found.state };
  }

  listen();
  return { element, leave: () => stopping.abort() };
}

// Sums that count up while a run goes on.
function meterView() {
  const began = Date.now();
  const parts = ["Turns", "Calls", "Tokens", "Dollars", "Time"].map((name) => [name, h("dd", null, "0")]);
  const values = Object.fromEntries(parts);
  const element = h("dl", { class: "numbers" }, parts.map(([name, value]) => h("div", null, h("dt", null, name), value)));
  const tick = () => (values.Time.textContent = seconds((Date.now() - began) / 1000));
  const clock = setInterval(tick, 200);
  values.Dollars.textContent = "$0.00";
  return {
    element,
    show(now) {
      values.Turns.textContent = now.turns;
      values.Calls.textContent = now.flying > 0 ? `${now.calls} + ${now.flying} under way` : now.calls;
      values.Tokens.textContent = now.tokens.toLocaleString("en");
      values.Dollars.textContent = dollars(now.usd);
    },
    stop() {
      clearInterval(clock);
      tick();
    },
  };
}
