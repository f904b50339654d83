// The small parts that the tabs are made of: fields with labels, folds, errors, and a request as code to copy.

import { html, useEffect, useId, useRef, useState } from "./html.js";
import { curl } from "./snippets.js";
import { fieldOf } from "./spec.js";

// The values of a form, and `bind(name)`: the properties of the input that edits one of them.
export function useForm(initial) {
  const [values, setValues] = useState(initial);
  const set = changes => setValues(now => ({ ...now, ...changes }));
  const bind = name => ({ name, value: values[name], onInput: event => set({ [name]: event.target.value }) });
  return { values, set, bind };
}

export function Field({ label, hint, as = "input", children, ...properties }) {
  const id = useId();
  const described = hint ? `${id}-hint` : undefined;
  const Tag = as;
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      <${Tag} id=${id} aria-describedby=${described} ...${properties}>${children}<//>
      ${hint && html`<small id=${described}>${hint}</small>`}
    </div>`;
}

// A number that may be left empty: then the server's default is used, which is shown in its place.
export function NumberField({ spec, path, step = 1, ...properties }) {
  const { fallback, minimum, maximum } = fieldOf(spec, path);
  return html`<${Field} type="number" min=${minimum} max=${maximum} step=${step}
    placeholder=${fallback ?? properties.empty ?? "model's own"} ...${properties} />`;
}

export function Choice({ label, options, ...properties }) {
  return html`<${Field} as="select" label=${label} ...${properties}>
    ${options.map(({ value, text }) => html`<option value=${value}>${text}</option>`)}<//>`;
}

// The model, where there are several of its kind, and an adapter of it, where it has some: `value` is the id of either.
export function ModelChoice({ models, kind, value, onPick }) {
  const own = models.filter(model => model.kind === kind);
  const picked = own.find(model => model.id === value) ?? own[0];
  const root = picked?.parent ?? picked?.id;
  const adapters = own.filter(model => model.parent === root);
  const options = own.filter(model => !model.parent).map(({ id }) => ({ value: id, text: id }));
  const pick = event => onPick(event.target.value);
  return html`
    ${options.length > 1 && html`<${Choice} label="Model" options=${options} value=${root} onInput=${pick} />`}
    ${adapters.length > 0 && html`<${Choice} label="Adapter" value=${picked.id} onInput=${pick}
      options=${[{ value: root, text: "none" }, ...adapters.map(({ id }) => ({ value: id, text: id }))]} />`}`;
}

// One of a few, all of them in sight.
export function Segments({ label, name, options, value, onPick }) {
  return html`
    <fieldset class="segments">
      <legend>${label}</legend>
      <div>
        ${options.map(option => html`
          <label title=${option.title}>
            <input type="radio" name=${name} value=${option.value} checked=${option.value === value}
              onChange=${() => onPick(option.value)} />
            <span>${option.text}</span>
          </label>`)}
      </div>
    </fieldset>`;
}

export const Fold = ({ title, children }) => html`
  <details class="fold"><summary>${title}</summary><div class="inside">${children}</div></details>`;

// What the API said, in its own words, and in sight: on a phone it may stand far from the button that was pressed.
export function Failure({ error, children }) {
  const box = useRef(null);
  useEffect(() => box.current?.scrollIntoView({ block: "nearest" }), [error]);
  if (!error) return null;
  const what = [error.status || null, error.code].filter(Boolean).join(" ");
  return html`
    <div class="failure" role="alert" ref=${box}>
      <p>${what && html`<strong>${what}</strong> `}${error.message}</p>${children}
    </div>`;
}

// Examples that fill in the prompt.
export const Ideas = ({ ideas, onPick }) => html`
  <div class="ideas">
    ${ideas.map(idea => html`<button type="button" class="idea" onClick=${() => onPick(idea)}>${idea}</button>`)}
  </div>`;

// The request of a form as curl and as Python, folded away.
export function Snippets({ request, python }) {
  const [language, setLanguage] = useState("curl");
  const text = language === "curl" ? curl(request) : python(request);
  return html`
    <${Fold} title="This request as code">
      <div class="row">
        ${[["curl", "curl"], ["python", "Python"]].map(([value, name]) => html`
          <button type="button" class="quiet" aria-pressed=${language === value}
            onClick=${() => setLanguage(value)}>${name}</button>`)}
        <span class="grow"></span>
        <${Copy} key=${language} text=${text} />
      </div>
      <pre tabindex="0" aria-label=${`The request as ${language}`}>${text}</pre>
    <//>`;
}

function Copy({ text }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setSaid("Copied");
    setTimeout(() => setSaid(""), 2000);
  };
  // a page that came over plain http from another machine has no clipboard
  if (!navigator.clipboard) return null;
  return html`<button type="button" class="quiet" onClick=${copy}>${said || "Copy"}</button>
    <span class="unseen" role="status">${said}</span>`;
}
