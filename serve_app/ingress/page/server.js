// The Server tab: every model with its state, its replicas, what waits, and the time a request would wait.

import { base } from "./api.js";
import { html } from "./html.js";

const KINDS = { text: "Text", image: "Images", video: "Video" };

export function Server({ models, health, spec, connected }) {
  return html`
    <section class="server">
      <div class="row">
        <h2>Models</h2>
        <span class="grow"></span>
        <span class="state" data-state=${connected ? health.status : "away"} role="status">
          ${words(connected, health)}</span>
      </div>
      <div class="wide" tabindex="0" role="region" aria-label="Models">
        <table>
          <thead><tr><th>Model</th><th>Makes</th><th>State</th><th class="number">Replicas</th>
            <th class="number">Waiting</th><th class="number">A request would wait</th></tr></thead>
          <tbody>${rowsOf(models, health).map(row => html`
            <tr key=${row.id}>
              <th scope="row">${row.id}${row.parent && html` <small>on ${row.parent}</small>`}</th>
              <td>${KINDS[row.kind] ?? row.kind}</td>
              <td><span class="state" data-state=${row.state}>${row.state}</span></td>
              <td class="number">${row.replicas ?? "–"}</td>
              <td class="number">${row.waiting ?? "–"}</td>
              <td class="number">${duration(row)}</td>
            </tr>`)}
          </tbody>
        </table>
      </div>
      <h2>For programs</h2>
      <dl class="addresses">
        <dt>OpenAI base URL</dt><dd><code>${base}v1</code></dd>
        <dt>Every field</dt><dd><a href="${base}docs">/docs</a> and <a href="${base}openapi.json">/openapi.json</a></dd>
        <dt>Metrics</dt><dd><a href="${base}metrics">/metrics</a></dd>
        <dt>Version</dt><dd>${spec?.info.version ?? "–"}</dd>
      </dl>
    </section>`;
}

// Each model with what /ready tells of it, which it tells by deployment; an adapter runs where its parent does.
function rowsOf(models, health) {
  const told = Object.values(health.models ?? {});
  return models.map(model => ({
    state: "unknown",
    ...told.find(row => row.model === (model.parent ?? model.id)),
    ...model,
  }));
}

function words(connected, health) {
  if (!connected) return "The server cannot be reached";
  return health.status === "ready" ? "Ready" : "Not ready yet";
}

// How long a start or a wake-up takes is not known.
function duration({ state, expected_wait_s: seconds }) {
  if (state !== "ready" || seconds === undefined) return "–";
  if (seconds < 1) return "under 1 s";
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
