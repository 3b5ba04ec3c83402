// The runs that there are, and one of them with its answer, its review page and what reviewers say.

import { get, key, path, post } from "/api.js";
import { answerView } from "/answer.js";
import { chip, count, dollars, facts, field, fresh, h, moment, oneLine, say, seconds, select, trouble } from "/dom.js";
import { link } from "/links.js";
import { ended, STOPS, toneOf } from "/run.js";

const SHOWN = 20;
const VERDICTS = ["accepted", "rejected", "needs another look"];
const TONES = { accepted: "good", rejected: "bad", "needs another look": "warn" };
const REVIEWER = "raptor-rlm-reviewer";

export async function runsPage({ indexes, parts, params }) {
  return parts.length ? one(parts[0], indexes) : list(indexes, params);
}

async function list(indexes, params) {
  const offset = Number(params.get("offset") ?? 0) || 0;
  const wanted = Object.fromEntries(["index", "stop", "verdict", "q"].map((name) => [name, params.get(name) ?? ""]));
  const told = await get(path("runs", { ...wanted, offset, limit: SHOWN }));
  const go = (more) => (location.hash = link("runs", { ...wanted, ...more }));
  const words = h("input", { type: "search", value: wanted.q });
  const choices = {
    index: select([["", "any"], ...indexes.map((one) => [one.name, one.name])], wanted.index),
    stop: select([["", "any"], ...STOPS.map((stop) => [stop, ended(stop)])], wanted.stop),
    verdict: select([["", "any"], ["none", "none yet"], ...VERDICTS.map((one) => [one, one])], wanted.verdict),
  };
  const form = h("form", { class: "tools", role: "search", "aria-label": "Runs" }, field("Index", choices.index), field("Ended", choices.stop), field("Verdict", choices.verdict), field("Words", words), h("button", null, "Filter"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go({ ...Object.fromEntries(Object.entries(choices).map(([name, choice]) => [name, choice.value])), q: words.value, offset: "" });
  });
  const last = Math.min(offset + told.runs.length, told.total);
  const pages = h(
    "nav",
    { class: "row", "aria-label": "More runs" },
    offset > 0 ? h("a", { href: link("runs", { ...wanted, offset: Math.max(offset - SHOWN, 0) || "" }) }, "Newer") : null,
    last < told.total ? h("a", { href: link("runs", { ...wanted, offset: offset + SHOWN }) }, "Older") : null,
  );
  const tally = told.total ? `${offset + 1}–${last} of ${count(told.total, "run")}` : "No run is like that.";
  const element = h("section", { class: "page" }, h("h1", null, "Runs"), form, h("p", { class: "meta", role: "status" }, tally), h("ol", { class: "cards" }, told.runs.map(card)), pages);
  return { title: "Runs", element };
}

function card(run) {
  return h(
    "li",
    null,
    h("h2", null, h("a", { href: link("runs", run.run) }, oneLine(run.question || run.run, 220))),
    run.answer ? h("p", { class: "excerpt" }, oneLine(run.answer, 260)) : null,
    run.problem ? h("p", { class: "excerpt" }, oneLine(run.problem, 260)) : null,
    h(
      "p",
      { class: "facts-line" },
      [run.index, moment(run.started), run.cost === null ? null : dollars(run.cost), run.calls === null ? null : count(run.calls, "call"), run.seconds === null ? null : seconds(run.seconds)].filter(Boolean).map((text) => h("span", null, text)),
    ),
    h("p", { class: "row" }, chip(ended(run.stop), toneOf(run.stop)), run.verdict ? chip(`${run.verdict}${run.by ? `, ${oneLine(run.by, 40)}` : ""}`, TONES[run.verdict]) : null),
  );
}

async function one(run, indexes) {
  const told = await get(path("runs", run));
  if (!("is_whole" in told)) return neverBegan(run, told);
  const review = await get(path("runs", run, "review"));
  const isServed = indexes.some((each) => each.name === told.index);
  const view = answerView(told, told.index);
  const element = h(
    "section",
    { class: "page" },
    h("p", { class: "kicker" }, h("a", { href: link("runs") }, "Runs")),
    h("h1", null, told.question || run),
    h("p", { class: "row" }, chip(ended(told.stop), toneOf(told.stop)), told.is_whole ? chip("trace as it was written", "good") : chip("trace is not as it was written", "bad")),
    isServed ? null : h("p", { class: "trouble" }, `The index ${told.index} is not served any more: sources are shown as the run recorded them.`),
    view.element,
    reviewing(run, review, told.events),
    h("h2", null, "Facts"),
    facts([
      ["Index", `${told.index}, generation ${told.generation ?? "?"}`],
      ["Route", told.route],
      ["Models", Object.values(told.models ?? {}).filter((name) => typeof name === "string").filter((name, i, all) => all.indexOf(name) === i).join(", ")],
      ["Began", moment(told.started)],
      ["Took", told.seconds === null ? null : seconds(told.seconds)],
      ["Spent", told.usage ? `${dollars(told.usage.usd)}, ${count(told.usage.calls, "call")}, ${count(told.usage.prompt_tokens + told.usage.completion_tokens, "token")}` : null],
      ["Head", told.head ? h("code", { class: "hash" }, told.head) : null],
    ]),
    pageOf(run),
  );
  return { title: oneLine(told.question || run, 60), element };
}

