// The page reads without this script: it adds keys, filters, a form for a review, and opens what a link leads into.
const find = (id) => document.getElementById(id);
const turns = [...document.querySelectorAll("#steps > .turn")];
const steps = [...document.querySelectorAll("#steps .event")];
const parts = [...document.querySelectorAll("#steps .event, #steps .turn, #steps .child")];
let hits = null; // the steps that a filter leaves; null for all
let words = []; // that are searched for
let current = null; // the step that was last gone to

function openTo(element) {
  for (let at = element; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
}

// Twice, since what comes into view takes its real height only then.
function show(element) {
  element.scrollIntoView({ block: "start", behavior: "instant" });
  requestAnimationFrame(() => element.scrollIntoView({ block: "start", behavior: "instant" }));
}

function followHash() {
  const name = decodeURIComponent(location.hash.slice(1));
  const stowed = find(name) ? null : steps.find((step) => `e${seqOf(step)}` === name);
  if (stowed) {
    make(stowed);
    location.replace(location.hash); // so that the browser, too, knows what the link leads to
  }
  const target = find(name);
  if (!target) return;
  if (target.closest("[hidden]")) clear();
  openTo(target);
  const step = target.closest(".event");
  if (step) choose(step);
  show(target);
}

// -- what is a text in a <noscript> until it is wanted: a fold until it is opened, and of a long run each step until it
// is near the view or gone to --

function make(part, kept = ":scope > noscript, :scope > .event > noscript") {
  for (const text of part.querySelectorAll(kept)) {
    const made = document.createElement("template");
    made.innerHTML = text.textContent;
    for (const table of made.content.querySelectorAll("table.rows")) tabled(table);
    text.replaceWith(made.content);
  }
}

function makeAll() {
  make(document, "noscript");
  for (const show of showAll) show();
}

const coming = new IntersectionObserver(
  (seen) => {
    for (const { target } of seen.filter((one) => one.isIntersecting)) {
      coming.unobserve(target);
      make(target);
    }
  },
  { rootMargin: "150%" },
);
for (const part of document.querySelectorAll("#steps.long .turn, #steps.long .before")) coming.observe(part);

function opening(event) {
  if (event.target.matches(".rows")) textOf(event.target.closest(".event")); // while all of it stands in one place
  make(event.target);
}

document.addEventListener("toggle", opening, true);

const CHARACTERS = { amp: "&", lt: "<", gt: ">", quot: '"', "#x27": "'" };

// The words of a step, or of a part of one, also where they are not elements yet.
function wordsOf(part) {
  if (part.nodeName === "NOSCRIPT") return part.textContent.replace(/<[^>]*>/g, "").replace(/&(\w+|#x27);/g, (_, name) => CHARACTERS[name]);
  return part.querySelector?.("noscript") ? [...part.childNodes].map(wordsOf).join("") : part.textContent;
}

// -- the rows of a map: some stand on the page, all are sorted, filtered and saved --

const FIRST = 200; // of thousands, laid out until more are asked for
const showAll = [];

// A cell as it reads without what is folded in it.
const cellOf = (cell) => cell.querySelector("summary")?.textContent ?? cell.textContent;

function tabled(table) {
  const rows = [...table.tBodies[0].rows];
  const told = document.createElement("span");
  told.setAttribute("role", "status");
  const label = document.createElement("label");
  const field = document.createElement("input");
  field.type = "search";
  field.autocomplete = "off";
  label.append("Filter the rows ", field);
  let most = FIRST;
  let texts = null;
  const left = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) texts ??= new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase()]));
    return words.length ? rows.filter((row) => words.every((word) => texts.get(row).includes(word))) : rows;
  };
  const place = () => {
    const fits = left();
    table.tBodies[0].replaceChildren(...fits.slice(0, most));
    const [shown, fit, all] = [Math.min(fits.length, most), fits.length, rows.length].map((many) => many.toLocaleString("en"));
    told.textContent = fit === all ? `${shown} of ${all} rows shown` : `${fit} of ${all} rows, ${shown} shown`;
    more.hidden = fits.length <= most;
  };
  const show = () => {
    most = rows.length;
    place();
  };
  const more = button("Show all rows", show);
  const tools = document.createElement("div");
  tools.className = "tools";
  tools.append(label, more, button("Save as CSV", () => download(csvOf(table, left()), "text/csv", table.dataset.file)), told);
  table.parentElement.before(tools);
  let waiting = 0;
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(place, 120);
  });
  const said = (row, column) => {
    const text = cellOf(row.cells[column]);
    return text.trim() && Number.isFinite(Number(text)) ? Number(text) : text.toLowerCase();
  };
  sortable(table, rows, said, place);
  showAll.push(show);
  place();
}

