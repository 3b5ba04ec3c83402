// The turns of a run as they come: what the model said, its code, what the code looked at and called, what it printed.

import { chip, count, dollars, fold, h, oneLine, pre, seconds } from "/dom.js";
import { toNode } from "/links.js";

const MOST_TURNS = 300; // of all conversations; the review page has the rest
const MOST_CHILDREN = 24; // of one call
const MOST_SHOWN = 12;

// A reply without its code, which stands below as it was run.
export const prose = (text) => text.replace(/^(```|~~~)[^\n]*\n[\s\S]*?(^\1[ \t]*$|$(?![\s\S]))/gm, "").trim();

export function argumentsOf(named) {
  const told = Object.entries(named).filter(([, value]) => value !== null);
  return told.map(([name, value], i) => `${i && typeof value !== "string" ? `${name}=` : ""}${typeof value === "string" ? `“${oneLine(value, 80)}”` : oneLine(JSON.stringify(value), 60)}`).join(", ");
}

export function stepsView(index) {
  const element = h("div", { class: "steps" });
  const more = h("p", { class: "meta", hidden: true });
  const places = new Map([["0", element]]);
  const turns = new Map(); // of a conversation: {number, facts, body}
  let shown = 0;
  let left = 0;

  const placeOf = (talk) => {
    for (let at = talk; at; at = at.split(".").slice(0, -1).join(".")) if (places.has(at)) return places.get(at);
    return element;
  };
  const bodyOf = (talk) => turns.get(talk)?.body ?? placeOf(talk);

  function begin(event) {
    const number = (turns.get(event.conversation)?.number ?? 0) + 1;
    const told = h("span", null, `${event.model} is asked…`);
    const line = h("p", { class: "facts-line" }, told);
    const body = h("div");
    const isLeft = shown >= MOST_TURNS;
    if (isLeft) {
      left += 1;
      more.hidden = false;
      more.textContent = `${count(left, "more turn")}; the review page has them all.`;
      element.after(more);
    } else {
      shown += 1;
      const name = event.conversation === "0" ? `Turn ${number}` : `Turn ${number} of ${event.conversation}`;
      placeOf(event.conversation).append(h("article", { class: "turn busy" }, h("header", null, h("h3", null, name), line), body));
    }
    turns.set(event.conversation, { number, line, body });
  }

  function answered(event) {
    const turn = turns.get(event.conversation);
    if (!turn) return;
    const used = event.usage ?? { prompt_tokens: 0, completion_tokens: 0, usd: 0 };
    const told = [event.model, count(used.prompt_tokens + used.completion_tokens, "token"), dollars(used.usd), seconds(event.seconds), event.cached ? "from the store" : ""];
    turn.line.replaceChildren(...told.filter(Boolean).map((text) => h("span", null, text)));
    turn.line.closest(".turn")?.classList.remove("busy");
    if (event.kind === "model_failed") turn.body.append(h("p", { class: "error" }, event.error));
    else if (prose(event.text)) turn.body.append(h("p", { class: "prose" }, prose(event.text)));
  }

  function visit(event) {
    const shownHere = event.shown.filter((one) => one.node !== null);
    const name = h("span", null, h("b", null, event.verb), `(${argumentsOf(event.arguments)}) `);
    const told = event.error ? h("span", { class: "error" }, event.error) : h("span", { class: "meta" }, count(event.shown.length, "node"), " shown");
    if (!shownHere.length) return h("p", { class: "visit step" }, name, told);
    const rows = shownHere.slice(0, MOST_SHOWN).map((one) => h("li", null, h("a", { href: toNode(index, one.node) }, oneLine(one.label || one.node, 110)), " ", h("span", { class: "id" }, one.node)));
    const rest = shownHere.length > MOST_SHOWN ? h("p", { class: "meta" }, `and ${shownHere.length - MOST_SHOWN} more`) : null;
    const list = fold([name, told], h("ul", { class: "refs" }, rows), rest);
    list.className = "visit";
    return list;
  }

  function called(event) {
    const first = event.children.slice(0, MOST_CHILDREN).map((child, i) => {
      const body = h("div");
      places.set(child, body);
      const under = event.under[i] ? ` under ${event.under[i]}` : "";
      const part = fold([h("b", null, event.verb), `${under}: ${oneLine(event.prompts[i] ?? "", 110)}`], body);
      part.className = "child";
      return part;
    });
    const rest = event.children.length - first.length;
    return [...first, rest > 0 ? h("p", { class: "meta" }, `and ${count(rest, "more call")} of ${event.verb}`) : null].filter(Boolean);
  }

  function ran(event) {
    const told = [h("span", null, event.status === "ok" ? "ran" : event.status), h("span", null, seconds(event.seconds)), event.truncated ? h("span", null, "output cut") : null];
    return [
      event.stdout ? pre(event.stdout, "output") : null,
      event.error ? pre(event.error, "error") : null,
      h("p", { class: "facts-line" }, told),
    ].filter(Boolean);
  }

  const kinds = {
    code_scanned: (event) => [pre(event.code, "source"), event.verdict === "ok" ? null : h("p", { class: "error" }, `rejected: ${event.rule}`)].filter(Boolean),
    visited: (event) => [visit(event)],
    child_called: called,
    code_run: ran,
    map_called: (event) => [h("p", { class: "note" }, `${event.verb}: “${oneLine(event.question, 110)}” is asked of ${count(event.rows, "row")}`)],
    map_returned: (event) => [h("p", { class: "note" }, `${count(event.rows - event.failed, "row")} answered, ${count(event.failed, "row")} not`)],
    reduce_called: (event) => [h("p", { class: "note" }, `llm_reduce reads ${count(event.passages, "passage")}`)],
    reduce_returned: (event) => [h("p", { class: "note" }, `${count(event.notes, "note")} taken, ${event.failed.length} failed`)],
    suspicious: (event) => [h("p", { class: "trouble" }, `Words in ${event.place} read like an instruction to a model: “${oneLine(event.words, 160)}”`)],
    note: (event) => [h("p", { class: "note" }, event.text)],
    answered: (event) => (event.conversation === "0" ? [] : [h("p", { class: "note" }, chip("answer", "good"), " ", oneLine(event.content, 300))]),
  };

  return {
    element,
    add(event) {
      if (event.kind === "model_asked") begin(event);
      else if (event.kind === "model_answered" || event.kind === "model_failed") answered(event);
      else if (Object.hasOwn(kinds, event.kind)) bodyOf(event.conversation).append(...kinds[event.kind](event));
    },
  };
}
