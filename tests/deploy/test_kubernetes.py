"""The manifests of `deploy/kubernetes`: right by Kubernetes' schemas, locked, bounded, and of what the product has."""

import copy
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from tagger import __version__
from tagger.cli.main import main
from tagger.config.build import resolve
from tagger.daemon.web import answer
from tagger.fleet.file import load
from tagger.ray.hearing import NAME, Options
from tests.healths import snapshot
from tests.programs import ROOT

RAY_PROXY = "/-/healthz"
FOLDER = ROOT / "deploy/kubernetes"
KUSTOMIZATIONS = sorted(FOLDER.rglob("kustomization.yaml"))


def objects() -> list[dict[str, Any]]:
    """All objects of all files, with the images that the kustomizations give them."""
    found = []
    for at in KUSTOMIZATIONS:
        kustomization = yaml.safe_load(at.read_text("utf-8"))
        for name in kustomization["resources"]:
            text = (at.parent / name).read_text("utf-8")
            for image in kustomization["images"]:
                full = f"image: {image['newName']}:{image['newTag']}"
                text = re.sub(rf"image: {image['name']}$", full, text, flags=re.MULTILINE)
            found += list(yaml.safe_load_all(text))
    return found


OBJECTS = objects()
SCHEMAS = json.loads((ROOT / "tests/deploy/schemas/kubernetes.json").read_text("utf-8"))


def pods(found: Any = OBJECTS) -> Iterator[dict[str, Any]]:
    """The specifications of all pods: the objects that have containers."""
    if isinstance(found, list):
        for each in found:
            yield from pods(each)
    elif isinstance(found, dict):
        if "containers" in found:
            yield found
        for each in found.values():
            yield from pods(each)


CONTAINERS = [(pod, container) for pod in pods() for container in pod["containers"]]


