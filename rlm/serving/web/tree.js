// The upper levels of a tree as a map, a row a level, that lights up where a run goes.

import { get, path } from "/api.js";
import { count, fold, h, oneLine, svg } from "/dom.js";
import { toNode } from "/links.js";
import { nodesOf } from "/run.js";

const ROW = 46;
const GAP = 2;
const CHAR = 6.6; // width of a letter of the map
const MOST_TICKS = 80; // below one branch
const MOST_LISTED = 200;
const ASKED = 100; // nodes whose way from the root is asked for at once
const RANK = { seen: 1, entered: 2, cited: 3 };

// The boxes of a tree, each before those below it: {node, label, level, parent, depth, left, width, more}. A branch has
// its width by the passages in it, yet a small one is not lost.
export function boxesOf(tree, width, left = 0, depth = 0, parent = null) {
  const box = { node: tree.node, label: tree.label, level: tree.level, leaves: tree.leaves, parent, depth, left, width, more: 0 };
  const weights = tree.children.map((child) => Math.sqrt(child.leaves) + 0.6);
  const rest = tree.more ? 1 : 0;
  const total = weights.reduce((sum, one) => sum + one, rest);
  const boxes = [box];
  let at = left;
  tree.children.forEach((child, i) => {
    const share = (width * weights[i]) / total;
    boxes.push(...boxesOf(child, share, at, depth + 1, tree.node));
    at += share;
  });
  if (rest) boxes.push({ ...box, node: null, label: `${tree.more} more`, parent: tree.node, depth: depth + 1, left: at, width: width / total, more: tree.more });
  return boxes;
}

// A label in at most two lines of so many letters.
export function wrapped(label, letters) {
  if (letters < 3) return [];
  const words = oneLine(label, letters * 2).split(" ");
  const lines = [""];
  for (const word of words) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (longer.length <= letters || !lines.at(-1)) lines[lines.length - 1] = longer;
    else if (lines.length < 2) lines.push(word);
    else lines[1] = `${lines[1]} ${word}`;
  }
  return lines.map((line) => oneLine(line, letters));
}

