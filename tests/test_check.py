"""Every mistake in a deployments file is found, all at once, with the path of its key."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.check import DEPLOYMENTS, Report, check_config, check_file
from serve_app.settings import DEMO, GPU, Settings, resolve

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "deployments.yaml"
APPLICATION: dict[str, Any] = {"name": "diffusion", "import_path": "serve_app.app:build"}


def report(args: dict[str, Any] | None = None, **application: Any) -> Report:
    return check_config({"applications": [{**APPLICATION, **application, "args": args or {}}]})


def errors(found: Report) -> list[str]:
    return [str(problem) for problem in found.problems if problem.level == "error"]


def in_args(args: dict[str, Any]) -> list[str]:
    return [error.removeprefix("applications[0].args.") for error in errors(report(args))]


def test_the_shipped_file_is_correct() -> None:
    found = check_file(SHIPPED)
    assert found.problems == ()
    assert found.summary.startswith("application 'diffusion' on 127.0.0.1:8000/: profile demo: text demo/llada2-tiny")


def test_the_shipped_file_names_every_key() -> None:
    text = SHIPPED.read_text()

    def names(model: dict[str, Any]) -> set[str]:
        inner = [names(value) for value in model.values() if isinstance(value, dict)]
        return set(model).union(*inner)

    missing = [name for name in names(Settings().model_dump()) if not re.search(rf"\b{name}\b", text)]
    assert missing == []


@pytest.mark.parametrize("profile", ["demo", "gpu"])
def test_the_defaults_in_the_comments_are_true(profile: str) -> None:
    """Uncommenting the whole of text, image and video, with that profile's value where two stand, changes nothing."""
    lines = SHIPPED.read_text().splitlines()
    shown: list[str] = []
    for line in lines:
        if match := re.fullmatch(r"( {8})# ( *)([a-z_]+): (.*)", line):
            indent, deeper, key, rest = match.groups()
            value = re.split(r"\s{2,}", rest)[0]
            pick = re.sub(r"([^\s{,]+) \| ([^\s},]+)", r"\1" if profile == "demo" else r"\2", value)
            shown.append(f"{indent}{deeper}{key}: {pick}")
        elif match := re.fullmatch(r"( {8})# ( *)([a-z_]+):", line):
            shown.append(f"{match[1]}{match[2]}{match[3]}:")
        else:
            shown.append(line)
    args = yaml.safe_load("\n".join(shown))["applications"][0]["args"]
    args.update(profile=profile)
    args["media"].pop("root")
    kinds = {kind: args[kind] for kind in ("text", "image", "video")}
    assert all(len(kind) > 10 for kind in kinds.values())
    written = resolve(Settings.model_validate({**args, **kinds}), "demo" if profile == "demo" else "gpu")
    plain = resolve(Settings(profile="demo" if profile == "demo" else "gpu"), "demo" if profile == "demo" else "gpu")
    assert written.model_dump() == plain.model_dump()


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
            "applications.0.args.image.replicas",
            "mx",
            "applications[0].args.image.replicas.mx: unknown key; did you mean 'max'?",
        ),
        (
            "applications.0.args.text",
            "max_tokens",
            "applications[0].args.text.max_tokens: unknown key; did you mean 'defaults.max_tokens'?",
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
                "deployments": [{"name": "Text", "ray_actor_options": {}, "autoscaling_config": {}}],
                "args": {"text": {}, "image": {"replicas": {}}},
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
    assert problem.startswith("media.xyzzy: unknown key; known: provenance, public_url, redirect, root")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            {"text": {"gpus": 1.5}},
            "text.gpus: 1.5 GPUs: a fraction must be below 1, and more than one GPU a whole number",
        ),
        (
            {"profile": "gpu", "video": {"gpus": 0.5, "parallel": "tensor"}},
            "video.parallel: parallel: tensor splits a model over 2 GPUs or more, but gpus is 0.5",
        ),
        (
            {"profile": "gpu", "video": {"parallel": "cfg"}},
            "video.parallel: parallel: cfg splits a model over 2 GPUs or more, but gpus is 1",
        ),
        (
            {"profile": "gpu", "video": {"gpus": 3, "parallel": "cfg"}},
            "video.gpus: parallel: cfg halves the GPUs, so it needs an even count, not 3",
        ),
        (
            {"profile": "gpu", "text": {"gpus": 2, "parallel": "sequence"}},
            "text.parallel: text runs on several GPUs by tensor parallelism only, not 'sequence'",
        ),
        (
            {"profile": "gpu", "image": {"gpus": 0}},
            "image.gpus: the sglang engine needs a GPU: 1, 2 ... or a fraction of one",
        ),
        (
            {"profile": "gpu", "image": {"engine": "diffusers", "gpus": 2}},
            "image.gpus: the diffusers engine uses one GPU at most, not 2",
        ),
        ({"image": {"gpus": -1}}, "image.gpus: input should be greater than or equal to 0"),
    ],
)
def test_impossible_gpu_counts(args: dict[str, Any], expected: str) -> None:
    assert in_args(args) == [expected]