def test_every_file_is_in_a_kustomization() -> None:
    named = {at.parent / name for at in KUSTOMIZATIONS for name in yaml.safe_load(at.read_text())["resources"]}
    assert {path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml"} == named
    assert len(CONTAINERS) == 12


def problems(found: dict[str, Any]) -> list[str]:
    """What is wrong by the schema of the object's kind."""
    (name,) = [each for each in SCHEMAS["$defs"] if each.endswith(f".{found['kind']}")]
    validator = jsonschema.Draft202012Validator({**SCHEMAS, "$ref": f"#/$defs/{name}"})
    return [f"{found['kind']} {each.json_path}: {each.message}" for each in validator.iter_errors(found)]


def test_objects_are_right_by_the_published_schemas() -> None:
    of_kubernetes = [each for each in OBJECTS if "ray.io" not in each["apiVersion"]]
    assert len(of_kubernetes) > 10
    assert [problem for each in of_kubernetes for problem in problems(each)] == []


def test_the_schemas_find_what_is_wrong() -> None:
    (found,) = [each for each in OBJECTS if each["kind"] == "Deployment"]
    wrong = copy.deepcopy(found)
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    wrong["spec"]["replicas"] = "one"
    assert len(problems(wrong)) == 2


def test_kustomize_builds_each_folder() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    for at in KUSTOMIZATIONS:
        done = subprocess.run(["kubectl", "kustomize", at.parent], capture_output=True, text=True, check=True)
        assert all(each["metadata"].get("namespace", "tagger") == "tagger" for each in yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize(("pod", "container"), CONTAINERS, ids=[container["name"] for _, container in CONTAINERS])
def test_a_container_is_pinned_bounded_and_locked(pod: dict[str, Any], container: dict[str, Any]) -> None:
    tag = container["image"].rpartition(":")[2]
    assert re.match(r"\d+\.\d+", tag), "the image has a version"
    assert "/tagger:" not in container["image"] or tag == __version__
    for bound in ("requests", "limits"):
        assert {"cpu", "memory"} <= container["resources"][bound].keys()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 999
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {each["name"] for each in pod["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} <= volumes | {"data"}
    assert "hostPath" not in str(pod)


def test_probes_ask_what_the_daemon_answers() -> None:
    probes = [probe for _, container in CONTAINERS for name, probe in container.items() if name.endswith("Probe")]
    paths = {probe["httpGet"]["path"] for probe in probes if "httpGet" in probe}
    assert paths == {"/healthz", "/readyz", RAY_PROXY}
    assert all(answer(path, snapshot()) is not None for path in paths - {RAY_PROXY})


def test_the_service_has_options_of_its_application() -> None:
    (service,) = [each for each in OBJECTS if each["kind"] == "RayService"]
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert application["import_path"] == "tagger.ray.serve:app"
    assert Options.of(application["args"]).models == ("esc50",)
    assert [each["name"] for each in application["deployments"]] == [NAME]
    source = (ROOT / "tagger/ray/serve.py").read_text("utf-8")
    assert "def app(" in source


def test_commands_and_variables_are_tagger_s() -> None:
    ours = [container for _, container in CONTAINERS if "/tagger:" in container["image"] and "args" in container]
    assert [container["args"][0] for container in ours] == ["fleet", "collect", "listen", "listen"]
    for container in ours:
        command: click.Command | None = main
        for name in itertools.takewhile(str.isalpha, container["args"]):
            command = command.get_command(None, name) if isinstance(command, click.Group) else command  # type: ignore[arg-type]
        assert command is not None
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert {arg.partition("=")[0] for arg in container["args"] if arg.startswith("--")} <= flags


def test_the_daemons_accept_their_settings(tmp_path: Path) -> None:
    password = tmp_path / "mqtt_tagger"
    password.write_text("secret")
    text = (FOLDER / "tagger/tagger.toml").read_text("utf-8")
    file = tmp_path / "tagger.toml"
    file.write_text(text.replace("/run/secrets/tagger", str(tmp_path)))
    assert resolve({}, {}, file).problems == []
    text = (FOLDER / "fleet/fleet.toml").read_text("utf-8")
    file.write_text(text.replace("/run/secrets/tagger", str(tmp_path)))
    assert load(file).sources().keys() == {"radio"}
    (microphones,) = [container for _, container in CONTAINERS if container.get("args") == ["listen", "mic"]]
    values = {each["name"]: each.get("value", "node-1") for each in microphones["env"]}
    values["TAGGER_LISTEN_PASSWORD_FILE"] = str(password)
    empty = tmp_path / "empty.toml"
    empty.touch()
    resolved = resolve({}, values, empty)
    assert resolved.problems == []
    assert not [each for each in resolved.warnings if "unknown" in each]
    settings = resolved.right()
    assert settings.mqtt is not None
    assert (settings.mqtt.host, settings.mqtt.user, settings.mqtt.node) == ("mosquitto", "tagger", "node-1")


def test_secrets_are_made_by_the_user_and_all_of_them_are_said() -> None:
    assert not [each for each in OBJECTS if each["kind"] == "Secret"]
    used = set(re.findall(r"key: (\w+)", "".join(path.read_text() for path in FOLDER.rglob("*.yaml")))) - {"app"}
    assert used == set(re.findall(r"--from-literal=(\w+)=", (FOLDER / "README.md").read_text("utf-8")))


def test_the_broker_starts_as_in_compose_and_holds_what_collectors_are_owed() -> None:
    assert (FOLDER / "mosquitto/start").read_text() == (ROOT / "deploy/compose/mosquitto/start").read_text()
    lines = (FOLDER / "mosquitto/mosquitto.conf").read_text().splitlines()
    assert {"max_queued_messages 0", "persistence true", "allow_anonymous false"} <= {*lines}


def test_a_collector_keeps_its_name() -> None:
    (collect,) = [each for each in OBJECTS if each["metadata"]["name"] == "collect" and "template" in each["spec"]]
    assert collect["kind"] == "StatefulSet"  # the pods of a Deployment have another host's name each time
    assert collect["spec"]["replicas"] > 1
