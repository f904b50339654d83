// The video jobs of this caller, kept up to date by the events that the API sends.

import { getJSON, isAbort, readEvents, send } from "./api.js";
import { useEffect, useRef, useState } from "./html.js";

// A browser opens six connections to a server at most: the events of more jobs than these would hold up all else.
const WATCHED = 2;
const AGAIN_MS = 3000;

export const isUnderway = job => job.status === "queued" || job.status === "in_progress";

// The jobs as the API tells them, the newest first, and what can be done with them. One just asked for is `isNew`.
export function useJobs() {
  const [jobs, setJobs] = useState([]);
  const [hasMore, setHasMore] = useState(false);
  const [error, setError] = useState(null);
  const watched = useRef(new Map());

  const put = job => setJobs(now => merge(now, [job]));
  const list = async after => {
    const page = await getJSON(`v1/videos?limit=20${after ? `&after=${after}` : ""}`);
    setJobs(now => merge(now, page.data));
    return page.has_more;
  };
  const attempt = async work => {
    try {
      setError(null);
      await work();
    } catch (failed) {
      setError(failed);
    }
  };
  const ask = (path, request, marks) => attempt(async () =>
    put({ ...(await (await send({ path, ...request })).json()), ...marks }));

  useEffect(() => void attempt(async () => setHasMore(await list())), []);
  useEffect(() => {
    const oldest = jobs.filter(isUnderway).slice(-WATCHED);
    for (const { id } of oldest) {
      if (!watched.current.has(id)) watched.current.set(id, watch(id, put, () => watched.current.delete(id)));
    }
  }, [jobs]);
  useEffect(() => () => watched.current.forEach(stop => stop()), []);

  return {
    jobs,
    hasMore,
    error,
    make: request => ask(request.path, request, { isNew: true }),
    cancel: job => ask(`v1/videos/${job.id}/cancel`),
    remix: (job, prompt) => ask(`v1/videos/${job.id}/remix`, { fields: { prompt } }, { isNew: true }),
    refresh: job => ask(`v1/videos/${job.id}`, { method: "GET" }),
    remove: job => attempt(async () => {
      watched.current.get(job.id)?.();
      await send({ method: "DELETE", path: `v1/videos/${job.id}` });
      setJobs(now => now.filter(({ id }) => id !== job.id));
    }),
    showMore: () => attempt(async () => setHasMore(await list(jobs.at(-1).id))),
  };
}

// Follows one job until its end, through broken connections too; gives the function that stops it.
function watch(id, put, ended) {
  const stop = new AbortController();
  const follow = async () => {
    let shown = { id, status: "queued" };
    while (isUnderway(shown) && !stop.signal.aborted) {
      try {
        const response = await send({ method: "GET", path: `v1/videos/${id}/events` }, stop.signal);
        for await (const { data } of readEvents(response)) put((shown = data));
      } catch (error) {
        // deleted meanwhile, or no longer ours to see
        if (isAbort(error) || (error.status >= 400 && error.status < 500)) break;
        await new Promise(resolve => setTimeout(resolve, AGAIN_MS));
      }
    }
    ended();
  };
  follow();
  return () => stop.abort();
}

// A job that is known already is brought up to date (events tell a part of it); a new one comes by its age.
function merge(known, told) {
  const byId = new Map(known.map(job => [job.id, job]));
  for (const job of told) byId.set(job.id, { ...byId.get(job.id), ...job });
  return [...byId.values()].filter(job => job.created_at).sort((one, other) => other.created_at - one.created_at);
}
