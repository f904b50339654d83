"""The other files of cluster/: the image, the cluster of own machines, and what the operator's guide promises."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from serve_app.cli import main

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not on the PATH; make test puts it there")
    found = subprocess.run([hadolint, str(CLUSTER / "Dockerfile")], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_image_holds_what_ray_and_kuberay_need() -> None:
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    assert "wget" in dockerfile  # KubeRay's probes
    assert "RAY_worker_niceness=0" in dockerfile
    assert "RAY_SERVE_ENABLE_HA_PROXY=1" in dockerfile
    uid = re.search(r"^USER (\d+)$", dockerfile, re.MULTILINE)
    assert uid is not None
    assert f"runAsUser: {uid[1]}" in (CLUSTER / "kuberay" / "base" / "rayservice.yaml").read_text()


def test_the_image_alone_lets_nobody_in_without_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    command = re.search(r"^CMD (\[.*\])$", (CLUSTER / "Dockerfile").read_text().replace("\\\n", ""), re.MULTILINE)
    assert command is not None
    program, up, *options = json.loads(command[1])
    assert (program, up) == ("diffusion-serve", "up")
    shipped = [str(ROOT / option) if option == "deployments.yaml" else option for option in options]
    assert main([up, *shipped, "--print"]) == 0
    printed = capsys.readouterr()
    config = yaml.safe_load(printed.out)
    assert config["http_options"]["host"] == "0.0.0.0"
    assert config["applications"][0]["args"]["access"]["keys_env"] == "DIFFUSION_SERVE_API_KEYS"
    assert "no API keys" not in printed.err


def test_the_versions_of_ray_agree() -> None:
    service = yaml.safe_load((CLUSTER / "kuberay" / "base" / "rayservice.yaml").read_text())
    version = service["spec"]["rayClusterConfig"]["rayVersion"]
    assert f"ray=={version}\n" in (ROOT / "requirements-gpu.lock").read_text()


def test_ray_up_takes_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((CLUSTER / "ray-cluster.yaml").read_text())))


@pytest.mark.parametrize("path", sorted(CLUSTER.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CLUSTER)))
def test_the_guide_names_every_file_with_a_value_to_change(path: Path) -> None:
    if re.search(r"CHANGE", path.read_text()) and path.name != "serve-config.yaml":
        guide = (CLUSTER / "README.md").read_text()
        assert str(path.relative_to(CLUSTER)) in guide