export function treeView(index) {
  const standing = new Map(); // of a node: seen, entered or cited
  const labels = new Map();
  const lit = new Set(); // what has come to stand otherwise since the last drawing
  const ways = new Map(); // of a node: those from the root down to it
  const order = [];
  const picture = h("div", { class: "map" });
  const list = h("ol", { class: "order" });
  const listed = h("details", { class: "sent" }, h("summary", null, "Branches entered, in order"), list);
  const legend = h("ul", { class: "legend" });
  const element = h("figure", { class: "route" }, h("figcaption", null, "Tree"), legend, picture, listed);
  let tree = null;
  let drawn = new Map();
  let asked = new Set();
  let isDue = false;
  let width = 0;

  const note = (node, name) => {
    if ((RANK[standing.get(node.node)] ?? 0) >= RANK[name]) return;
    if (name !== "seen" && !RANK_ENTERED(standing.get(node.node))) order.push(node.node);
    standing.set(node.node, name);
    lit.add(node.node);
  };

  const load = async () => {
    tree = await get(path("indexes", index, "tree"));
    due();
  };

  function due() {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      draw();
    });
  }

  // Where nodes lie that the picture does not show, so that the branches above them light up.
  let isAsking = false;
  async function locate() {
    if (isAsking || !tree) return;
    const unknown = [...standing.keys()].filter((node) => !drawn.has(node) && !asked.has(node)).slice(0, ASKED);
    if (!unknown.length) return;
    isAsking = true;
    for (const node of unknown) asked.add(node);
    try {
      const { paths } = await get(path("indexes", index, "paths", { node: unknown }));
      for (const [node, steps] of Object.entries(paths)) {
        ways.set(node, steps.map((step) => step.node));
        for (const step of steps) if (!labels.has(step.node)) labels.set(step.node, step.label);
      }
    } catch (error) {
      if (!error.status) throw error; // a node that is no more has no place in the picture
    } finally {
      isAsking = false;
    }
    due();
  }

  function draw() {
    if (!tree) return;
    width = Math.max(picture.clientWidth, 240);
    const boxes = boxesOf(tree, width);
    drawn = new Map(boxes.filter((box) => box.node).map((box) => [box.node, box]));
    const above = new Map();
    const under = new Map(); // of a drawn branch: nodes of its that are not drawn
    for (const [node, name] of standing) {
      const way = drawn.has(node) ? wayUp(node) : (ways.get(node) ?? []).filter((step) => drawn.has(step));
      const home = drawn.has(node) ? null : way.at(-1);
      if (home) under.set(home, [...(under.get(home) ?? []), [node, name]]);
      if (name !== "seen") for (const step of way) if (step !== node) above.set(step, true);
    }
    const depth = Math.max(...boxes.map((box) => box.depth)) + 1;
    const ticks = [...under].flatMap(([home, nodes]) => ticksOf(drawn.get(home), nodes, depth * ROW));
    const high = depth * ROW + (ticks.length ? 40 : 0);
    const entered = [...standing.values()].filter((name) => name !== "seen").length;
    picture.replaceChildren(
      svg(
        "svg",
        { viewBox: `0 0 ${width} ${high}`, width, height: high, role: "group", "aria-label": `Map of the tree, a row a level: ${count(entered, "place")} entered so far` },
        boxes.map((box) => boxOf(box, box.node && (standing.get(box.node) ?? (above.has(box.node) ? "way" : "")))),
        ticks,
      ),
    );
    lit.clear();
    showLegend();
    showList();
    locate();
  }

  function wayUp(node) {
    const way = [];
    for (let box = drawn.get(node); box; box = drawn.get(box.parent)) way.unshift(box.node);
    return way;
  }

  function boxOf(box, name) {
    const top = box.depth * ROW;
    const lines = wrapped(box.label || box.node, Math.floor((box.width - 14) / CHAR));
    const shape = svg("rect", { x: (box.left + GAP / 2).toFixed(1), y: top, width: Math.max(box.width - GAP, 0.5).toFixed(1), height: ROW - GAP, rx: 4 });
    const words = lines.map((line, i) => svg("text", { x: (box.left + 8).toFixed(1), y: top + (lines.length > 1 ? 19 + 16 * i : 27) }, line));
    const inner = [svg("title", null, box.more ? `${box.more} more` : `${box.label} (${count(box.leaves, "passage")})`), shape, words];
    return box.node ? svg("a", { href: toNode(index, box.node), class: classOf(box.node, name || "idle"), tabindex: -1 }, inner) : svg("g", { class: "passed" }, inner);
  }

  const classOf = (node, name) => (lit.has(node) ? `${name} lit` : name);

  function ticksOf(home, nodes, top) {
    const first = [...nodes].sort((a, b) => RANK[b[1]] - RANK[a[1]]).slice(0, MOST_TICKS).sort();
    const across = Math.max(1, Math.floor((home.width - 8) / 11));
    const left = home.left + (home.width - 11 * Math.min(across, first.length)) / 2 + 5.5;
    return first.slice(0, across * 3).map(([node, name], i) =>
      svg(
        "a",
        { href: toNode(index, node), class: `tick ${classOf(node, name)}`, tabindex: -1 },
        svg("title", null, labels.get(node) || node),
        svg("circle", { cx: (left + 11 * (i % across)).toFixed(1), cy: top + 7 + 11 * Math.floor(i / across), r: 3.6 }),
      ),
    );
  }

  function showLegend() {
    const many = { cited: 0, entered: 0, seen: 0 };
    for (const name of standing.values()) many[name]++;
    const words = { cited: "cited", entered: "entered", seen: "shown, not entered" };
    legend.replaceChildren(...Object.entries(many).map(([name, number]) => h("li", { class: name }, h("i", { class: "dot" }), `${number} ${words[name]}`)));
  }

  function showList() {
    listed.hidden = !order.length;
    const rows = order.slice(list.children.length, MOST_LISTED).map((node) => h("li", null, h("span", { class: "level" }, node.split("-")[0]), h("a", { href: toNode(index, node), "data-node": node }, node)));
    list.append(...rows);
    for (const row of list.querySelectorAll("a[data-node]")) {
      const label = labels.get(row.dataset.node) ?? drawn.get(row.dataset.node)?.label;
      if (label && row.textContent === row.dataset.node) row.replaceChildren(oneLine(label, 90));
    }
  }

  new ResizeObserver(() => {
    if (Math.abs(picture.clientWidth - width) > 2) due();
  }).observe(picture);

  return {
    element,
    load,
    add(event) {
      const { entered, seen, cited } = nodesOf(event);
      if (!entered.length && !seen.length && !cited.length) return;
      for (const one of [...entered, ...seen, ...cited]) if (one.label) labels.set(one.node, one.label);
      for (const one of seen) note(one, "seen");
      for (const one of entered) note(one, "entered");
      for (const one of cited) note(one, "cited");
      due();
    },
  };
}

const RANK_ENTERED = (name) => (RANK[name] ?? 0) >= RANK.entered;
