// The canvas of a diffusion language model: a block of text on its way from masks to words.
//
// A step, as the API's `denoising` event tells it: { block, step, masked, text }; a masked place is shown as MASK, and
// step 0 is the block before its first step.

import { html, useState } from "./html.js";

const MASK = "\u2591";

// One step: what came before, and the block with its masks, what was guessed just now, and what had settled.
export function Canvas({ steps, at }) {
  const now = steps[at];
  const previous = steps[at - 1]?.block === now.block ? steps[at - 1].text : "";
  return html`
    <div class="canvas">
      <span>${settledBefore(steps, at)}</span>
      ${compare(previous, now.text).map(([kind, text]) => html`<span class=${kind}>${text}</span>`)}
    </div>`;
}

// All steps of an answer, with a slider to go through them.
export function Scrubber({ steps }) {
  const [at, setAt] = useState(steps.length - 1);
  const { block, step, masked } = steps[at];
  const said = `Block ${block + 1}, ${step ? `step ${step}` : "start"}: ${masked} masked`;
  return html`
    <div class="scrubber">
      <${Canvas} steps=${steps} at=${at} />
      <label>
        <span class="unseen">Denoising step</span>
        <input type="range" min="0" max=${steps.length - 1} value=${at} aria-valuetext=${said}
          onInput=${event => setAt(Number(event.target.value))} />
      </label>
      <p class="row legend">
        <span>${said}</span><span class="grow"></span>
        <span class="row">
          <span><span class="mask">${MASK}</span> masked</span>
          <span><span class="fresh">abc</span> just guessed</span>
        </span>
      </p>
    </div>`;
}

// The text of the blocks before that of step `at`, as their last steps left it.
function settledBefore(steps, at) {
  const ends = steps.slice(0, at).filter((step, i) => steps[i + 1].block !== step.block);
  return ends.filter(step => step.block < steps[at].block).map(step => step.text).join("");
}

// `text` as runs of [kind, characters]: mask, fresh (not there in `previous`) and settled.
function compare(previous, text) {
  const before = [...previous];
  const now = [...text];
  const kept = commonPlaces(before, now);
  const runs = [];
  now.forEach((character, i) => {
    const kind = character === MASK ? "mask" : kept.has(i) ? "settled" : "fresh";
    const last = runs.at(-1);
    if (last?.[0] === kind) last[1] += character;
    else runs.push([kind, character]);
  });
  return runs;
}

// The places of `now` that belong to the longest common subsequence with `before`. A block holds some 32 tokens, so
// that its square is small.
function commonPlaces(before, now) {
  const width = now.length + 1;
  const lengths = new Uint16Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      lengths[i * width + j] = before[i] === now[j]
        ? lengths[(i + 1) * width + j + 1] + 1
        : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  const places = new Set();
  for (let i = 0, j = 0; i < before.length && j < now.length;) {
    if (before[i] === now[j]) places.add(j++) && i++;
    else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
  return places;
}
