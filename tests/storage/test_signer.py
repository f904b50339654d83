"""The signatures of URLs: what they let through and what not."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl

import pytest

from serve_app.errors import Forbidden
from serve_app.storage.signer import URLSigner


def test_signer_refuses_what_it_did_not_sign() -> None:
    signer = URLSigner(b"secret")
    query = dict(parse_qsl(signer.sign("a.png", time.time() + 60)))
    signer.verify("a.png", query)
    for wrong in (
        query | {"expires": str(int(query["expires"]) + 1)},
        query | {"signature": "é"},
        query | {"signature": ""},
        query | {"expires": "never"},
        {"signature": query["signature"]},
        {"expires": query["expires"]},
        {},
    ):
        with pytest.raises(Forbidden):
            signer.verify("a.png", wrong)
    with pytest.raises(Forbidden):
        signer.verify("b.png", query)
    with pytest.raises(Forbidden):
        URLSigner(b"another").verify("a.png", query)
    with pytest.raises(Forbidden, match="expired"):
        signer.verify("a.png", dict(parse_qsl(signer.sign("a.png", time.time() - 2))))


def test_signer_without_secret_signs_nothing() -> None:
    signer = URLSigner(None)
    assert signer.sign("a.png", time.time() + 60) == ""
    signer.verify("a.png", {})
