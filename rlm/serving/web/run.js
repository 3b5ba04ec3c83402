// What a run has come to, from its events alone: sums, and where it stands in the tree.

// As rlm/audit/routing.py has it: a node is entered when it is opened, named to a verb or a child, or its words given.
const OPENING = new Set(["gather", "peek", "read"]);
const LOCATING = new Set(["parents", "path"]);
const WORDS = new Set(["query", "pattern", "question", "prompt", "doc"]);
const NODE = /^L\d{1,3}-\d{5,12}$/;
const PIECE = /^L0-(\d{5,12})\.\.L0-(\d{5,12})$/;
const MOST_PIECE = 64;

export const START = { turns: 0, flying: 0, calls: 0, tokens: 0, usd: 0, rows: null, ahead: null };

// The sums after one more event.
export function after(now, event) {
  if (event.kind === "waiting") return { ...now, ahead: event.ahead };
  if (event.kind === "model_asked") return { ...now, ahead: null, turns: now.turns + (event.conversation === "0"), flying: now.flying + 1 };
  if (event.kind === "model_answered" || event.kind === "model_failed") {
    const used = event.usage ?? { calls: 0, prompt_tokens: 0, completion_tokens: 0, usd: 0 };
    return {
      ...now,
      flying: now.flying - 1,
      calls: now.calls + used.calls,
      tokens: now.tokens + used.prompt_tokens + used.completion_tokens,
      usd: now.usd + used.usd,
    };
  }
  if (event.kind === "map_called") return { ...now, rows: { done: 0, of: event.rows } };
  if (event.kind === "map_returned") return { ...now, rows: null };
  if (event.done !== undefined && event.rows !== undefined) return { ...now, rows: { done: event.done, of: event.rows } };
  return now;
}

// {entered, seen, cited}: nodes that an event is about, each {node, level, label, parent} as far as it says so.
export function nodesOf(event) {
  if (event.kind === "visited") {
    const shown = event.shown.filter((one) => one.node !== null);
    const known = new Map(shown.map((one) => [one.node, one]));
    const named = LOCATING.has(event.verb) ? [] : Object.entries(event.arguments).flatMap(([name, value]) => (WORDS.has(name) ? [] : named_in(value)));
    const entered = OPENING.has(event.verb) ? [...new Set([...named, ...known.keys()])] : [...new Set(named)];
    const seen = shown.filter((one) => !entered.includes(one.node));
    return { entered: entered.map((node) => known.get(node) ?? bare(node)), seen, cited: [] };
  }
  if (event.kind === "child_called") return { entered: [...new Set(event.under.filter(Boolean))].map(bare), seen: [], cited: [] };
  if (event.kind === "answered" && event.conversation === "0") {
    const cited = event.citations.map((one) => one.node).filter(Boolean).flatMap(named_in);
    return { entered: [], seen: [], cited: [...new Set(cited)].map(bare) };
  }
  return { entered: [], seen: [], cited: [] };
}

const bare = (node) => ({ node, level: Number(node.slice(1).split("-")[0]), label: null, parent: null });

function named_in(value) {
  if (Array.isArray(value)) return value.flatMap(named_in);
  if (typeof value !== "string") return [];
  const piece = PIECE.exec(value);
  if (!piece) return NODE.test(value) ? [value] : [];
  const [first, last] = piece.slice(1).map(Number);
  const many = Math.min(Math.max(last - first + 1, 0), MOST_PIECE);
  return Array.from({ length: many }, (_, i) => `L0-${String(first + i).padStart(5, "0")}`);
}

const ENDS = {
  answer: "answered",
  unmet: "answered, but it lacks something",
  turns: "stopped at its turns",
  budget: "stopped at its budget",
  timeout: "stopped at its time",
  "no code": "stopped: the model writes no code",
  failed: "failed",
  cancelled: "cancelled",
  running: "under way",
  unclosed: "never closed",
  broken: "cannot be read",
};
export const STOPS = Object.keys(ENDS);
export const ended = (stop) => ENDS[stop] ?? stop ?? "";
export const toneOf = (stop) => (stop === "answer" ? "good" : stop === "failed" || stop === "broken" ? "bad" : stop === "running" ? "" : "warn");
