// The Chat tab: several turns with a text model, streamed block by block; "watch" shows every denoising step.

import { isAbort, readEvents, send, withoutEmpty } from "./api.js";
import { Canvas, Scrubber } from "./canvas.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { chatPython } from "./snippets.js";
import { Failure, Field, Fold, Ideas, ModelChoice, NumberField, Snippets, useForm } from "./widgets.js";

const IDEAS = ["Hello! How are you?", "What is 17 + 25?", "What is a raccoon?", "Tell me a story about a fox."];

export function Chat({ models, spec }) {
  const form = useForm({ prompt: "", model: "", watch: true, system: "", max_tokens: "", temperature: "", top_p: "",
    top_k: "", seed: "" });
  const [turns, setTurns] = useState([]);
  const running = useRef(null);
  const busy = turns.at(-1)?.state === "running";
  const { values, set, bind } = form;

  const change = changes => setTurns(now => [...now.slice(0, -1), { ...now.at(-1), ...changes(now.at(-1)) }]);

  const ask = async event => {
    event?.preventDefault();
    if (busy || !values.prompt.trim()) return;
    const request = requestOf(values, turns, models);
    setTurns([...turns, { question: values.prompt, answer: "", steps: [], state: "running" }]);
    set({ prompt: "" });
    running.current = new AbortController();
    try {
      await converse(request, running.current.signal, change);
    } catch (error) {
      change(() => (isAbort(error) ? { state: "stopped" } : { state: "failed", error }));
    }
  };

  return html`
    <div class="chat">
      <ol class="turns" aria-label="Conversation">
        ${turns.map((turn, i) => html`<${Turn} key=${i} turn=${turn} />`)}
      </ol>
      ${turns.length === 0 && html`
        <div class="welcome">
          <h2>Watch words come out of the noise</h2>
          <p>A diffusion language model writes a whole block at once: every place begins as a mask, and the surest
            words settle first.</p>
          <${Ideas} ideas=${IDEAS} onPick=${idea => set({ prompt: idea })} />
        </div>`}
      <form class="composer" onSubmit=${ask}>
        <label class="unseen" for="chat-prompt">Message</label>
        <textarea id="chat-prompt" rows="2" placeholder="Write a message" ...${bind("prompt")}
          onKeyDown=${event => event.key === "Enter" && !event.shiftKey && !event.isComposing && ask(event)}></textarea>
        <div class="row">
          <label class="check"><input type="checkbox" checked=${values.watch}
            onChange=${event => set({ watch: event.target.checked })} />
            <span>Watch it denoise</span></label>
          <span class="grow"></span>
          ${turns.length > 0 && !busy && html`
            <button type="button" class="quiet" onClick=${() => setTurns([])}>New chat</button>`}
          ${busy
            ? html`<button type="button" class="stop" onClick=${() => running.current.abort()}>Stop</button>`
            : html`<button class="main" disabled=${!values.prompt.trim()}>Send</button>`}
        </div>
      </form>
      <${ModelChoice} models=${models} kind="text" value=${values.model} onPick=${model => set({ model })} />
      <${Options} spec=${spec} bind=${bind} />
      <${Snippets} request=${requestOf(values, turns, models)} python=${chatPython} />
    </div>`;
}

const Options = ({ spec, bind }) => html`
  <${Fold} title="More settings">
    <div class="fields">
      <${NumberField} label="Most tokens" spec=${spec} path="ChatRequest.max_tokens" ...${bind("max_tokens")} />
      <${NumberField} label="Temperature" spec=${spec} path="ChatRequest.temperature" step="0.1"
        ...${bind("temperature")} />
      <${NumberField} label="Top p" spec=${spec} path="ChatRequest.top_p" step="0.05" ...${bind("top_p")} />
      <${NumberField} label="Top k" spec=${spec} path="ChatRequest.nvext.top_k" ...${bind("top_k")} />
      <${NumberField} label="Seed" spec=${spec} path="ChatRequest.seed" empty="random" ...${bind("seed")} />
    </div>
    <${Field} as="textarea" rows="2" label="System message" ...${bind("system")} />
  <//>`;

