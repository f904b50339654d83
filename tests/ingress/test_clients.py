"""What real clients were seen to send, field by field, and what they read of the answer.

The web UIs, open-webui and LibreChat, are in test_web_clients.py.
"""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from tests.ingress.conftest import Running, Serving
from tests.ingress.endpoints import error_of
from tests.ingress.images import EDITS, FOX, IMAGES, data_url, opened, png

CHAT = "/v1/chat/completions"
VIDEOS = "/v1/videos"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
FILM: dict[str, Any] = {"prompt": "a fox", "size": "64x64"}
QUICK = {"num_inference_steps": 1, "num_frames": 1}


def pixels(item: dict[str, Any]) -> tuple[int, int]:
    return opened(base64.b64decode(item["b64_json"])).size


# --- who reads nothing but base64 -----------------------------------------------------------------------------------

VERCEL = {"model": "gpt-image-1", "prompt": "a fox", "n": 1, "size": "64x64"}
VERCEL_EDIT = {"model": "gpt-image-1", "prompt": "a fox", "n": "1", "size": "64x64", "quality": "high"}


@pytest.mark.parametrize("name", ["gpt-image-1", "chatgpt-image-latest"])
async def test_vercels_sdk_asks_a_gpt_image_for_nothing_and_reads_base64(serving: Serving, name: str) -> None:
    with serving(image={"served_name": name}) as running:
        async with running.client() as client:
            body = {**VERCEL, "model": name}
            assert pixels((await client.post(IMAGES, json=body)).json()["data"][0]) == (64, 64)
            blob = {"image": ("blob", png(), "image/png")}  # as a browser's FormData names it
            edited = await client.post(EDITS, data={**VERCEL_EDIT, "model": name}, files=blob)
            assert pixels(edited.json()["data"][0]) == (64, 64)
            asked = await client.post(IMAGES, json={**body, "response_format": "url"})
            assert "url" in asked.json()["data"][0]


@pytest.mark.parametrize("field", [{"output_format": "webp"}, {"background": "opaque"}, {"moderation": "low"}])
async def test_a_field_only_gpt_image_has_means_base64(client: httpx.AsyncClient, field: dict[str, str]) -> None:
    assert "b64_json" in (await client.post(IMAGES, json=FOX | field)).json()["data"][0]
    assert "url" in (await client.post(IMAGES, json=FOX | field | {"response_format": "url"})).json()["data"][0]
    assert "url" in (await client.post(IMAGES, json=FOX)).json()["data"][0]


async def test_the_operator_decides_what_nothing_means(serving: Serving) -> None:
    with serving(image={"defaults": {"response_format": "b64_json"}}) as running:
        async with running.client() as client:
            assert "b64_json" in (await client.post(IMAGES, json=FOX)).json()["data"][0]
    with serving(image={"defaults": {"response_format": "url"}}) as running:
        async with running.client() as client:
            assert "url" in (await client.post(IMAGES, json=FOX | {"output_format": "webp"})).json()["data"][0]


# --- edits in JSON --------------------------------------------------------------------------------------------------


async def test_images_by_their_urls(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "prompt": "a fox",
        "images": [{"image_url": data_url(png())}],
        "nvext": {"num_inference_steps": 1},
    }
    answer = await client.post(EDITS, json=body)
    assert answer.status_code == 200, answer.text
    assert pixels(answer.json()["data"][0]) == (64, 64)
    for change, param in (
        ({"images": [{"file_id": "file-abc"}]}, "images[0]"),
        ({"images": []}, "images"),
        ({"images": None}, "image"),
        ({"images": body["images"] * 2}, "images"),
        ({"images": body["images"] * 17}, "images"),
        ({"image": data_url(png())}, "images"),
        ({"mask": {"file_id": "file-abc"}}, "mask"),
    ):
        error = error_of(await client.post(EDITS, json={**body, **change}), 400)
        assert error["param"] == param
        assert "file_id" in error["message"] or "file_id" not in str(change)
    two = error_of(await client.post(EDITS, json={**body, "images": body["images"] * 2}), 400)
    assert two["message"].endswith("the model 'demo/flux-tiny' takes 1.")


@pytest.mark.parametrize("field", ["image", "images", "mask", "image_url"])
async def test_an_image_where_none_is_edited_is_refused(client: httpx.AsyncClient, field: str) -> None:
    for path, body in ((IMAGES, FOX), (VIDEOS, FILM)):
        for answer in (
            await client.post(path, json={**body, field: data_url(png())}),
            await client.post(path, data={"prompt": "a fox"}, files={field: ("a.png", png())}),
        ):
            error = error_of(answer, 400)
            assert (error["code"], error["param"]) == ("unsupported_parameter", field)
            assert "input_reference" in error["message"]


