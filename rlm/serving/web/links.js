// Addresses of the pages: what stands behind the # of this one.

export function link(...parts) {
  const params = typeof parts.at(-1) === "object" ? parts.pop() : {};
  const known = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(known).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`;
}

export function place(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { parts: path.split("/").filter(Boolean).map(decoded), params: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray % in a hand-written address
  }
}

export const toNode = (index, node) => link("corpus", index, "node", node);
export const toText = (index, doc, start, end) => link("corpus", index, "text", { doc, start, end });
