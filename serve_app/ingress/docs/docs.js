// Shows /openapi.json and sends requests; the page for people is in ../page/.

// The page stands at <mount>/docs, so that the API is found wherever the app is mounted.
const base = location.pathname.replace(/\/docs\/?$/, "");
const main = document.querySelector("main");
let api;

function make(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children.filter(child => child !== null));
  return element;
}

const resolve = schema => schema && schema.$ref
  ? resolve(schema.$ref.slice(2).split("/").reduce((at, step) => at[step], api)) : schema;

// The schemas that a field may have, without null.
const members = schema => (schema.anyOf || [schema]).map(resolve).filter(one => one.type !== "null");

function typeOf(schema) {
  return members(schema).map(one => {
    if (one.const !== undefined) return JSON.stringify(one.const);
    if (one.enum) return one.enum.map(value => JSON.stringify(value)).join(" | ");
    if (one.type === "array") return `list of ${typeOf(one.items || {})}`;
    if (one.format === "binary") return "file";
    return one.type || "any";
  }).join(" | ");
}

function boundsOf(schema) {
  const of = one => {
    const from = one.minimum ?? one.exclusiveMinimum, to = one.maximum;
    const parts = [];
    if (from !== undefined && to !== undefined) parts.push(`${from} to ${to}`);
    else if (from !== undefined) parts.push(`at least ${from}`);
    else if (to !== undefined) parts.push(`at most ${to}`);
    if (one.maxLength !== undefined) parts.push(`at most ${one.maxLength} characters`);
    if (one.maxItems !== undefined) parts.push(`at most ${one.maxItems} items`);
    return parts;
  };
  const parts = members(schema).flatMap(of);
  const fallback = schema.default ?? null;
  if (fallback !== null) parts.push(`default ${JSON.stringify(fallback)}`);
  return parts.join("; ");
}

function rows(schema, prefix, seen) {
  const required = schema.required || [];
  return Object.entries(schema.properties || {}).flatMap(([name, field]) => {
    const description = field.description || members(field).map(one => one.description).find(Boolean) || "";
    const row = make("tr", {},
      make("td", {}, make("code", { className: required.includes(name) ? "must" : "" }, prefix + name)),
      make("td", {}, make("code", {}, typeOf(field))),
      make("td", {}, ...prose(description), " ", make("span", { className: "quiet" }, boundsOf(field))));
    const below = members(field)
      .map(one => one.type === "array" ? [resolve(one.items || {}), `${prefix}${name}[].`] : [one, `${prefix}${name}.`])
      .filter(([one]) => one.properties && !seen.includes(one));
    return [row, ...below.flatMap(([one, path]) => rows(one, path, [...seen, one]))];
  });
}

// Text with its `code` as code.
const prose = text => text.split("`").map((part, i) => i % 2 ? make("code", {}, part) : part);

const table = schema => make("table", {}, ...rows(schema, "", [schema]));

async function show(response, output) {
  const type = (response.headers.get("content-type") || "").split(";")[0];
  output.replaceChildren(make("p", { className: "quiet" }, `${response.status} ${response.statusText} ${type}`));
  if (type === "text/event-stream") return stream(response, output);
  if (type.startsWith("image/") || type.startsWith("video/")) {
    return output.append(picture(type, URL.createObjectURL(await response.blob())));
  }
  const text = await response.text();
  let data = null;
  try { data = JSON.parse(text); } catch { /* not JSON: shown as it came */ }
  output.append(make("pre", { tabIndex: 0 }, data ? JSON.stringify(data, null, 2) : text));
  for (const one of (data && Array.isArray(data.data) ? data.data : [])) await result(one, output);
}

async function result(one, output) {
  if (one.b64_json) {
    const kind = one.output_format === "mp4" ? "video/mp4" : "image/png";
    return output.append(picture(kind, `data:${kind};base64,${one.b64_json}`));
  }
  if (!one.url) return;
  output.append(make("p", {}, make("a", { href: one.url, target: "_blank", rel: "noreferrer" }, "open the result")));
  if (new URL(one.url, location).origin !== location.origin) return;
  const blob = await (await fetch(one.url)).blob();
  output.append(picture(blob.type, URL.createObjectURL(blob)));
}

const picture = (type, src) => type.startsWith("video/")
  ? make("video", { src, controls: true, loop: true, autoplay: true, muted: true }) : make("img", { src, alt: "result" });

