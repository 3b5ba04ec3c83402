// An index made or updated from files that are sent, with how far it is.

import { follow, get, path, remove, upload } from "/api.js";
import { count, field, fold, h, oneLine, pre, say, trouble } from "/dom.js";
import { link } from "/links.js";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

let page = null; // made once: a build goes on while its reader looks at other pages

export async function buildPage({ indexes, params }) {
  page ??= make();
  page.offer(indexes, params.get("index"));
  return { title: "Build", element: page.element };
}

function make() {
  const known = h("datalist", { id: "build-known" });
  const name = h("input", { type: "text", list: "build-known", required: true, autocomplete: "off", spellcheck: "false", maxlength: 64 });
  const files = h("input", { type: "file", multiple: true, required: true });
  const chosen = h("ul", { class: "files" });
  const access = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const submit = h("button", { class: "first" }, "Send and build");
  const live = h("div", { class: "live" });
  const drop = h("div", { class: "drop" }, field("Files", files, "Text, Markdown, HTML, PDF and what else raptor reads; several at once, or dropped here."), chosen);
  const form = h("form", { class: "card" }, field("Index", name, "A new name makes a new index; one that is there takes the files in, over those of the same name."), known, drop, field("Who may read them", access, "Labels, with commas, such as hr, legal. Without any, new files are open to all who may ask this index; a file that is there already keeps its labels."), h("p", { class: "row" }, submit));
  const element = h("section", { class: "page" }, h("h1", null, "Build"), form, live);

  const list = () => chosen.replaceChildren(...Array.from(files.files).slice(0, 50).map((file) => h("li", null, `${oneLine(file.name, 80)}, ${size(file.size)}`)), ...(files.files.length > 50 ? [h("li", null, `and ${files.files.length - 50} more`)] : []));
  files.addEventListener("change", list);
  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    files.files = event.dataTransfer.files;
    list();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!NAME.test(name.value)) {
      live.replaceChildren(trouble(new Error("An index is called by letters, digits, dots, dashes and underscores, at most 64, and begins with a letter or a digit.")));
      return name.focus();
    }
    submit.disabled = true;
    const building = buildView(name.value);
    live.replaceChildren(building.element);
    await building.go(Array.from(files.files), access.value.trim());
    submit.disabled = false;
    form.reset();
    list();
    name.value = building.index;
  });

  return {
    element,
    offer(indexes, wanted) {
      known.replaceChildren(...indexes.filter((one) => one.may_write).map((one) => h("option", { value: one.name })));
      if (wanted) name.value = wanted;
    },
  };
}

function buildView(index) {
  const bar = h("progress", { max: 1, "aria-label": "How far it is" });
  const state = h("p", { role: "status" }, "Sending…");
  const stages = h("ol", { class: "stages" });
  const cancel = h("button", { type: "button", hidden: true }, "Cancel");
  const element = h("section", { class: "card building", "aria-label": "The build" }, h("h2", null, index), bar, h("div", { class: "row" }, state, cancel), stages);

  function end(...parts) {
    bar.remove();
    cancel.remove();
    state.replaceChildren();
    element.append(...parts);
  }

  async function go(files, access) {
    try {
      const { job } = await upload(path("indexes", index, "documents"), files, access, (sent, all) => {
        bar.value = all ? sent / all / 4 : 0;
        state.textContent = `Sending: ${size(sent)} of ${size(all)}`;
      });
      state.textContent = "Building…";
      cancel.hidden = false;
      cancel.onclick = () => {
        cancel.disabled = true;
        remove(path("jobs", job));
      };
      for await (const event of follow(path("jobs", job, "events"))) await told(event, job);
    } catch (error) {
      end(trouble(error));
    }
  }

  async function told(event, job) {
    if (event.kind === "build_progress") {
      stages.append(h("li", null, `${oneLine(event.stage, 60)}: ${event.done.toLocaleString("en")}`));
      const { done, of } = await get(path("jobs", job));
      bar.value = 0.25 + 0.75 * (of ? Math.min(done / of, 1) : 0);
      state.textContent = `Building: ${event.stage}`;
      say(state.textContent);
    } else if (event.kind === "waiting") state.textContent = event.ahead ? `Waiting, ${event.ahead} before it` : "Waiting for its turn…";
    else if (event.kind === "result") await built(event.report);
    else if (event.kind === "failed") end(trouble(new Error(event.error ?? "The build failed.")));
    else if (event.kind === "cancelled") end(h("p", { class: "seal warn" }, h("strong", null, "Cancelled."), " The index is as it was."));
  }

  async function built(report) {
    const now = await get(path("indexes", index));
    const refused = report.refused.map((one) => h("li", null, h("strong", null, oneLine(one.file, 120)), `: ${oneLine(one.reason, 400)}`));
    const left = refused.length ? h("div", { class: "trouble" }, h("p", null, `Not taken: ${count(refused.length, "file")}`), h("ul", null, refused)) : null;
    const links = h("p", { class: "row" }, h("a", { href: link("ask", { index }) }, "Ask it"), h("a", { href: link("corpus", index) }, "See its tree"));
    end(h("p", { class: "seal good" }, h("strong", null, "Built: "), `${count(now.documents, "document")}, ${count(now.chunks, "passage")}, ${count(now.levels, "level")}; generation ${now.generation}`), left, links, fold("What raptor reports", pre(JSON.stringify(report, null, 1))));
    say(`The index ${index} is built.${refused.length ? ` Not taken: ${count(refused.length, "file")}.` : ""}`, true);
  }

  return { element, go, index };
}
