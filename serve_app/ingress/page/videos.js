// The Video tab: a form that makes jobs, and the jobs of this caller, those of earlier visits among them.

import { withoutEmpty } from "./api.js";
import { html, useEffect, useState } from "./html.js";
import { Film } from "./film.js";
import { useJobs } from "./jobs.js";
import { PictureWell } from "./picture.js";
import { videoPython } from "./snippets.js";
import { fieldOf, shapesOf, sizesOf } from "./spec.js";
import { Failure, Field, Fold, Ideas, ModelChoice, NumberField, Segments, Snippets, useForm } from "./widgets.js";

const IDEAS = ["A curious raccoon exploring a garden", "A fox running to the right", "A balloon rising over the sea"];
const EMPTY = { prompt: "", negative_prompt: "", model: "", size: "", seconds: "", frames: "", fps: "", steps: "",
  guidance: "", seed: "" };

// `given` is a picture that another tab hands over to be animated: { picture, prompt }.
export function Videos({ models, spec, given }) {
  const { values, set, bind } = useForm(EMPTY);
  const [still, setStill] = useState(null);
  const queue = useJobs();
  const request = requestOf(values, still, models);
  const shapes = shapesOf(spec, "VideoRequest");
  const most = sizesOf(spec, "VideoRequest")?.most ?? 1280;

  useEffect(() => {
    if (!given) return;
    setStill(given.picture);
    set({ prompt: given.prompt });
    document.getElementById("video-prompt").focus();
  }, [given]);
  const submit = event => {
    event.preventDefault();
    if (values.prompt.trim()) queue.make(request);
  };

  return html`
    <div class="studio">
      <form class="desk" novalidate onSubmit=${submit}>
        <div class="field">
          <label for="video-prompt">${still ? "What should happen?" : "What should it show?"}</label>
          <textarea id="video-prompt" rows="3" placeholder=${IDEAS[0]} ...${bind("prompt")}
            onKeyDown=${event => event.key === "Enter" && (event.ctrlKey || event.metaKey) && submit(event)}></textarea>
        </div>
        ${!values.prompt && html`<${Ideas} ideas=${IDEAS} onPick=${prompt => set({ prompt })} />`}
        <${PictureWell} label="Begin with a picture" picture=${still} most=${most} onPicture=${setStill}>
          <img class="still" src=${still?.url} alt="The first picture of the film" />
          <button type="button" class="quiet" onClick=${() => setStill(null)}>Remove</button>
        <//>
        ${shapes.length > 0 && html`
          <${Segments} label="Shape" name="video-shape" value=${values.size} onPick=${size => set({ size })}
            options=${shapes.map(({ name, size }, i) => ({ value: i ? size : "", text: name, title: size }))} />`}
        <${ModelChoice} models=${models} kind="video" value=${values.model} onPick=${model => set({ model })} />
        <button class="main" disabled=${!values.prompt.trim()}>Make the film</button>
        <${Options} spec=${spec} bind=${bind} />
        <${Snippets} request=${request} python=${videoPython} />
      </form>
      <section aria-label="Films">
        <${Failure} error=${queue.error} />
        ${queue.jobs.length === 0 && html`<div class="empty"><h2>Your films appear here</h2>
          <p>Each is a job that goes on when you close this tab, and is here again when you come back.</p></div>`}
        <ul class="gallery">
          ${queue.jobs.map(job => html`<${Film} key=${job.id} job=${job} queue=${queue} />`)}
        </ul>
        ${queue.hasMore && html`<p class="more">
          <button type="button" class="quiet" onClick=${queue.showMore}>Show older films</button></p>`}
      </section>
    </div>`;
}

const Options = ({ spec, bind }) => html`
  <${Fold} title="More settings">
    <${Field} as="textarea" rows="2" label="What to avoid" hint="The negative prompt." ...${bind("negative_prompt")} />
    <div class="fields">
      <${NumberField} label="Seconds" spec=${spec} path="VideoRequest.seconds" empty="by frames"
        ...${bind("seconds")} />
      <${NumberField} label="Frames" spec=${spec} path="VideoRequest.nvext.num_frames" ...${bind("frames")} />
      <${NumberField} label="Frames a second" spec=${spec} path="VideoRequest.nvext.fps" ...${bind("fps")} />
      <${NumberField} label="Steps" spec=${spec} path="VideoRequest.nvext.num_inference_steps" ...${bind("steps")} />
      <${NumberField} label="Guidance" spec=${spec} path="VideoRequest.nvext.guidance_scale" step="0.1"
        ...${bind("guidance")} />
      <${NumberField} label="Seed" spec=${spec} path="VideoRequest.nvext.seed" empty="random" ...${bind("seed")} />
      <${Field} label="Size" placeholder=${fieldOf(spec, "VideoRequest.size").fallback}
        ...${bind("size")} />
    </div>
  <//>`;

function requestOf(values, still, models) {
  const number = name => (values[name] === "" ? "" : Number(values[name]));
  const fields = withoutEmpty({
    model: values.model || models.find(model => model.kind === "video")?.id,
    prompt: values.prompt.trim() || IDEAS[0],
    size: values.size,
    seconds: values.seconds,
    nvext: {
      negative_prompt: values.negative_prompt.trim(),
      num_frames: number("frames"),
      fps: number("fps"),
      num_inference_steps: number("steps"),
      guidance_scale: number("guidance"),
      seed: number("seed"),
    },
  });
  const files = still ? { input_reference: { blob: still.blob, filename: still.filename } } : {};
  // JSON with nvext would wait for the film; this asks for the job
  return { path: "v1/videos", fields, files, headers: { Prefer: "respond-async" } };
}