async def test_no_file_is_dropped_unread(client: httpx.AsyncClient) -> None:
    for path in (IMAGES, EDITS, VIDEOS):
        answer = await client.post(path, data={"prompt": "a fox"}, files={"picture": ("a.png", png())})
        error = error_of(answer, 400)
        assert (error["code"], error["param"]) == ("unsupported_parameter", "picture")


# --- names of nvext, wherever they stand ----------------------------------------------------------------------------

SGLANG = {"seed": 7, "num_inference_steps": 3, "guidance_scale": 2.5, "negative_prompt": "rain"}


@pytest.mark.parametrize("place", ["nvext", "extra_params", "extra_body", ""])
async def test_sglangs_names_count_as_nvext(client: httpx.AsyncClient, place: str) -> None:
    body = {"prompt": "a fox", **({place: {**SGLANG, "width": 80, "height": 96}} if place else SGLANG)}
    body |= {} if place else {"width": 80, "height": 96}
    made = (await client.post(IMAGES, json=body)).json()
    nvext = made["nvext"]
    assert (nvext["seeds"], nvext["num_inference_steps"], nvext["guidance_scale"]) == ([7], 3, 2.5)
    assert (made["size"], nvext["ignored"]) == ("80x96", [])


async def test_they_work_for_videos_and_do_not_make_them_synchronous(client: httpx.AsyncClient) -> None:
    body = {"prompt": "a fox", "seed": 7, "fps": 4, "width": 64, "height": 80, **QUICK}
    video = (await client.post(VIDEOS, json=body)).json()
    assert (video["status"], video["size"], video["nvext"]["seed"], video["nvext"]["fps"]) == (
        "queued",
        "64x80",
        7,
        4,
    )
    assert video["nvext"]["num_frames"] == 1
    form = {name: (None, str(value)) for name, value in body.items()}
    assert (await client.post(VIDEOS, files=form)).json()["nvext"] == video["nvext"]


async def test_nvext_wins_and_null_is_nothing(client: httpx.AsyncClient) -> None:
    for nvext, extra, seed in (({"seed": 1}, {"seed": 2}, 1), ({"seed": None}, {"seed": 2}, 2), (None, {"seed": 2}, 2)):
        body = {"prompt": "a", "nvext": nvext, "seed": 3 if nvext is None else None, "extra_params": extra}
        made = (await client.post(IMAGES, json={**body, "num_inference_steps": 1})).json()
        assert made["nvext"]["seeds"] == [3 if nvext is None else seed]


async def test_an_error_names_the_field_where_it_stood(client: httpx.AsyncClient) -> None:
    for path, field, value in (
        (IMAGES, "seed", "x"),
        (IMAGES, "num_inference_steps", 1000),
        (IMAGES, "width", 5000),
        (IMAGES, "negative_prompt", "x" * 40_000),
        (VIDEOS, "fps", 1000),
        (VIDEOS, "height", 65),
        (CHAT, "top_k", "x"),
    ):
        body = HELLO if path == CHAT else {"prompt": "a fox"}
        assert error_of(await client.post(path, json={**body, field: value}), 400)["param"] == field
        below = {**body, "extra_body": {field: value}}
        assert error_of(await client.post(path, json=below), 400)["param"] == f"extra_body.{field}"
        inside = {**body, "nvext": {field: value}}
        assert error_of(await client.post(path, json=inside), 400)["param"] == f"nvext.{field}"


async def test_what_nobody_knows_is_named(client: httpx.AsyncClient) -> None:
    body = {**HELLO, "store": True, "top_k": 5, "min_p": 0.1, "extra_body": {"lora": "x"}, "metadata": None}
    ignored = (await client.post(CHAT, json=body)).json()["nvext"]["ignored"]
    assert ignored == ["min_p", "extra_body.lora", "store"]
    made = (await client.post(IMAGES, json={**FOX, "lora": "x", "cfg": 3})).json()
    assert made["nvext"]["ignored"] == ["lora", "cfg"]
    many = {**FOX, **{f"f{i}": i for i in range(5000)}}
    assert (await client.post(IMAGES, json=many)).json()["nvext"]["ignored"][-2:] == ["f31", "..."]


