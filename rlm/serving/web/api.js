// All that is asked of the server. A key is kept in this tab alone, and sent as a header: no cookie is ever set.

const KEY = "raptor-rlm-key";
const RETRY_S = [0.5, 1, 2, 4, 8, 15];
let keyAsked = null; // how to ask for a key; gives a promise of whether there is one now

export class Problem extends Error {
  constructor(status, detail, code) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

export const key = () => sessionStorage.getItem(KEY);
export const useKey = (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY));
export const onLackingKey = (ask) => (keyAsked = ask);

export function path(...parts) {
  const params = typeof parts.at(-1) === "object" ? parts.pop() : {};
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") query.append(name, one);
  }
  const text = query.toString();
  return `/api/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

const headers = (more) => ({ ...(key() ? { Authorization: `Bearer ${key()}` } : {}), ...more });

async function problemOf(response) {
  try {
    const told = await response.json();
    return new Problem(response.status, told.detail ?? told.title ?? "the server refused that", told.code);
  } catch {
    return new Problem(response.status, `the server answered ${response.status}`);
  }
}

async function send(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { ...options, headers: headers(options.headers), credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  if (response.status === 401 && (await keyAsked(Boolean(key())))) return send(address, options);
  throw await problemOf(response);
}

export const get = async (address, signal) => (await send(address, { signal })).json();
export const remove = async (address) => (await send(address, { method: "DELETE" })).json();
export const post = async (address, body = {}) =>
  (await send(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();

// Files, with a word on how many bytes have gone: what fetch cannot tell.
export function upload(address, files, access, told) {
  const form = new FormData();
  if (access) form.append("access", access);
  for (const file of files) form.append("files", file, file.name);
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.onprogress = (event) => told(event.loaded, event.total);
    request.onerror = () => failed(new Problem(0, "The server cannot be reached. Is it still running?"));
    request.onload = async () => {
      if (request.status < 300) done(request.response);
      else if (request.status === 401 && (await keyAsked(Boolean(key())))) upload(address, files, access, told).then(done, failed);
      else failed(new Problem(request.status, request.response?.detail ?? `the server answered ${request.status}`));
    };
    request.send(form);
  });
}

// Server-sent events as they stand on the wire; gives those that a piece of text completes.
export function reader() {
  let left = "";
  return (text) => {
    const parts = (left + text).split("\n\n");
    left = parts.pop();
    return parts.map(eventOf).filter((event) => event.data !== null);
  };
}

function eventOf(part) {
  const event = { id: null, data: null };
  for (const line of part.split("\n")) {
    if (line.startsWith("id: ")) event.id = line.slice(4);
    if (line.startsWith("data: ")) event.data = (event.data === null ? "" : `${event.data}\n`) + line.slice(6);
  }
  return event;
}

// The events of a job or a run to the last; where the connection breaks, from the one after the last that came.
export async function* follow(address, signal) {
  let last = null;
  for (let tries = 0; tries <= RETRY_S.length; tries++) {
    try {
      const response = await send(address, { signal, headers: last === null ? {} : { "Last-Event-ID": last } });
      if (response.status === 204) return;
      const read = reader();
      for await (const text of pieces(response.body)) {
        for (const event of read(text)) {
          tries = 0;
          last = event.id ?? last;
          yield JSON.parse(event.data);
          if (event.id === "end") return;
        }
      }
    } catch (error) {
      if (error.name === "AbortError" || error.status) throw error; // a refusal is no broken connection
    }
    await new Promise((wake) => setTimeout(wake, 1000 * (RETRY_S[tries] ?? 15)));
  }
  throw new Problem(0, "The server cannot be reached. Is it still running?");
}

// A stream of bytes as pieces of text, also in browsers whose streams cannot be iterated.
async function* pieces(body) {
  const from = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let part = await from.read(); !part.done; part = await from.read()) yield part.value;
  } finally {
    from.cancel().catch(() => {}); // it has ended, or broken, already
  }
}
