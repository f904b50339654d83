// The Images tab: a prompt becomes pictures, with previews on the way; a picture can be changed where a mask says so.

import { isAbort, readEvents, send, withoutEmpty } from "./api.js";
import { Gallery } from "./gallery.js";
import { html, useState } from "./html.js";
import { MaskPainter, maskOf } from "./mask.js";
import { PictureWell, decodePicture } from "./picture.js";
import { imagePython } from "./snippets.js";
import { fieldOf, shapesOf, sizesOf } from "./spec.js";
import { Choice, Field, Fold, Ideas, ModelChoice, NumberField, Segments, Snippets, useForm } from "./widgets.js";

const IDEAS = ["A sunset over the ocean", "A red fox", "A slice of pizza"];
const COUNTS = [1, 2, 4];
const EMPTY = { prompt: "", negative_prompt: "", model: "", size: "", n: 1, steps: "", guidance: "", seed: "",
  strength: "", quality: "", format: "" };
let made = 0;

export function Images({ models, spec, onAnimate }) {
  const { values, set, bind } = useForm(EMPTY);
  const [source, setSource] = useState(null);
  const [strokes, setStrokes] = useState([]);
  const [items, setItems] = useState([]);
  const request = requestOf(values, source, strokes, models);
  const most = sizesOf(spec, "GenerationRequest")?.most ?? 2048;

  const startFrom = picture => {
    setSource(picture);
    setStrokes([]);
  };
  const edit = picture => {
    startFrom(picture);
    const prompt = document.getElementById("image-prompt");
    prompt.focus();
    prompt.select();
  };
  const repeat = ({ request: { fields }, source: from, strokes: painted }, { seed }) => {
    const { num_inference_steps: steps = "", guidance_scale: guidance = "", negative_prompt = "", strength = "" } =
      fields.nvext ?? {};
    const { prompt, model, size = "", quality = "", output_format: format = "" } = fields;
    set({ prompt, model, size, quality, format, negative_prompt, steps, guidance, strength, seed, n: 1 });
    setSource(from);
    setStrokes(painted);
    document.getElementById("image-prompt").focus();
  };
  const submit = async event => {
    event.preventDefault();
    if (!values.prompt.trim()) return;
    const item = { id: ++made, state: "running", request, source, strokes, pictures: [], stop: new AbortController() };
    setItems(now => [item, ...now]);
    const update = changes => setItems(now =>
      now.map(one => (one.id === item.id ? { ...one, ...changes(one) } : one)));
    try {
      if (request.files?.mask) request.files.mask.blob = await maskOf(source, strokes);
      await generate(request, item.stop.signal, update);
      update(() => ({ state: "done" }));
    } catch (error) {
      update(() => (isAbort(error) ? { state: "stopped" } : { state: "failed", error }));
    }
  };

  return html`
    <div class="studio">
      <form class="desk" novalidate onSubmit=${submit}>
        <div class="field">
          <label for="image-prompt">${source ? "What should it become?" : "What should it show?"}</label>
          <textarea id="image-prompt" rows="3" placeholder=${IDEAS[0]} ...${bind("prompt")}
            onKeyDown=${event => event.key === "Enter" && (event.ctrlKey || event.metaKey) && submit(event)}></textarea>
        </div>
        ${!values.prompt && html`<${Ideas} ideas=${IDEAS} onPick=${prompt => set({ prompt })} />`}
        <${PictureWell} label="Start from a picture" picture=${source} most=${most} onPicture=${startFrom}>
          <${MaskPainter} key=${source?.url} picture=${source} strokes=${strokes} onStrokes=${setStrokes}
            onRemove=${() => startFrom(null)} />
        <//>
        ${!source && html`<${ShapeChoice} spec=${spec} value=${values.size} onPick=${size => set({ size })} />`}
        <${Segments} label="How many" name="image-count" value=${values.n} onPick=${n => set({ n })}
          options=${counts(spec)} />
        <${ModelChoice} models=${models} kind="image" value=${values.model} onPick=${model => set({ model })} />
        <button class="main" disabled=${!values.prompt.trim()}>
          ${source ? "Change the picture" : "Make the picture"}</button>
        <${Options} spec=${spec} bind=${bind} source=${source} />
        <${Snippets} request=${request} python=${imagePython} />
      </form>
      <${Gallery} items=${items} onRepeat=${repeat} onEdit=${edit} onAnimate=${onAnimate}
        onRemove=${id => setItems(now => now.filter(item => item.id !== id))} />
    </div>`;
}