# --- forms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        {"nvext": '{"num_frames": 5, "fps": 4, "seed": 3}'},
        {"nvext[num_frames]": "5", "nvext[fps]": "4", "nvext[seed]": "3"},
        {"extra_body": ' {"num_frames": 5, "fps": 4, "seed": 3}'},
        {"nvext": "null", "num_frames": "5", "fps": "4", "seed": "3", "user": "null", "seconds": "null"},
    ],
)
async def test_an_object_in_a_form(client: httpx.AsyncClient, form: dict[str, str]) -> None:
    answer = await client.post(VIDEOS, files={name: (None, value) for name, value in {**FILM, **form}.items()})
    assert answer.status_code == 200, answer.text
    nvext = answer.json()["nvext"]
    assert (nvext["num_frames"], nvext["fps"], nvext["seed"]) == (5, 4, 3)


async def test_an_object_in_a_form_has_the_bounds_of_a_body(client: httpx.AsyncClient) -> None:
    for value, said in (
        ('{"seed": 1, "seed": 2}', "stands twice"),
        ('{"seed": ', "cannot be read"),
        ("{" + '"a": [' + "1," * 60_000 + "1]}", "limits.json_values"),
        ('{"a":' + "[" * 50 + "]" * 50 + "}", "limits.json_depth"),
    ):
        error = error_of(await client.post(IMAGES, files={"prompt": (None, "a"), "nvext": (None, value)}), 400)
        assert error["param"] == "nvext"
        assert said in error["message"]
    # a text may look like an object
    texts = {"prompt": (None, '{"a": 1}'), "user": (None, "[1]"), "safety_identifier": (None, '{"id": 7}')}
    answer = await client.post(IMAGES, files={**texts, "num_inference_steps": (None, "1")})
    assert answer.status_code == 200, answer.text


async def test_an_url_as_an_object_in_a_form(client: httpx.AsyncClient) -> None:
    reference = f'{{"image_url": "{data_url(png())}"}}'
    answer = await client.post(IMAGES, files={"prompt": (None, "a"), "input_reference": (None, reference)})
    assert answer.status_code == 200, answer.text


