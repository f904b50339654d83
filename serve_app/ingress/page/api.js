// Speaks to the API: sends requests, reads server-sent events, and passes the API's errors on in its own words.
//
// A request is a plain object, so that it can be sent and be shown as curl or Python alike:
//   { method, path, fields, files, headers }
// `fields` go as JSON; where there are `files` ({ name: { blob, filename } }) all of it goes as multipart/form-data.

// The page's modules lie at <mount>/page/, so that the API is found wherever the app is mounted.
export const base = new URL("..", import.meta.url).href;

// Held by this module alone: it is gone when the tab is closed or loaded again.
let key = "";
let refused = () => {};

export const hasKey = () => key !== "";

export function setKey(given) {
  key = given.trim();
}

// `listener(error)` is called whenever the API asks for a key, or for another one.
export function onRefusedKey(listener) {
  refused = listener;
}

export class ApiError extends Error {
  constructor(status, { message, code = null, param = null }) {
    super(message);
    Object.assign(this, { status, code, param });
  }

  static async from(response) {
    const text = await response.text();
    try {
      return new ApiError(response.status, JSON.parse(text).error);
    } catch {
      return new ApiError(response.status, { message: text || response.statusText });
    }
  }
}

export async function send(request, signal) {
  const { method = "POST", path, fields, files = {} } = request;
  const headers = { ...request.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let body;
  if (Object.keys(files).length) {
    body = toForm(fields, files);
  } else if (fields) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(fields);
  }
  const response = await reach(path, { method, headers, body, signal });
  if (response.ok) return response;
  const error = await ApiError.from(response);
  if (error.status === 401) refused(error);
  throw error;
}

export const getJSON = async (path, signal) => (await send({ method: "GET", path }, signal)).json();

// The events of a response as they come: { name, data }. An event that is an error is thrown.
export async function* readEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const blocks = (rest + part.value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const { name, text } = parseEvent(block);
        if (!text || text === "[DONE]") continue;
        const data = JSON.parse(text);
        if (name === "error") throw new ApiError(0, data.error);
        yield { name, data };
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

// Names and values as a form has them: { nvext: { seed: 1 } } becomes nvext[seed]=1.
export function formFields(fields, prefix = "") {
  return Object.entries(fields).flatMap(([name, value]) => {
    const path = prefix ? `${prefix}[${name}]` : name;
    return value && typeof value === "object" ? formFields(value, path) : [[path, String(value)]];
  });
}

// `fields` without what was left empty, and without objects that hold nothing then.
export function withoutEmpty(fields) {
  const kept = Object.entries(fields)
    .map(([name, value]) => [name, isPlainObject(value) ? withoutEmpty(value) : value])
    .filter(([, value]) => value !== "" && value !== null && value !== undefined && !isEmptyObject(value));
  return Object.fromEntries(kept);
}

export const isAbort = error => error.name === "AbortError";

const isPlainObject = value => value !== null && typeof value === "object" && !Array.isArray(value);
const isEmptyObject = value => isPlainObject(value) && Object.keys(value).length === 0;

async function reach(path, options) {
  try {
    return await fetch(new URL(path, base), options);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(0, { message: `The server cannot be reached (${error.message}).` });
  }
}

function toForm(fields, files) {
  const form = new FormData();
  for (const [name, value] of formFields(fields)) form.append(name, value);
  for (const [name, { blob, filename }] of Object.entries(files)) form.append(name, blob, filename);
  return form;
}

function parseEvent(block) {
  let name = "message";
  const lines = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) lines.push(line.slice(5).trimStart());
  }
  return { name, text: lines.join("\n") };
}