function ShapeChoice({ spec, value, onPick }) {
  const shapes = shapesOf(spec, "GenerationRequest");
  if (shapes.length === 0) return null;
  const options = shapes.map(({ name, size }, i) => ({ value: i ? size : "", text: name, title: size }));
  return html`<${Segments} label="Shape" name="image-shape" options=${options} value=${value} onPick=${onPick} />`;
}

const Options = ({ spec, bind, source }) => html`
  <${Fold} title="More settings">
    <${Field} as="textarea" rows="2" label="What to avoid" hint="The negative prompt." ...${bind("negative_prompt")} />
    <div class="fields">
      <${NumberField} label="Steps" spec=${spec} path="GenerationRequest.nvext.num_inference_steps"
        ...${bind("steps")} />
      <${NumberField} label="Guidance" spec=${spec} path="GenerationRequest.nvext.guidance_scale" step="0.1"
        ...${bind("guidance")} />
      ${source && html`<${NumberField} label="Strength of the change" spec=${spec}
        path="GenerationRequest.nvext.strength" step="0.05" ...${bind("strength")} />`}
      <${NumberField} label="Seed" spec=${spec} path="GenerationRequest.nvext.seed" empty="random" ...${bind("seed")} />
      <${Field} label="Size" placeholder=${fieldOf(spec, "GenerationRequest.size").fallback}
        ...${bind("size")} />
      <${Choice} label="Quality" ...${bind("quality")} options=${choices(spec, "quality", "model's default")} />
      <${Choice} label="Format" ...${bind("format")}
        options=${choices(spec, "output_format", fieldOf(spec, "GenerationRequest.output_format").fallback ?? "png")} />
    </div>
  <//>`;

function counts(spec) {
  const most = fieldOf(spec, "GenerationRequest.n").maximum ?? 10;
  return COUNTS.filter(n => n <= most).map(n => ({ value: n, text: n }));
}

function choices(spec, name, unset) {
  const known = (fieldOf(spec, `GenerationRequest.${name}`).choices ?? []).filter(value => value !== unset);
  return [{ value: "", text: unset }, ...known.map(value => ({ value, text: value }))];
}

// Sends one request; each preview and each finished picture becomes a change of its item.
async function generate(request, signal, update) {
  const response = await send(request, signal);
  const previews = [];
  for await (const { data } of readEvents(response)) {
    if (previews.length) URL.revokeObjectURL(previews.at(-1).url);
    if (data.type.endsWith(".partial_image")) {
      const preview = await decodePicture(data.b64_json, data.output_format, data.size);
      previews.push(preview);
      update(() => ({ preview, previews: previews.length }));
    } else if (data.type.endsWith(".completed")) {
      const picture = await decodePicture(data.b64_json, data.output_format, data.size);
      const { seeds: [seed], ...facts } = data.nvext;
      const finished = { ...picture, ...facts, seed, size: data.size, quality: data.quality };
      update(item => ({ pictures: [...item.pictures, finished] }));
    }
  }
}

function requestOf(values, source, strokes, models) {
  const number = name => (values[name] === "" ? "" : Number(values[name]));
  const fields = withoutEmpty({
    model: values.model || models.find(model => model.kind === "image")?.id,
    prompt: values.prompt.trim() || IDEAS[0],
    n: values.n === 1 ? "" : values.n,
    size: source ? "" : values.size,
    quality: values.quality,
    output_format: values.format,
    stream: true,
    partial_images: 3,
    nvext: {
      negative_prompt: values.negative_prompt.trim(),
      num_inference_steps: number("steps"),
      guidance_scale: number("guidance"),
      strength: source ? number("strength") : "",
      seed: number("seed"),
    },
  });
  if (!source) return { path: "v1/images/generations", fields };
  const files = { image: { blob: source.blob, filename: source.filename } };
  if (strokes.length) files.mask = { filename: "mask.png" };
  return { path: "v1/images/edits", fields, files };
}