def form(*parts: tuple[bytes, bytes]) -> tuple[bytes, dict[str, str]]:
    """A form of raw header values and contents."""
    body = b"".join(b"--XX\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % part for part in parts)
    return body + b"--XX--\r\n", {"content-type": "multipart/form-data; boundary=XX"}


PROMPT = (b'name="prompt"', b"a fox")
STEPS = (b'name="num_inference_steps"', b"1")


@pytest.mark.parametrize(
    "parts",
    [
        [(b'name="image"; filename="\xff\xfe.png"', png())],
        [(b'name="image"\r\nContent-Type: image/png', png())],
        [(b'name="image"\r\nContent-Type: application/octet-stream', png())],
        [(b'name="image"; filename="a.png"', png()), (b'name="mask"; filename=""', b"")],
        [
            (b'name="image"; filename="a.png"', png()),
            (b'name="mask"; filename="m.png"\r\nContent-Type: image/png', b""),
        ],
        [(b'name="image"; filename="a.png"', png()), (b'name="mask"', b"")],
        [(b'name="image"; filename="a.png"', png()), (b'name="mask"', b"null")],
    ],
)
async def test_files_as_strange_clients_send_them(client: httpx.AsyncClient, parts: list[tuple[bytes, bytes]]) -> None:
    body, headers = form(PROMPT, STEPS, *parts)
    answer = await client.post(EDITS, content=body, headers=headers)
    assert answer.status_code == 200, answer.text


# --- smaller ones, each with its status and code --------------------------------------------------------------------


async def test_a_byte_order_mark_is_skipped(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    body = b'\xef\xbb\xbf{"prompt": "hi", "max_tokens": 1}'
    assert (await client.post("/v1/completions", content=body, headers=headers)).status_code == 200
    lone = error_of(await client.post("/v1/completions", content=b"\xef\xbb\xbf", headers=headers), 400)
    assert (lone["code"], lone["message"]) == ("invalid_value", "The body is empty; it must be a JSON object.")


async def test_four_point_zero_is_four(client: httpx.AsyncClient) -> None:
    raw = b'{"prompt": "a", "seconds": 1.0, "size": "64x64", "fps": 4.0, "num_inference_steps": 1.0, "seed": 7.0}'
    answer = await client.post(VIDEOS, content=raw, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["seconds"], answer.json()["nvext"]["num_frames"]) == (200, "1", 4)
    for value in (1.5, "1.0", 0.0):
        assert error_of(await client.post(VIDEOS, json={**FILM, "seconds": value}), 400)["param"] == "seconds"


@pytest.mark.parametrize("word", ["edits", "extensions", "characters", "generations"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_words_that_are_no_id(client: httpx.AsyncClient, method: str, word: str) -> None:
    error = error_of(await client.request(method, f"/v1/videos/{word}"), 404)
    assert error["code"] == "not_found"
    assert "POST /v1/videos" in error["message"]


async def test_raw_base64_is_told_how_to_be_a_url(client: httpx.AsyncClient) -> None:
    raw = base64.b64encode(png()).decode()
    for path, field in ((EDITS, "image"), (IMAGES, "input_reference"), (VIDEOS, "input_reference")):
        error = error_of(await client.post(path, json={"prompt": "a", field: raw}), 400)
        assert (error["code"], error["param"]) == ("invalid_value", field)
        assert "data:image/png;base64," in error["message"]
    refused = error_of(await client.post(EDITS, json={"prompt": "a", "image": "file:///etc/passwd"}), 400)
    assert refused["code"] == "unsafe_url"


@pytest.mark.parametrize("quality", ["low", "medium", "high", "auto", "standard", "hd", "xhigh", "max"])
async def test_every_quality_is_taken(client: httpx.AsyncClient, quality: str) -> None:
    used = quality if quality in ("low", "high") else "auto"  # the demo models have presets for these two
    assert (await client.post(IMAGES, json={**FOX, "quality": quality})).json()["quality"] == used
    assert (await client.post(VIDEOS, json={**FILM, **QUICK, "quality": quality})).status_code == 200


async def test_prompts_are_as_long_as_openais(client: httpx.AsyncClient) -> None:
    for path, body in ((IMAGES, FOX), (VIDEOS, {**FILM, **QUICK})):
        assert (await client.post(path, json={**body, "prompt": "x" * 32_000})).status_code == 200
        error = error_of(await client.post(path, json={**body, "prompt": "x" * 32_001}), 400)
        assert (error["code"], error["param"]) == ("invalid_value", "prompt")
        assert "limits.prompt_chars" in error["message"]


async def test_a_callers_own_words_are_bounded(client: httpx.AsyncClient) -> None:
    for path, body in ((IMAGES, FOX), (EDITS, FOX | {"image": data_url(png())}), (VIDEOS, FILM), (CHAT, HELLO)):
        assert error_of(await client.post(path, json={**body, "user": "x" * 513}), 400)["param"] == "user"
    made = (await client.post(IMAGES, json={**FOX, "safety_identifier": "caller-7"})).json()
    assert made["safety_identifier"] == "caller-7"
    long = {**FOX, "safety_identifier": "x" * 513}
    assert error_of(await client.post(IMAGES, json=long), 400)["param"] == "safety_identifier"


# --- the context of a text model ------------------------------------------------------------------------------------


async def test_a_default_of_ours_never_refuses(serving: Serving, running: Running) -> None:
    """The demo model holds 8192 tokens, one for each byte; the prompt leaves place for fewer than the default."""
    long = {"text": {"limits": {"prompt_chars": 32768, "max_tokens": 8192}, "defaults": {"max_tokens": 4096}}}
    with serving(**long) as running:
        async with running.client() as client:
            context = int(
                error_of(await client.post("/v1/completions", json={"prompt": "x" * 32_000}), 400)["message"].split()[6]
            )
            answer = await client.post("/v1/completions", json={"prompt": "x" * (context - 8)})
            assert answer.status_code == 200, answer.text
            assert answer.json()["usage"]["completion_tokens"] <= 8
            for body, param in (
                ({"prompt": "x" * (context - 8), "max_tokens": 64}, "max_tokens"),
                ({"prompt": "x" * context}, "prompt"),
            ):
                error = error_of(await client.post("/v1/completions", json=body), 400)
                assert (error["code"], error["param"]) == ("context_length_exceeded", param)
                assert f"maximum context length is {context} tokens" in error["message"]
            chat = {"messages": [{"role": "user", "content": "x" * context}]}
            error = error_of(await client.post(CHAT, json=chat), 400)
            assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


async def test_a_default_above_a_limit_is_cut(serving: Serving) -> None:
    with serving(image={"limits": {"steps": 2}, "defaults": {"num_inference_steps": 8}}) as running:
        async with running.client() as client:
            made = (await client.post(IMAGES, json={"prompt": "a", "size": "64x64"})).json()
            assert made["nvext"]["num_inference_steps"] == 2


async def test_a_body_that_is_too_large_has_openais_code(client: httpx.AsyncClient) -> None:
    answer = await client.post(IMAGES, json={**FOX, "user": "x" * 5_000_000})
    assert error_of(answer, 413)["code"] == "content_length_exceeded"
