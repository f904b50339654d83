"""Durable video jobs: records of JSON objects in the object store, which any replica can answer from.

Below `jobs/<owner>/<id>/`, each object has one writer:

    request.json                 the ingress that took the request; never changed
    cancel.json                  the ingress that took the cancellation; its presence is what counts
    dispatch/<time>-<rand>.json  a dispatcher that took the job over from another
    attempts/<n>-<rand>.json     the replica that runs attempt n, again at every heartbeat

Beside them: `dispatchers/<id>.json`, one heartbeat object for each dispatcher, and `idempotency/<owner>/<sha256>.json`.
Beside those, for a moment, `clock/<id>/now`, by which a reader learns the store's time.
`records.py` says what the objects mean (no I/O), `store.py` reads and writes them, `attempt.py` is the replica's pen,
`expiry.py` removes what is past its time.
"""

from serve_app.jobs.attempt import Attempt
from serve_app.jobs.records import Job, JobError, Status, new_job_id, result_keys
from serve_app.jobs.store import Claim, JobStore, Page

__all__ = ["Attempt", "Claim", "Job", "JobError", "JobStore", "Page", "Status", "new_job_id", "result_keys"]
