// One video job: its progress, then its player, and what can be done with it.

import { html, useEffect, useRef, useState } from "./html.js";
import { isUnderway } from "./jobs.js";
import { Failure } from "./widgets.js";

const STATES = { queued: "Waiting for its turn", in_progress: "Denoising", completed: "Done", failed: "Failed" };

export function Film({ job, queue }) {
  const [remixing, setRemixing] = useState(false);
  const [data] = job.data ?? [];
  const [width, height] = job.size.split("x");
  const underway = isUnderway(job);
  const card = useRef(null);
  useEffect(() => job.isNew && card.current.scrollIntoView({ block: "nearest" }), []);
  const renewed = useRef(false);
  // the URL of an answer expires: the first failure asks for a fresh one, a second one is the browser's to tell
  const renew = () => {
    if (!renewed.current) queue.refresh(job);
    renewed.current = true;
  };
  return html`
    <li class="card" data-state=${job.status} aria-busy=${underway} ref=${card}>
      ${data?.url && html`
        <video controls loop muted playsinline preload="metadata" poster=${data.thumbnail_url} width=${width}
          height=${height} src=${data.url} aria-label=${job.prompt} onError=${renew}></video>`}
      ${underway && html`<${Progress} job=${job} />`}
      <div class="caption">
        <p class="prompt">${job.prompt}</p>
        ${job.error && (job.error.code === "cancelled"
          ? html`<p class="facts">Cancelled.</p>` : html`<${Failure} error=${job.error} />`)}
        <p class="facts">${factsOf(job).join(" · ")}</p>
        <div class="row">
          ${underway
            ? html`<button type="button" class="quiet" onClick=${() => queue.cancel(job)}>Cancel</button>`
            : html`<button type="button" class="quiet" aria-expanded=${remixing}
                onClick=${() => setRemixing(!remixing)}>Remix</button>`}
          ${data?.url && html`<a class="quiet" href=${data.url} download=${`${job.id}.mp4`}>Download</a>`}
          <button type="button" class="quiet" onClick=${() => queue.remove(job)}>Delete</button>
        </div>
        ${remixing && html`<${Remix} job=${job} onGiven=${prompt => {
          setRemixing(false);
          queue.remix(job, prompt);
        }} />`}
      </div>
    </li>`;
}

const Progress = ({ job }) => html`
  <div class="developing film">
    <div class="noise"></div>
    <label>${STATES[job.status]}
      <progress max="100" value=${job.status === "queued" ? undefined : job.progress}></progress>
      ${job.status === "in_progress" && html`<span>${job.progress} %</span>`}
    </label>
  </div>`;

function Remix({ job, onGiven }) {
  const [prompt, setPrompt] = useState(job.prompt);
  const give = event => {
    event.preventDefault();
    onGiven(prompt);
  };
  return html`
    <form class="remix" onSubmit=${give}>
      <label class="unseen" for=${`remix-${job.id}`}>The same film with this prompt</label>
      <textarea id=${`remix-${job.id}`} rows="2" value=${prompt}
        onInput=${event => setPrompt(event.target.value)}></textarea>
      <button class="quiet" disabled=${!prompt.trim()}>Make it again with this prompt</button>
    </form>`;
}

function factsOf({ size, seconds, model, nvext, inference_time_s: took, remixed_from_video_id: remixed }) {
  return [size, `${Number(seconds).toFixed(1)} s`, nvext && `seed ${nvext.seed}`,
    nvext?.num_inference_steps && `${nvext.num_inference_steps} steps`, model,
    took && `made in ${took.toFixed(1)} s`, remixed && "a remix"].filter(Boolean);
}
