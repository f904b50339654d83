"""Every mistake in a deployments file is found, all at once, with the path of its key."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.check import Report, check_config, check_file
from serve_app.settings import Settings

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "deployments.yaml"
APPLICATION: dict[str, Any] = {"name": "diffusion", "import_path": "serve_app.app:build"}


def report(args: dict[str, Any] | None = None, **application: Any) -> Report:
    config = {
        "http_options": {"host": "127.0.0.1"},
        "applications": [{**APPLICATION, **application, "args": args or {}}],
    }
    return check_config(config)


def errors(found: Report) -> list[str]:
    return [str(problem) for problem in found.problems if problem.level == "error"]


def in_args(args: dict[str, Any]) -> list[str]:
    return [error.removeprefix("applications[0].args.") for error in errors(report(args))]


def test_the_shipped_file_is_correct() -> None:
    found = check_file(SHIPPED)
    assert found.problems == ()
    assert found.summary.startswith("application 'diffusion' on 127.0.0.1:8000/: profile demo: text demo/llada2-tiny")


def commented() -> list[int]:
    """The lines of the shipped file that are YAML behind a comment sign."""
    lines = enumerate(SHIPPED.read_text().splitlines())
    return [number for number, line in lines if re.match(r" +# [a-z_]+: [^A-Z]", line)]


@pytest.mark.parametrize("number", [*commented(), None])
def test_each_commented_line_of_the_shipped_file_works_uncommented(number: int | None, tmp_path: Path) -> None:
    """Alone, and (None) all of them at once."""
    lines = SHIPPED.read_text().splitlines()
    for chosen in commented() if number is None else [number]:
        lines[chosen] = lines[chosen].replace("# ", "", 1)
    (tmp_path / "deployments.yaml").write_text("\n".join(lines))
    found = check_file(tmp_path / "deployments.yaml")
    assert found.problems == ()
    assert found.summary


def test_the_shipped_file_is_short() -> None:
    assert len(commented()) > 6
    assert len(SHIPPED.read_text().splitlines()) < 50


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ("", "http_option", "http_option: unknown key; did you mean 'http_options'?"),
        ("http_options", "prt", "http_options.prt: unknown key; did you mean 'port'?"),
        ("grpc_options", "prt", "grpc_options.prt: unknown key; did you mean 'port'?"),
        ("logging_config", "log_levl", "logging_config.log_levl: unknown key; did you mean 'log_level'?"),
        ("applications.0", "import_pth", "applications[0].import_pth: unknown key; did you mean 'import_path'?"),
        ("applications.0.runtime_env", "env", "applications[0].runtime_env.env: unknown key; did you mean 'env_vars'?"),
        (
            "applications.0.deployments.0",
            "num_gpu",
            "applications[0].deployments[0].num_gpu: unknown key; did you mean 'ray_actor_options.num_gpus'?",
        ),
        (
            "applications.0.deployments.0.ray_actor_options",
            "num_gpu",
            "applications[0].deployments[0].ray_actor_options.num_gpu: unknown key; did you mean 'num_gpus'?",
        ),
        (
            "applications.0.deployments.0.autoscaling_config",
            "max_replica",
            "applications[0].deployments[0].autoscaling_config.max_replica: unknown key; did you mean 'max_replicas'?",
        ),
        ("applications.0.args", "profle", "applications[0].args.profle: unknown key; did you mean 'profile'?"),
        (
            "applications.0.args.models.image.replicas",
            "mx",
            "applications[0].args.models.image.replicas.mx: unknown key; did you mean 'max'?",
        ),
        (
            "applications.0.args.models.text",
            "max_tokens",
            "applications[0].args.models.text.max_tokens: unknown key; did you mean 'defaults.max_tokens'?",
        ),
        (
            "applications.0.args.models.second",
            "served_nam",
            "applications[0].args.models.second.served_nam: unknown key; did you mean 'served_name'?",
        ),
    ],
)
def test_an_unknown_key_anywhere(path: str, key: str, expected: str) -> None:
    config: dict[str, Any] = {
        "http_options": {},
        "grpc_options": {},
        "logging_config": {},
        "applications": [
            {
                **copy.deepcopy(APPLICATION),
                "runtime_env": {},
                "deployments": [{"name": "text", "ray_actor_options": {}, "autoscaling_config": {}}],
                "args": {"models": {"text": {}, "image": {"replicas": {}}, "second": {"kind": "image", "model": "m"}}},
            }
        ],
    }
    assert errors(check_config(config)) == []
    section: Any = config
    for part in path.split(".") if path else []:
        section = section[int(part)] if part.isdigit() else section[part]
    section[key] = None
    assert errors(check_config(config)) == [expected]


def test_a_key_like_no_other_lists_what_there_is() -> None:
    [problem] = in_args({"media": {"xyzzy": 1}})
    assert problem.startswith("media.xyzzy: unknown key; known: mode, provenance, public_url, redirect, root")


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (
            {"text": {"gpus": 1.5}},
            "text.gpus: 1.5 GPUs: a fraction must be below 1, and more than one GPU a whole number",
        ),
        (
            {"video": {"gpus": 0.5, "parallel": "tensor"}},
            "video.parallel: tensor needs 2 GPUs or more, but gpus is 0.5",
        ),
        ({"video": {"parallel": "cfg"}}, "video.parallel: cfg needs 2 GPUs or more, but gpus is 1"),
        (
            {"video": {"gpus": 3, "parallel": "cfg"}},
            "video.gpus: parallel: cfg halves the GPUs, so it needs an even count, not 3",
        ),
        (
            {"image": {"gpus": 2, "parallel": "cfg"}},
            "image.parallel: cfg: FLUX.1 runs once a step, without a second half of guidance to split off",
        ),
        (
            {"video": {"gpus": 2, "parallel": "cfg", "defaults": {"guidance_scale": 1}}},
            "video.parallel: cfg needs a guidance_scale above 1, but the default is 1",
        ),
        (
            {"text": {"gpus": 2, "parallel": "sequence"}},
            "text.parallel: text models run on several GPUs by tensor parallelism only, not sequence",
        ),
        ({"image": {"gpus": 0}}, "image.gpus: the sglang engine needs a GPU: 1, 2 ... or a fraction of one"),
        (
            {"image": {"engine": "diffusers", "gpus": 2}},
            "image.gpus: the diffusers engine uses one GPU at most, not 2",
        ),
        (
            {"second": {"kind": "image", "model": "Qwen/Qwen-Image", "gpus": 3, "parallel": "cfg"}},
            "second.gpus: parallel: cfg halves the GPUs, so it needs an even count, not 3",
        ),
        ({"image": {"gpus": -1}}, "image.gpus: input should be greater than or equal to 0"),
    ],
)
def test_impossible_gpu_counts(models: dict[str, Any], expected: str) -> None:
    assert in_args({"profile": "gpu", "models": models}) == [f"models.{expected}"]


@pytest.mark.parametrize(
    "models",
    [
        {"text": {"gpus": 2, "parallel": "tensor"}},
        {"video": {"gpus": 2, "parallel": "cfg"}},
        {"video": {"gpus": 2, "engine": "auto"}},
        {"second": {"kind": "image", "model": "Qwen/Qwen-Image", "gpus": 2, "parallel": "cfg"}},
        {"video": {"gpus": 0.4}, "image": {"gpus": 0.4}, "text": {"gpus": 0.2}},
    ],
)
def test_possible_gpu_counts(models: dict[str, Any]) -> None:
    assert report({"profile": "gpu", "models": models}).problems == ()


def test_gpus_in_the_demo_are_only_a_warning() -> None:
    found = report({"profile": "demo", "models": {"image": {"gpus": 1}}})
    assert [problem.level for problem in found.problems] == ["warning"]
    assert found.ok
    assert found.summary


def test_step_caching_takes_the_parameters_of_its_method() -> None:
    def models(**parameters: Any) -> dict[str, Any]:
        return {"image": {"quality": {"low": {"step_caching": {"method": "cache_dit", **parameters}}}}}

    assert report({"profile": "gpu", "models": models(scm_preset="fast", scm_policy="static")}).problems == ()
    [problem] = report({"profile": "gpu", "models": models(scm_presett="fast")}).problems
    assert "image.quality.low.step_caching" in str(problem)
    assert "scm_preset," in str(problem), "it lists what is allowed"


def test_any_number_of_models() -> None:
    models = {"second": {"kind": "image", "model": "a/b"}, "third": {"kind": "video", "model": "c/d"}, "text": None}
    found = report({"profile": "demo", "models": models})
    assert found.problems == ()
    assert found.summary.endswith("profile demo: image demo/flux-tiny, video demo/wan-tiny, second a/b, third c/d")


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ({"Second": {"kind": "image", "model": "m"}}, "models.Second: string should match pattern"),
        ({"x" * 41: {"kind": "image", "model": "m"}}, "string should match pattern"),
        ({"ingress": {"kind": "image", "model": "m"}}, "ingress: this name is taken"),
        ({"sweeper": {"kind": "image", "model": "m"}}, "sweeper: this name is taken"),
        ({"second": {"model": "m"}}, "models.second: state its kind: text, image or video"),
        ({"second": {"kind": "sound", "model": "m"}}, "models.second: state its kind: text, image or video"),
        ({"second": {"kind": "image"}}, "second: state its model, a hub id or a local folder"),
        ({"text": {"kind": "image", "model": "m"}}, "text: a model of this name is of kind text, not image"),
        ({"text": None, "image": None, "video": None}, "all of them are null: nothing to serve"),
        (
            {"image": {"served_name": "m"}, "video": {"served_name": "m"}},
            "video: callers would ask for it as 'm', as for image: give it another served_name",
        ),
        (
            {"second": {"kind": "image", "model": "demo/flux-tiny"}},
            "second: callers would ask for it as 'demo/flux-tiny', as for image: give it another served_name",
        ),
    ],
)
def test_models_that_cannot_be(models: dict[str, Any], expected: str) -> None:
    [problem] = in_args({"profile": "demo", "models": models})
    assert expected in problem


@pytest.mark.parametrize(
    ("args", "new"),
    [
        ({"image": {"gpus": 1}}, "instead of 'image' write models: {image: {gpus: 1}}"),
        (
            {"text": {"enabled": False}, "video": {"enabled": True, "max_queued": 3}},
            "instead of 'text', 'video' write models: {text: null, video: {max_queued: 3}}",
        ),
        (
            {"models": {"image": {"enabled": False}}},
            "models.image: 'enabled' is gone: a model that is not to be served",
        ),
    ],
)
def test_the_spelling_before_models_is_refused_with_the_new_one(args: dict[str, Any], new: str) -> None:
    [problem] = in_args(args)
    assert new in problem
    if "write " in new:
        assert in_args(yaml.safe_load(new.split("write ")[1])) == []


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        (
            {"import_path": "serve_app.ap:build"},
            "applications[0].import_path: no such builder; did you mean 'serve_app.app:build'?",
        ),
        (
            {"deployments": [{"name": "imag"}]},
            "applications[0].deployments[0].name: no deployment 'imag'; did you mean 'image'?",
        ),
        (
            {"deployments": [{"name": "text", "ray_actor_options": {"num_gpus": 1.5}}]},
            "applications[0].deployments[0].ray_actor_options.num_gpus: "
            "1.5 GPUs: a fraction must be below 1, and more than one GPU a whole number",
        ),
        (
            {"deployments": [{"name": "text", "autoscaling_config": {"max_replicas": "many"}}]},
            "applications[0].deployments[0].autoscaling_config.max_replicas: "
            "input should be a valid integer, unable to parse string as an integer",
        ),
    ],
)
def test_wrong_values_in_the_application(application: dict[str, Any], expected: str) -> None:
    assert errors(report(**application)) == [expected]


def test_wrong_values_in_serves_own_sections() -> None:
    config = {"proxy_location": "Everywhere", "http_options": {"port": "http"}, "applications": [APPLICATION]}
    assert [error.split(":")[0] for error in errors(check_config(config))] == ["proxy_location", "http_options.port"]


@pytest.mark.parametrize("port", [0, -1, 65536, "70000"])
def test_a_port_that_no_machine_has(port: object) -> None:
    [error] = errors(check_config({"http_options": {"port": port}, "applications": [APPLICATION]}))
    assert error.startswith("http_options.port: input should be ")


@pytest.mark.parametrize("prefix", ["diffusion", "/diffusion/", "/{name}", ""])
def test_a_route_that_serve_would_refuse_once_it_runs(prefix: str) -> None:
    [error] = errors(report(route_prefix=prefix))
    assert error.startswith(f"applications[0].route_prefix: '{prefix}', ")


@pytest.mark.parametrize("route", [{}, {"route_prefix": None}, {"route_prefix": "/"}, {"route_prefix": "/diffusion"}])
def test_a_route_that_serve_takes(route: dict[str, Any]) -> None:
    assert report(**route).ok


@pytest.mark.parametrize(
    "args",
    [
        {"media": {"ttl_s": math.inf}},
        {"media": {"ttl_s": math.nan}},
        {"limits": {"image_aspect": math.inf}},
        {"models": {"text": {"replicas": {"downscale_delay_s": math.inf}}}},
    ],
)
def test_numbers_are_finite(args: dict[str, Any]) -> None:
    [error] = in_args(args)
    assert error.endswith(": input should be a finite number")


def test_all_problems_come_at_once() -> None:
    found = in_args(
        {
            "profle": "gpu",
            "models": {
                "image": {"replicas": {"mx": 3, "min": 3}, "limits": {"n": 11}, "warm_up_sizes": [[256]]},
                "video": {"gpus": 2, "parallel": "cfg"},
            },
        }
    )
    assert [problem.split(": ")[0] for problem in found] == [
        "models.image.replicas.mx",
        "models.image.limits.n",
        "models.image.warm_up_sizes[0]",
        "profle",
        "models.video.gpus",
    ]


def test_another_projects_application_is_let_be() -> None:
    found = report({"anything": 1}, import_path="other.module:app")
    assert found.ok
    assert [problem.level for problem in found.problems] == ["warning"]


@pytest.mark.parametrize("config", [None, [], "applications", {"applications": None}, {"applications": [1]}, {}])
def test_what_is_no_deployments_file(config: object) -> None:
    assert errors(check_config(config))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "twice.yaml").write_text("applications:\n- import_path: a.b:c\n  import_path: serve_app.app:build\n")
    assert "cannot read" in errors(check_file(tmp_path / "absent.yaml"))[0]
    assert "is not YAML" in errors(check_file(tmp_path / "broken.yaml"))[0]
    assert errors(check_file(tmp_path / "twice.yaml")) == ["applications[0].import_path: given twice (line 3)"]


def test_a_lease_must_outlast_a_few_heartbeats() -> None:
    with pytest.raises(ValueError, match="at least three times"):
        Settings.model_validate({"jobs": {"heartbeat_s": 10.5, "stale_s": 30}})
