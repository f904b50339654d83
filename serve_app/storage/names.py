"""The names of everything that this application writes below `media.root`.

The root may be a bucket or a folder that holds other people's files as well: whatever is removed unasked must have one
of these names. Knows names, no store.
"""

import re

_OWNER = r"(?:public|[0-9a-f]{32})"
_JOB = r"video_[0-9a-f]{32}"
DAY = r"[12]\d{3}/(?:0[1-9]|1[0-2])/(?:0[1-9]|[12]\d|3[01])"
_MEDIA = rf"media/{_OWNER}/{DAY}/(?:img_[0-9a-f]{{32}}-\d{{1,2}}\.(?:png|jpeg|webp)|{_JOB}-(?:0\.mp4|1\.webp|2\.jpeg))"
_JOB_RECORD = (
    rf"jobs/{_OWNER}/{_JOB}/"
    r"(?:request\.json|cancel\.json|input|last_frame|(?:dispatch/\d{13}|attempts/\d{4,})-[0-9a-f]{8}\.json)"
)
_IDEMPOTENCY = rf"idempotency/{_OWNER}/(?:[0-9a-f]{{64}}|[a-z]{{3,20}}[-_][0-9a-f]{{32}}(?:-beat)?)\.json"
_DISPATCHER = r"dispatchers/(?:ingress|sweeper)-[0-9a-f]{16}\.json"
_LEDGER = r"ledger/day=\d{4}-\d\d-\d\d/\d{8}T\d{12}-[0-9a-f]{12}\.parquet"
_PROBE = r"probe/[0-9a-f]{16}"
_CLOCK = r"clock/[0-9a-f]{16}/now"

_OURS = re.compile("|".join((_MEDIA, _JOB_RECORD, _IDEMPOTENCY, _DISPATCHER, _LEDGER, _PROBE, _CLOCK)), re.ASCII)


def is_made_here(key: str) -> bool:
    """Whether this application makes such a key; whatever has another was put there by someone else."""
    return _OURS.fullmatch(key) is not None