@pytest.mark.parametrize(
    "args",
    [
        {"profile": "gpu", "text": {"gpus": 2, "parallel": "tensor"}},
        {"profile": "gpu", "video": {"gpus": 2, "parallel": "cfg"}},
        {"profile": "gpu", "video": {"gpus": 0.4}, "image": {"gpus": 0.4}, "text": {"gpus": 0.2}},
    ],
)
def test_possible_gpu_counts(args: dict[str, Any]) -> None:
    assert report(args).problems == ()


def test_gpus_in_the_demo_are_only_a_warning() -> None:
    found = report({"profile": "demo", "image": {"gpus": 1}})
    assert [problem.level for problem in found.problems] == ["warning"]
    assert found.ok
    assert found.summary


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        (
            {"import_path": "serve_app.ap:build"},
            "applications[0].import_path: no such builder; did you mean 'serve_app.app:build'?",
        ),
        (
            {"deployments": [{"name": "image"}]},
            "applications[0].deployments[0].name: no deployment 'image'; did you mean 'Image'?",
        ),
        (
            {"deployments": [{"name": "Text", "ray_actor_options": {"num_gpus": 1.5}}]},
            "applications[0].deployments[0].ray_actor_options.num_gpus: "
            "1.5 GPUs: a fraction must be below 1, and more than one GPU a whole number",
        ),
        (
            {"deployments": [{"name": "Text", "autoscaling_config": {"max_replicas": "many"}}]},
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


def test_all_problems_come_at_once() -> None:
    found = in_args(
        {
            "profle": "gpu",
            "image": {"replicas": {"mx": 3, "min": 3}, "limits": {"n": 11}, "warm_up_sizes": [[256]]},
            "video": {"gpus": 2, "parallel": "cfg"},
        }
    )
    assert [problem.split(": ")[0] for problem in found] == [
        "profle",
        "image.replicas.mx",
        "image.limits.n",
        "image.warm_up_sizes[0]",
        "video.gpus",
    ]


def test_one_name_for_two_models() -> None:
    assert in_args({"profile": "demo", "image": {"served_name": "m"}, "video": {"served_name": "m"}}) == [
        "video.served_name: 'm' is also the name of the image model"
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


def test_the_deployment_names_are_those_of_the_application() -> None:
    source = (ROOT / "serve_app" / "app.py").read_text()
    fixed = set(re.findall(r'name="(\w+)"', source))
    assert fixed | {"Text", "Image", "Video"} == set(DEPLOYMENTS)
    assert set(DEMO) | set(GPU) == {"text", "image", "video", "ingress"}


def test_a_lease_must_outlast_a_few_heartbeats() -> None:
    with pytest.raises(ValueError, match="at least three times"):
        Settings.model_validate({"jobs": {"heartbeat_s": 20, "stale_s": 30}})
