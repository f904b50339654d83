"""Durable video jobs: records of JSON objects in the object store, which any replica can answer from.

Below `jobs/<owner>/<id>/`, each object has one writer:

    request.json              the ingress that took the request; never changed
    cancel.json               the ingress that took the cancellation; its presence is what counts
    attempts/<n>-<rand>.json  the replica that runs attempt n, again at every heartbeat

Beside them: `dispatchers/<id>.json`, one heartbeat object for each dispatcher, and `idempotency/<owner>/<sha256>.json`.
Beside those, for a moment, `clock/<id>/now`, by which a reader learns the store's time.
`records.py` says what the objects mean (no I/O) and `store.py` reads them for an ingress. Each client has a module of
its own: `attempt.py` the replica that runs a job, `survey.py` the sweeper, `lease.py` whoever dispatches jobs,
`claims.py` the idempotency of requests.
"""