function Turn({ turn }) {
  const [open, setOpen] = useState(false);
  const { question, answer, steps, state, error, report } = turn;
  const live = state === "running" && steps.length > 0;
  const end = useRef(null);
  useEffect(() => end.current.scrollIntoView?.({ block: "nearest" }), [answer, steps.length, state]);
  return html`
    <li class="turn" data-state=${state}>
      <p class="question"><span class="unseen">You: </span>${question}</p>
      <div class="answer" aria-busy=${state === "running"}>
        <span class="unseen">Answer: </span>
        ${open ? html`<${Scrubber} steps=${steps} />` : live
          ? html`<${Canvas} steps=${steps} at=${steps.length - 1} />`
          : html`<p class="text">${answer || (state === "running" ? html`<span class="waiting">...</span>` : "")}</p>`}
        <${Failure} error=${error} />
        <p class="row facts">
          ${state === "stopped" && html`<span>Stopped.</span>`}
          ${report && html`<span>${describe(report)}</span>`}
          <span class="grow"></span>
          ${state !== "running" && steps.length > 0 && html`
            <button type="button" class="quiet" aria-expanded=${open} onClick=${() => setOpen(!open)}>
              ${open ? "Hide the steps" : "Go through the steps"}</button>`}
        </p>
        <span ref=${end}></span>
      </div>
    </li>`;
}

// Sends one request and turns its events into changes of the last turn.
async function converse(request, signal, change) {
  const began = performance.now();
  const response = await send(request, signal);
  const report = {};
  for await (const { data } of readEvents(response)) {
    const step = data.nvext?.denoising;
    const text = data.choices[0]?.delta.content;
    if (step) change(turn => ({ steps: [...turn.steps, step] }));
    if (text) change(turn => ({ answer: turn.answer + text }));
    if (data.choices[0]?.finish_reason) Object.assign(report, data.nvext, { reason: data.choices[0].finish_reason });
    if (data.usage) report.tokens = data.usage.completion_tokens;
  }
  report.seconds = (performance.now() - began) / 1000;
  change(() => ({ state: "done", report }));
}

function requestOf(values, turns, models) {
  const said = turns.filter(turn => turn.answer).flatMap(turn => [
    { role: "user", content: turn.question },
    { role: "assistant", content: turn.answer },
  ]);
  const system = values.system.trim() ? [{ role: "system", content: values.system }] : [];
  const question = values.prompt.trim() ? values.prompt : IDEAS[0];
  const number = name => (values[name] === "" ? "" : Number(values[name]));
  const fields = withoutEmpty({
    model: values.model || models.find(model => model.kind === "text")?.id,
    messages: [...system, ...said, { role: "user", content: question }],
    max_tokens: number("max_tokens"),
    temperature: number("temperature"),
    top_p: number("top_p"),
    seed: number("seed"),
    stream: true,
    stream_options: { include_usage: true },
    nvext: { top_k: number("top_k"), annotations: values.watch ? ["denoising"] : "" },
  });
  return { path: "v1/chat/completions", fields };
}

function describe({ algorithm, denoising_steps: steps, tokens_per_step: each, tokens, seconds, reason, ignored = [] }) {
  const parts = [algorithm];
  if (steps) parts.push(`${steps} step${steps === 1 ? "" : "s"}`);
  if (each) parts.push(`${each.toFixed(1)} tokens a step`);
  if (tokens) parts.push(`${(tokens / seconds).toFixed(0)} tokens/s`);
  if (reason === "length") parts.push("cut off at the most tokens");
  if (ignored.length) parts.push(`not honoured here: ${ignored.join(", ")}`);
  return parts.filter(Boolean).join(" · ");
}
