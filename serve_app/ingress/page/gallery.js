// The pictures of this visit, the newest first, each with what made it and what can be made of it.

import { html, useEffect, useRef, useState } from "./html.js";
import { Failure } from "./widgets.js";

export function Gallery({ items, onRepeat, onEdit, onAnimate, onRemove }) {
  if (items.length === 0) {
    return html`<div class="empty"><h2>Your pictures appear here</h2>
      <p>They begin as noise, and are kept until you close this tab.</p></div>`;
  }
  return html`
    <ul class="gallery" aria-label="Pictures">
      ${items.flatMap(item => item.pictures.length
        ? item.pictures.map((picture, i) => html`
          <${Picture} key=${`${item.id}-${i}`} item=${item} picture=${picture} onRepeat=${() => onRepeat(item, picture)}
            onEdit=${() => onEdit(picture)}
            onAnimate=${onAnimate && (() => onAnimate(picture, item.request.fields.prompt))} />`)
        : [html`<${Underway} key=${item.id} item=${item} onRemove=${() => onRemove(item.id)} />`])}
    </ul>`;
}

function Picture({ item, picture, onRepeat, onEdit, onAnimate }) {
  const { prompt, model } = item.request.fields;
  const facts = [picture.size, `seed ${picture.seed}`, `${picture.num_inference_steps} steps`,
    `guidance ${picture.guidance_scale}`, picture.quality !== "auto" && `${picture.quality} quality`, model,
    `made in ${picture.inference_time_s.toFixed(1)} s`];
  return html`
    <li class="card" data-state="done">
      <img src=${picture.url} alt=${prompt} width=${picture.width} height=${picture.height} />
      <div class="caption">
        <p class="prompt">${prompt}</p>
        <p class="facts">${facts.filter(Boolean).join(" · ")}</p>
        <div class="row">
          <button type="button" class="quiet" onClick=${onRepeat}>Again with this seed</button>
          <button type="button" class="quiet" onClick=${onEdit}>Edit</button>
          ${onAnimate && html`<button type="button" class="quiet" onClick=${onAnimate}>Animate</button>`}
          <a class="quiet" href=${picture.url} download=${picture.filename}>Download</a>
        </div>
      </div>
    </li>`;
}

// A request that has no picture yet: its latest preview, or noise; or why there is none.
function Underway({ item, onRemove }) {
  const { state, preview, previews = 0, error, stop, request } = item;
  const running = state === "running";
  const card = useRef(null);
  useEffect(() => card.current.scrollIntoView({ block: "nearest" }), []);
  return html`
    <li class="card" data-state=${state} aria-busy=${running} ref=${card}>
      ${running && html`
        <div class="developing">
          ${preview ? html`<img src=${preview.url} alt=${`Preview ${previews}`} />` : html`<div class="noise"></div>`}
        </div>`}
      <div class="caption">
        <p class="prompt">${request.fields.prompt}</p>
        <${Failure} error=${error} />
        <p class="row facts">
          ${running ? html`<${Seconds} /> <span>${previews ? `preview ${previews}` : "on its way"}</span>` : null}
          ${state === "stopped" && html`<span>Stopped.</span>`}
          <span class="grow"></span>
          ${running
            ? html`<button type="button" class="quiet" onClick=${() => stop.abort()}>Stop</button>`
            : html`<button type="button" class="quiet" onClick=${onRemove}>Remove</button>`}
        </p>
      </div>
    </li>`;
}

function Seconds() {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setSeconds(now => now + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  return html`<span>${seconds} s</span>`;
}
