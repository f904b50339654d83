// The page: a header with tabs, an API key where one is asked for, and what all tabs share (models, limits, health).

import { base, getJSON, hasKey, onRefusedKey, setKey } from "./api.js";
import { Chat } from "./chat.js";
import { html, render, useEffect, useRef, useState } from "./html.js";
import { Images } from "./images.js";
import { Server } from "./server.js";
import { Videos } from "./videos.js";
import { Failure, Field } from "./widgets.js";

// What each tab is called, and the kind of model without which it is not shown.
const TABS = [
  ["chat", "Chat", "text"],
  ["images", "Images", "image"],
  ["video", "Video", "video"],
  ["server", "Server"],
];
const HEALTH_MS = 3000;

function App() {
  const [tab, setTab] = useTab();
  const [models, setModels] = useState(null);
  const [refusal, setRefusal] = useState(null);
  const [failure, setFailure] = useState(null);
  const [animated, setAnimated] = useState(null);
  const spec = useSpec();
  const { health, connected } = useHealth();

  const load = async () => {
    setFailure(null);
    try {
      setModels((await getJSON("v1/models")).data);
      setRefusal(null);
    } catch (error) {
      if (error.status !== 401) setFailure(error);
    }
  };
  useEffect(() => {
    onRefusedKey(setRefusal);
    load();
  }, []);
  const use = key => {
    setKey(key);
    load();
  };

  const animate = (picture, prompt) => {
    setAnimated({ picture, prompt });
    setTab("video");
  };

  const shared = { models: models ?? [], spec };
  const kinds = new Set(shared.models.map(model => model.kind));
  const tabs = TABS.filter(([, , kind]) => models === null || !kind || kinds.has(kind));
  const shown = tabs.some(([id]) => id === tab) ? tab : tabs[0][0];
  const panel = (id, content) => html`
    <div role="tabpanel" id=${`panel-${id}`} aria-labelledby=${`tab-${id}`} hidden=${shown !== id}>${content}</div>`;
  return html`
    <header>
      <h1><img src="${base}page/icon.svg" alt="" width="22" height="22" /> diffusion-serve</h1>
      <${Tabs} tabs=${tabs} shown=${shown} onPick=${setTab} />
    </header>
    <main>
      ${refusal && html`<${KeyForm} refusal=${refusal} onGiven=${use} />`}
      <${Failure} error=${failure}><button type="button" class="quiet" onClick=${load}>Try again</button><//>
      ${!connected && html`<p class="note" role="status">The server cannot be reached. Trying again ...</p>`}
      ${connected && health.status !== "ready" && html`
        <p class="note" role="status">
          ${health.message} ${isLoading(health) && "Loading: requests wait until their model is ready."}</p>`}
      ${(models === null || kinds.has("text")) && panel("chat", html`<${Chat} ...${shared} />`)}
      ${kinds.has("image") && panel("images", html`
        <${Images} ...${shared} onAnimate=${kinds.has("video") && animate} />`)}
      ${kinds.has("video") && panel("video", html`<${Videos} ...${shared} given=${animated} />`)}
      ${panel("server", html`<${Server} ...${shared} health=${health} connected=${connected} />`)}
    </main>`;
}

function Tabs({ tabs, shown, onPick }) {
  const list = useRef(null);
  const move = event => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const at = tabs.findIndex(([id]) => id === shown);
    const [next] = tabs[(at + by + tabs.length) % tabs.length];
    onPick(next);
    list.current.querySelector(`#tab-${next}`).focus();
  };
  return html`
    <nav role="tablist" aria-label="What to make" ref=${list} onKeyDown=${move}>
      ${tabs.map(([id, name]) => html`
        <button type="button" role="tab" id=${`tab-${id}`} aria-controls=${`panel-${id}`} aria-selected=${id === shown}
          tabindex=${id === shown ? 0 : -1} onClick=${() => onPick(id)}>${name}</button>`)}
    </nav>`;
}

function KeyForm({ refusal, onGiven }) {
  const [key, setText] = useState("");
  const give = event => {
    event.preventDefault();
    onGiven(key);
  };
  return html`
    <form class="key" onSubmit=${give}>
      ${hasKey() ? html`<${Failure} error=${refusal} />` : html`<p>This server asks for an API key.</p>`}
      <div class="row">
        <${Field} label="API key" type="password" autocomplete="off" value=${key}
          hint="Kept in this tab's memory only." onInput=${event => setText(event.target.value)} />
        <button class="main" disabled=${!key.trim()}>Use this key</button>
      </div>
    </form>`;
}

// The tab that the address names, so that each can be linked to.
function useTab() {
  const [tab, setTab] = useState(location.hash.slice(1));
  useEffect(() => {
    const follow = () => setTab(location.hash.slice(1));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const pick = id => {
    location.hash = id;
    setTab(id);
    scrollTo(0, 0);
  };
  return [tab, pick];
}

function useSpec() {
  const [spec, setSpec] = useState(null);
  useEffect(() => {
    getJSON("openapi.json").then(setSpec, () => {});
  }, []);
  return spec;
}

// What /ready tells, asked for again while somebody looks. `connected` is false where nobody answers.
function useHealth() {
  const [known, setKnown] = useState({ health: { status: "ready" }, connected: true });
  useEffect(() => {
    const ask = async () => {
      if (!document.hidden) setKnown(await askHealth());
    };
    ask();
    const timer = setInterval(ask, HEALTH_MS);
    return () => clearInterval(timer);
  }, []);
  return known;
}

const isLoading = ({ models = {} }) => Object.values(models).some(({ state }) => state === "starting");

async function askHealth() {
  try {
    const response = await fetch(new URL("ready", base));
    const told = await response.json();
    const message = told.error?.message;
    return { health: { ...told, status: response.ok ? "ready" : "waiting", message }, connected: true };
  } catch {
    return { health: {}, connected: false };
  }
}

render(html`<${App} />`, document.body);
