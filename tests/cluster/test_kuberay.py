"""The KubeRay manifests as they are applied: built by kustomize, checked against KubeRay's CRD and our settings."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.check import check_config
from serve_app.cli import main
from serve_app.settings import Settings, resolve
from tests.cluster.crd import problems

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "cluster" / "kuberay"
OVERLAYS = [
    "base",
    *sorted(str(path.parent.relative_to(KUBERAY)) for path in KUBERAY.glob("overlays/*/kustomization.yaml")),
]
RENDERED = sorted(KUBERAY.rglob("serve-config.yaml"))


@cache
def built(overlay: str) -> tuple[dict[str, Any], ...]:
    """The manifests that `kubectl apply -k` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: it holds the kustomize that builds the overlays")
    command = ["kubectl", "kustomize", str(KUBERAY / overlay)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return tuple(yaml.safe_load_all(output))


def rayservice(overlay: str) -> dict[str, Any]:
    return copy.deepcopy(next(manifest for manifest in built(overlay) if manifest["kind"] == "RayService"))


def settings(service: dict[str, Any]) -> Settings:
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    return resolve(Settings.model_validate(config["applications"][0]["args"]), "gpu")


@pytest.fixture
def crd() -> Path:
    if not (path := os.environ.get("RAYSERVICE_CRD")):
        pytest.skip("RAYSERVICE_CRD does not name KubeRay's CRD; .ci/run sets it")
    return Path(path)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_operator_would_take_it(overlay: str, crd: Path) -> None:
    assert problems(rayservice(overlay), crd) == []


def test_the_base_needs_no_kustomize_to_be_valid(crd: Path) -> None:
    assert problems(yaml.safe_load((KUBERAY / "base" / "rayservice.yaml").read_text()), crd) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.serveConfigV3", "x"),
        ("spec.rayClusterConfig.enableInTreeAutoscalling", True),
        ("spec.rayClusterConfig.workerGroupSpecs.0.minReplica", 1),
        ("spec.rayClusterConfig.workerGroupSpecs.0.minReplicas", "one"),
        ("spec.rayClusterConfig.workerGroupSpecs.1.template.spec.containers.0.resources.limit", {}),
        ("spec.rayClusterConfig.headGroupSpec.template.spec.containers.0.readinessProbe.exec.commands", ["x"]),
        ("spec.rayClusterConfig.authOptions.mode", "tokens"),
    ],
)
def test_the_validation_is_strict(crd: Path, path: str, value: object) -> None:
    manifest = yaml.safe_load((KUBERAY / "base" / "rayservice.yaml").read_text())
    manifest = json.loads(json.dumps(manifest))  # what anchors share is parted, so that one place changes alone
    *parents, last = path.split(".")
    place: Any = manifest
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place[last] = value
    found = problems(manifest, crd)
    assert len(found) == 1
    assert last in found[0]


@pytest.mark.parametrize("rendered", RENDERED, ids=lambda path: str(path.parent.relative_to(KUBERAY)))
def test_the_rendered_config_has_not_drifted(rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = rendered.read_text().splitlines()[0].removeprefix("# Made by: diffusion-serve ").split()
    assert Path(command[-1]) == rendered.relative_to(ROOT)
    again = tmp_path / "again.yaml"
    assert main([*command[:-1], str(again)]) == 0
    assert again.read_text().splitlines()[1:] == rendered.read_text().splitlines()[1:]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_config_is_ours_and_valid(overlay: str) -> None:
    config = yaml.safe_load(rayservice(overlay)["spec"]["serveConfigV2"])
    assert config["http_options"]["host"] == "0.0.0.0"
    report = check_config(config)
    assert report.ok, report.problems
    assert not report.problems


def groups(service: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from service["spec"]["rayClusterConfig"]["workerGroupSpecs"]


def gpus(group: dict[str, Any]) -> int:
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return int(limits.get("nvidia.com/gpu", 0))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_replica_has_a_group_that_holds_it(overlay: str) -> None:
    service = rayservice(overlay)
    chosen = settings(service)
    fits: dict[str, list[dict[str, Any]]] = {}
    for name, model in [*chosen.served.items(), ("ingress", chosen.ingress)]:
        fits[name] = [group for group in groups(service) if model.labels.items() <= group["labels"].items()]
        assert len(fits[name]) == 1, f"{name}: one group by its labels {model.labels}"
    for name, model in chosen.served.items():
        group = fits[name][0]
        cpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        assert model.gpus <= gpus(group)
        assert model.cpus <= cpus
        per_pod = int(gpus(group) // model.gpus)
        assert group["maxReplicas"] * per_pod >= model.replicas.max
    shared = [model.gpus for name, model in chosen.served.items() if len(fits[name]) == 1 and 0 < model.gpus < 1]
    assert sum(shared) <= 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_bounds_and_the_head_are_sound(overlay: str) -> None:
    service = rayservice(overlay)
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    for group in groups(service):
        assert 0 <= group["minReplicas"] <= group["maxReplicas"]
    # the old cluster must outlive the longest video, or an upgrade would cut it off
    assert service["spec"]["rayClusterDeletionDelaySeconds"] > max(
        model.time_limit_s for model in settings(service).served.values()
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_run_without_root_and_with_our_image(overlay: str) -> None:
    cluster = rayservice(overlay)["spec"]["rayClusterConfig"]
    for template in [
        cluster["headGroupSpec"]["template"],
        *(group["template"] for group in cluster["workerGroupSpecs"]),
    ]:
        pod, container = template["spec"], template["spec"]["containers"][0]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["serviceAccountName"] == "diffusion-serve"
        assert container["image"].startswith("registry.example.com/diffusion-serve:")
        assert {"name": "metrics", "containerPort": 8080} in container["ports"]
        assert container["readinessProbe"]
        assert container["livenessProbe"]


def test_two_gpu_pods_for_wan_14b() -> None:
    service = rayservice("overlays/wan-14b")
    assert settings(service).served["video"].gpus == 2
    assert [gpus(group) for group in groups(service) if group["groupName"] == "video"] == [2]


def test_a_further_model_has_a_group_of_its_own() -> None:
    service = rayservice("overlays/more-models")
    names = [group["groupName"] for group in groups(service)]
    assert names == ["ingress", "text", "image", "video", "schnell"]
    assert settings(service).served["schnell"].labels == {"diffusion-serve/group": "schnell"}


def test_incremental_upgrade_has_its_gateway_fields() -> None:
    upgrade = rayservice("overlays/incremental-upgrade")["spec"]["upgradeStrategy"]
    assert upgrade["type"] == "NewClusterWithIncrementalUpgrade"
    assert upgrade["clusterUpgradeOptions"].keys() >= {"gatewayClassName", "stepSizePercent", "intervalSeconds"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_pods_name_exists(overlay: str) -> None:
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in built(overlay)}
    assert ("ServiceAccount", "diffusion-serve") in names
    assert ("PersistentVolumeClaim", "diffusion-serve-models") in names
    assert ("Service", "diffusion-serve-redis") in names
    assert ("PodMonitor", "diffusion-serve") in names
