"""Removes expired media, idempotency claims, leases of dead dispatchers and test objects of killed processes.

The bucket or folder may hold other people's files too: only what has a name that this application makes is removed.
Every function may run twice, also at once: deleting what is gone is no error.
"""

import calendar
import re
import time

from serve_app.jobs.records import is_job_id
from serve_app.storage import ObjectStore, is_made_here

DAY_S = 86400.0
_DAY = re.compile(r"[12]\d{3}/(?:0[1-9]|1[0-2])/(?:0[1-9]|[12]\d|3[01])", re.ASCII)


async def expire_media(store: ObjectStore, now: float, ttl_s: float) -> None:
    """Removes media older than `ttl_s`, except those of a job that still exists: they go with the job."""
    for owner in await store.list_names("media"):
        for day in await _days(store, f"media/{owner}"):
            if now - calendar.timegm(time.strptime(day, "%Y/%m/%d")) < ttl_s:
                continue
            old = await _old(store, f"media/{owner}/{day}", now, ttl_s)
            gone = [key for key in old if not await _belongs_to_job(store, owner, key)]
            if gone:
                await store.delete(*gone)


async def expire_bookkeeping(store: ObjectStore, now: float, ttl_s: float) -> None:
    """Removes claims of keys, leases of dispatchers and test objects when no job that they are of can be left."""
    ages = {"idempotency": ttl_s, "dispatchers": min(ttl_s, DAY_S), "clock": DAY_S, "probe": DAY_S}
    for folder, age_s in ages.items():
        if old := await _old(store, folder, now, age_s):
            await store.delete(*old)


async def _old(store: ObjectStore, folder: str, now: float, age_s: float) -> list[str]:
    infos = await store.list(folder)
    return [info.key for info in infos if now - info.modified >= age_s and is_made_here(info.key)]


async def _days(store: ObjectStore, folder: str) -> list[str]:
    """The yyyy/mm/dd folders below `folder`. Others are not ours."""
    days: list[str] = []
    for year in await store.list_names(folder):
        for month in await store.list_names(f"{folder}/{year}"):
            days += [f"{year}/{month}/{day}" for day in await store.list_names(f"{folder}/{year}/{month}")]
    return [day for day in days if _DAY.fullmatch(day)]


async def _belongs_to_job(store: ObjectStore, owner: str, key: str) -> bool:
    name = key.rsplit("/", 1)[-1]
    job_id = name.rsplit("-", 1)[0]
    return is_job_id(job_id) and await store.exists(f"jobs/{owner}/{job_id}/request.json")