// A text that a spreadsheet would run is made one that it shows; a number is left as it is.
const inert = (text) => (/^[=+\-@\t\r]/.test(text) && !/^-?\d+(\.\d+)?(e[-+]?\d+)?$/i.test(text) ? `'${text}` : text);

function csvOf(table, rows) {
  const line = (cells) => [...cells].map((cell) => inert(cellOf(cell))).map((text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)).join(",");
  return [table.tHead.rows[0], ...rows].map((row) => `${line(row.cells)}\n`).join("");
}

function download(text, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// -- keys --

function walk(list, by) {
  const at = document.activeElement;
  const inside = list.findLastIndex((part) => part.contains(at));
  const before = list.findLastIndex(
    (part) => part.contains(at) || at.compareDocumentPosition(part) & Node.DOCUMENT_POSITION_PRECEDING,
  );
  const first = by > 0 ? 0 : list.length - 1;
  const next = before < 0 ? first : by > 0 || inside === before ? before + by : before;
  go(list[Math.min(Math.max(next, 0), list.length - 1)]);
}

function go(part) {
  if (!part) return;
  openTo(part);
  make(part);
  if (words.length) for (const closed of part.querySelectorAll("details:not([open])")) if (holds(closed.textContent)) closed.open = true;
  if (part.classList.contains("event")) choose(part);
  part.tabIndex = -1;
  part.focus({ preventScroll: true });
  show(part);
}

function choose(step) {
  current?.removeAttribute("aria-current");
  current = step;
  current.setAttribute("aria-current", "step");
  if (noteHere) current.append(noteHere);
}

const seqOf = (step) => step?.querySelector(":scope > .seq")?.textContent ?? "";

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && /^[fa]$/i.test(event.key)) makeAll(); // the browser finds, and copies, elements alone
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, textarea, select")) {
    if (event.key === "Escape" && event.target === search) {
      clear();
      search.blur();
    }
    return;
  }
  if (event.key === "j" || event.key === "k") walk(hits ?? turns, event.key === "j" ? 1 : -1);
  else if (event.key === "J" || event.key === "K") walk(hits ?? steps, event.key === "J" ? 1 : -1);
  else if (event.key === "n" && noteHere) note();
  else if (event.key === "?") help.showModal();
  else if (event.key === "Escape" && hits) clear();
  else if (event.key === "/") search.focus();
  else return;
  event.preventDefault();
});
addEventListener("hashchange", followHash);

// -- filter and search --

const texts = new Map();

// The words of a step in lower case, without those of the conversations inside it, which are steps of their own.
function textOf(step) {
  if (!texts.has(step)) {
    const own = step.querySelector(".event") ? step.querySelectorAll(":scope > .children > .step, :scope > .children > .child > summary, :scope > .judged, :scope > .reviewed") : [step];
    texts.set(step, [...own].map(wordsOf).join(" ").toLowerCase());
  }
  return texts.get(step);
}

function holds(text) {
  const lower = text.toLowerCase();
  return words.every((word) => lower.includes(word));
}

function filter() {
  const [kind, verdict, talk] = ["kind", "verdict", "talk"].map((name) => find(`filter-${name}`)?.value ?? "");
  words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (step) =>
    (!kind || step.dataset.kind === kind) &&
    (!talk || step.dataset.talk === talk) &&
    (!verdict || (step.dataset.verdict ?? "").split("|").includes(verdict)) &&
    words.every((word) => textOf(step).includes(word));
  hits = kind || talk || verdict || words.length ? steps.filter(fits) : null;
  const kept = new Set();
  for (const hit of hits ?? []) {
    for (let at = hit; at && !kept.has(at) && at.id !== "steps"; at = at.parentElement) {
      kept.add(at);
      if (at.matches("details.child, details.wave")) at.open = true;
    }
  }
  for (const part of parts) part.hidden = hits !== null && !kept.has(part);
  told.textContent = hits ? `${hits.length.toLocaleString("en")} of ${steps.length.toLocaleString("en")} steps` : "";
}

