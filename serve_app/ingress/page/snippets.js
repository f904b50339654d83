// A request as the text of a curl command and of a Python script for the openai client; see api.js for its shape.

import { base, formFields, hasKey } from "./api.js";

export function curl(request) {
  const lines = [`curl ${request.fields.stream ? "-N " : ""}${shell(base + request.path)}`];
  if (hasKey()) lines.push('-H "Authorization: Bearer $OPENAI_API_KEY"');
  for (const [name, value] of Object.entries(request.headers ?? {})) lines.push(`-H ${shell(`${name}: ${value}`)}`);
  const files = Object.entries(request.files ?? {});
  if (files.length) {
    lines.push(...formFields(request.fields).map(([name, value]) => `--form-string ${shell(`${name}=${value}`)}`));
    lines.push(...files.map(([name, { filename }]) => `-F ${shell(`${name}=@${filename}`)}`));
  } else {
    lines.push('-H "Content-Type: application/json"');
    lines.push(`-d ${shell(JSON.stringify(request.fields, null, 2))}`);
  }
  return lines.join(" \\\n  ");
}

export function chatPython(request) {
  return `${client()}
stream = client.chat.completions.create(${arguments_(request)})
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
`;
}

export function imagePython(request) {
  const call = request.path.endsWith("edits") ? "edit" : "generate";
  const format = request.fields.output_format ?? "png";
  return `import base64

${client()}
stream = client.images.${call}(${arguments_(request)})
for event in stream:
    if event.type.endswith(".completed"):
        with open("picture.${format}", "wb") as file:
            file.write(base64.b64decode(event.b64_json))
`;
}

export function videoPython(request) {
  return `${client()}
video = client.videos.create_and_poll(${arguments_(request)})
client.videos.download_content(video.id).write_to_file("film.mp4")
`;
}

// Without api_key the client reads OPENAI_API_KEY; a server without keys takes any.
const client = () => `from openai import OpenAI

client = OpenAI(base_url=${python(`${base}v1`)}${hasKey() ? "" : ', api_key="unused"'})
`;

function arguments_({ fields, files = {} }) {
  const { nvext, ...own } = fields;
  const lines = Object.entries(own).map(([name, value]) => `${name}=${python(value)}`);
  lines.push(...Object.entries(files).map(([name, { filename }]) => `${name}=open(${python(filename)}, "rb")`));
  if (nvext) lines.push(`extra_body={"nvext": ${python(nvext)}}`);
  return `\n${lines.map(line => `    ${line},\n`).join("")}`;
}

function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, inner]) => `${python(name)}: ${python(inner)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

const shell = text => (/^[\w:/.@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