// A run without a trace, of which its end alone is known.
function neverBegan(run, told) {
  const chips = h("p", { class: "row" }, chip(ended(told.stop), toneOf(told.stop)));
  const element = h("section", { class: "page" }, h("p", { class: "kicker" }, h("a", { href: link("runs") }, "Runs")), h("h1", null, told.question || run), chips, h("p", { class: "trouble" }, told.why));
  return { title: oneLine(told.question || run, 60), element };
}

// The review page, which stands in a frame of its own: it holds what a model and documents said, and has no way out.
function pageOf(run) {
  const told = h("div");
  const address = async () => (await post(path("runs", run, "ticket"))).url;
  const part = h("details", { class: "review-page" }, h("summary", null, h("h2", null, "Review page: every step, with what it saw and passed by")), told);
  part.addEventListener("toggle", async () => {
    if (!part.open || told.children.length) return;
    told.append(h("p", { class: "meta" }, "Loading…"));
    try {
      const frame = h("iframe", { sandbox: "allow-scripts allow-popups allow-downloads allow-modals", title: "Review page of this run", src: await address() });
      told.replaceChildren(frame);
    } catch (error) {
      told.replaceChildren(trouble(error));
    }
  });
  return part;
}

function reviewing(run, review, events) {
  const title = fresh("review");
  const notes = h("ol", { class: "notes" });
  const said = h("div", { role: "status" });
  const verdict = [["", "no verdict"], ...VERDICTS.map((each) => [each, each])].map(([value, name], i) => {
    const choice = h("input", { type: "radio", name: title, id: fresh("verdict"), checked: i === 0 });
    choice.value = value;
    return [choice, h("span", { class: "choice" }, choice, h("label", { for: choice.id }, name))];
  });
  const text = h("textarea", { rows: 3 });
  const step = h("input", { type: "number", min: 0, max: events - 1, step: 1 });
  const by = h("input", { type: "text", value: sessionStorage.getItem(REVIEWER) ?? "", autocomplete: "name" });
  const form = h(
    "form",
    { class: "card", "aria-labelledby": title },
    h("fieldset", null, h("legend", null, "Verdict"), verdict.map(([, part]) => part)),
    field("In words", text),
    h("div", { class: "grid" }, field("About step", step, `0 to ${events - 1}; empty for the whole run`), key() ? null : field("Your name", by)),
    h("p", { class: "row" }, h("button", { class: "first" }, "Save")),
    said,
  );
  const show = (told) => {
    notes.replaceChildren(...told.notes.map(noteOf));
    if (!told.ok) notes.append(h("li", { class: "trouble" }, `Line ${told.line}: ${told.reason}`));
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = verdict.find(([choice]) => choice.checked)[0].value;
    try {
      sessionStorage.setItem(REVIEWER, by.value);
      const told = await post(path("runs", run, "review"), { verdict: chosen || null, text: text.value, step: step.value === "" ? null : Number(step.value), by: by.value.trim() || null });
      show(told);
      text.value = step.value = "";
      verdict[0][0].checked = true;
      said.replaceChildren(h("p", { class: "seal good" }, h("strong", null, "Saved"), " beside the trace, sealed to its head."));
      say("The note is saved.", true);
    } catch (error) {
      said.replaceChildren(trouble(error));
    }
  });
  show(review);
  return h("section", { class: "review" }, h("h2", { id: title }, "Review"), notes, form);
}

function noteOf(note) {
  return h(
    "li",
    { class: "reviewed" },
    h("p", { class: "row" }, h("strong", null, note.by), note.verdict ? chip(note.verdict, TONES[note.verdict]) : null, h("span", { class: "meta" }, `${note.step === null ? "the run" : `step ${note.step}`} · ${moment(note.at)}`)),
    note.text ? h("p", { class: "said" }, note.text) : null,
  );
}