function clear() {
  search.value = "";
  for (const choice of tools.querySelectorAll("select")) choice.value = "";
  filter();
}

function button(name, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = name;
  made.addEventListener("click", act);
  return made;
}

function setAll(open) {
  if (open) makeAll();
  for (const part of document.querySelectorAll("#steps details")) part.open = open;
}

// -- a review --

const form = find("reviewing");
const notes = [];
const noteHere = form && button("Note on this step", note);
let isSaved = true;

function note() {
  find("review-step").value = seqOf(current);
  show(find("review"));
  find("review-text").focus({ preventScroll: true });
}

// The note that stands in the form; a sentence where it is none.
function drafted() {
  const by = find("review-by").value.trim();
  const step = find("review-step").value.trim();
  const verdict = document.querySelector("input[name=verdict]:checked")?.value || null;
  const text = find("review-text").value;
  if (!by) return "Say who reviews: give your name.";
  if (step && !(/^\d+$/.test(step) && Number(step) < Number(form.dataset.events))) return `There is no step ${step}: steps are 0 to ${form.dataset.events - 1}.`;
  if (!verdict && !text.trim()) return "Choose a verdict, or write a note.";
  const at = `${new Date().toISOString().slice(0, 19)}+00:00`;
  return { by, at, verdict, step: step ? Number(step) : null, text };
}

function say(sentence) {
  find("review-said").textContent = sentence;
}

function add() {
  const made = drafted();
  if (typeof made === "string") return say(made);
  notes.push(made);
  isSaved = false;
  find("review-text").value = find("review-step").value = "";
  document.querySelector("input[name=verdict][value='']").checked = true;
  list();
  say("Added. It is not saved yet.");
}

function list() {
  find("review-notes").replaceChildren(
    ...notes.map((one) => {
      const item = document.createElement("li");
      const about = one.step === null ? "the run" : `step ${one.step}`;
      item.append(`${about}${one.verdict ? `: ${one.verdict}` : ""}${one.text ? ` – ${one.text}` : ""} `, button("Remove", () => {
        notes.splice(notes.indexOf(one), 1);
        list();
        say("Removed.");
      }));
      return item;
    }),
  );
}

function save() {
  const made = drafted();
  if (typeof made !== "string") add();
  else if (!notes.length || find("review-text").value.trim()) return say(made);
  const saved = JSON.stringify({ head: form.dataset.head, notes }, null, 1);
  download(saved, "application/json", form.dataset.file);
  isSaved = true;
  say(`Saved as ${form.dataset.file}: put it beside the trace with the command above.`);
}

if (form) {
  form.after(form.content);
  find("review-add").addEventListener("click", add);
  find("review-save").addEventListener("click", save);
}
addEventListener("beforeunload", (event) => {
  if (!isSaved) event.preventDefault();
});

// -- paper: the evidence is open, and of the rest what its reader opened; afterwards the page is as it was --

let opened = [];
addEventListener("beforeprint", () => {
  makeAll();
  opened = [...document.querySelectorAll("details:not([open]):not(.aside)")];
  for (const part of opened) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of opened) part.open = false;
  opened = [];
});

// -- what is added to the page --

document.body.append(find("keys").content);
const help = find("help");
help.querySelector("button").addEventListener("click", () => help.close());
const tools = document.createElement("div");
tools.className = "tools";
tools.setAttribute("role", "search");
tools.setAttribute("aria-label", "Steps");
const told = document.createElement("span");
told.setAttribute("role", "status");
tools.append(find("filters").content, button("Show all", clear), button("Open all", () => setAll(true)), button("Close all", () => setAll(false)), button("Keys (?)", () => help.showModal()), told);
document.querySelector("#steps > h2")?.after(tools);
const search = find("search");
let waiting = 0;
search.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(filter, 120);
});
search.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  filter();
  go(hits?.[0]);
});
for (const choice of tools.querySelectorAll("select")) choice.addEventListener("change", filter);
find("steps").addEventListener("click", (event) => {
  const step = event.target.closest(".event");
  if (step && step !== current) choose(step);
});
if (location.hash) followHash();