async function stream(response, output) {
  const shown = output.appendChild(make("pre", { tabIndex: 0 }));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) shown.append(part.value);
}

function sender(path, method, operation, example) {
  const parameters = (operation.parameters || []).map(parameter => {
    const field = make("input", { placeholder: parameter.required ? "required" : "" });
    return { ...parameter, field };
  });
  const start = JSON.stringify(example, null, 2);
  const body = example ? make("textarea", { value: start, rows: 8, spellcheck: false }) : null;
  const output = make("div");
  const button = make("button", { type: "button" }, "Send");
  button.onclick = async () => {
    button.disabled = true;
    try {
      const given = parameters.filter(one => one.field.value !== "");
      const inPath = given.filter(one => one.in === "path")
        // a model's id and a media key hold slashes, which stand as they are
        .reduce((at, one) => at.replace(`{${one.name}}`, one.field.value.split("/").map(encodeURIComponent).join("/")), path);
      const query = new URLSearchParams(given.filter(one => one.in === "query").map(one => [one.name, one.field.value]));
      const headers = Object.fromEntries(given.filter(one => one.in === "header").map(one => [one.name, one.field.value]));
      const key = document.querySelector("#key").value;
      if (key) headers.Authorization = `Bearer ${key}`;
      if (body) headers["Content-Type"] = "application/json";
      const url = base + inPath + (query.size ? `?${query}` : "");
      await show(await fetch(url, { method: method.toUpperCase(), headers, body: body && body.value }), output);
    } catch (error) {
      output.replaceChildren(make("pre", { tabIndex: 0 }, String(error)));
    } finally {
      button.disabled = false;
    }
  };
  return make("div", {}, make("h3", {}, "Try it"),
    ...parameters.map(one => make("label", {}, one.name, one.field)), body, make("p", {}, button), output);
}

function describe(path, method, operation) {
  const content = operation.requestBody ? operation.requestBody.content : {};
  const schema = content["application/json"] ? resolve(content["application/json"].schema) : null;
  const parameters = { properties: {}, required: [] };
  for (const one of operation.parameters || []) {
    parameters.properties[one.name] = { description: one.description, ...one.schema };
    if (one.required) parameters.required.push(one.name);
  }
  const responses = Object.entries(operation.responses).map(([status, response]) => {
    const said = resolve(response);
    return make("tr", {}, make("td", {}, make("code", {}, status)), make("td", {}, said.description),
      make("td", { className: "quiet" }, Object.keys(said.content || {}).join(", ")));
  });
  const answer = resolve((((operation.responses["200"] || {}).content || {})["application/json"] || {}).schema);
  const inside = make("div", { className: "inside" });
  const details = make("details", { className: "operation", id: operation.operationId },
    make("summary", {}, make("span", { className: `method ${method}` }, method), make("span", { className: "path" }, path),
      make("span", { className: "summary" }, operation.summary)), inside);
  details.ontoggle = () => {
    if (inside.childElementCount) return;
    inside.append(...[
      Object.keys(parameters.properties).length ? make("h3", {}, "Parameters") : null,
      Object.keys(parameters.properties).length ? table(parameters) : null,
      schema ? make("h3", {}, `Body: ${Object.keys(content).join(" or ")}`) : null,
      schema ? table(schema) : null,
      make("h3", {}, "Answers"), make("table", {}, ...responses),
      answer && answer.properties ? make("details", {}, make("summary", {}, "The fields of a JSON answer"), table(answer)) : null,
      sender(path, method, operation, schema && content["application/json"].example),
    ].filter(Boolean));
  };
  return details;
}

async function start() {
  api = await (await fetch(`${base}/openapi.json`)).json();
  document.querySelector("#version").textContent = api.info.version;
  document.querySelector("#about").replaceChildren(...prose(api.info.description));
  document.querySelector("#key").hidden = !(api.components.securitySchemes);
  const tags = new Map();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags[0];
      if (!tags.has(tag)) tags.set(tag, []);
      tags.get(tag).push(describe(path, method, operation));
    }
  }
  for (const [tag, all] of tags) main.append(make("h2", {}, tag), ...all);
  const open = document.getElementById(location.hash.slice(1));
  if (open) open.open = true;
}
start().catch(error => { document.querySelector("#about").textContent = `openapi.json: ${error}`; });
