from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from serve_app.ingress.asgi import endpoints_of
from serve_app.ingress.openapi import document
from serve_app.ingress.services import Services
from serve_app.settings import Settings, resolve
from tests.ingress.conftest import Serving

Described = Callable[..., dict[str, Any]]


@pytest.fixture
def described(services: Services) -> Described:
    """The document of an app with these models, and other settings."""

    def describe(models: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
        own = resolve(Settings.model_validate({"models": models or {}, **settings}), "demo")
        return document(own, endpoints_of(services))

    return describe


def refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for each in node.values() for ref in refs(each)]
    return [ref for each in node for ref in refs(each)] if isinstance(node, list) else []


async def test_every_operation_that_is_described_is_served(client: httpx.AsyncClient) -> None:
    for path, methods in (await client.get("/openapi.json")).json()["paths"].items():
        answer = await client.request("PUT", path.replace("{id}", "none"))
        allowed = {method.strip().lower() for method in answer.headers["allow"].split(",")}
        assert (answer.status_code, allowed - {"head"}) == (405, set(methods)), path


def test_every_reference_leads_somewhere(described: Described) -> None:
    made = described()
    for ref in refs(made):
        at: Any = made
        for step in ref.removeprefix("#/").split("/"):
            at = at[step]
    assert made["openapi"] == "3.1.0"


def test_what_openais_own_clients_do_not_know_is_described(described: Described) -> None:
    schemas = described()["components"]["schemas"]
    assert "How far an edit may go" in schemas["ImageExtension"]["properties"]["strength"]["description"]
    assert "0 before the first" in schemas["Video"]["properties"]["progress"]["description"]
    assert "each block's start, step 0" in schemas["TextExtension"]["properties"]["annotations"]["description"]


def test_running_limits_and_models_are_bounds_and_enums(described: Described) -> None:
    made = described(
        {
            "video": {"served_name": "mine", "limits": {"frames": 9, "seconds": 3, "steps": 7}, "defaults": {"fps": 6}},
            "text": {"limits": {"max_tokens": 99}, "defaults": {"max_tokens": 9}},
        }
    )
    schemas = made["components"]["schemas"]
    video, extension = schemas["VideoRequest"]["properties"], schemas["VideoNvExt"]["properties"]
    assert video["model"]["anyOf"][0]["enum"] == ["mine"]
    assert video["seconds"]["anyOf"][0]["maximum"] == 3
    assert (extension["num_frames"]["anyOf"][0]["maximum"], extension["fps"]["default"]) == (9, 6)
    assert schemas["ChatRequest"]["properties"]["max_tokens"]["anyOf"][0]["maximum"] == 99
    form = made["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["nvext[num_inference_steps]"]["anyOf"][0]["maximum"] == 7
    assert form["properties"]["input_reference"]["format"] == "binary"


def test_a_kind_that_is_off_has_no_paths(described: Described) -> None:
    paths = described({"video": None, "text": None})["paths"]
    assert not [path for path in paths if "video" in path or "completions" in path]
    assert "/v1/images/generations" in paths


def test_with_keys_on_calls_ask_for_one(described: Described) -> None:
    made = described(access={"keys_env": "KEYS"})
    assert made["paths"]["/v1/videos"]["get"]["security"] == [{"key": []}]
    assert "401" in made["paths"]["/v1/videos"]["get"]["responses"]
    assert "security" not in made["paths"]["/health"]["get"]
    assert "securitySchemes" not in described()["components"]


async def test_the_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", page.text)
    answer = await client.get("/openapi.json")
    assert (answer.headers["content-type"], answer.json()["openapi"]) == ("application/json", "3.1.0")


@pytest.mark.parametrize("docs_on", [True, False])
async def test_the_page_can_be_turned_off(serving: Serving, docs_on: bool) -> None:
    with serving(lambda own: replace(own), ingress={"docs": docs_on}) as running:
        async with running.client() as client:
            assert (await client.get("/docs")).status_code == (200 if docs_on else 404)
            assert (await client.get("/openapi.json")).status_code == 200
