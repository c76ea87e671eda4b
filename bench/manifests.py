"""Checks what deploy/kubernetes has for KubeRay against its CustomResourceDefinitions, and what it serves against Ray.

    git clone --depth 1 https://github.com/ray-project/kuberay && python bench/manifests.py kuberay

Needs kubectl, for `kubectl kustomize`, and the extras `dev` and `serve`.
"""

import subprocess
import sys
from pathlib import Path

import click
import jsonschema
import yaml

ROOT = Path(__file__).parent.parent
CRDS = "ray-operator/config/crd/bases"


@click.command()
@click.argument("kuberay", type=click.Path(path_type=Path, exists=True))
def main(kuberay: Path) -> None:
    """KUBERAY is a checkout of KubeRay, or its folder of CustomResourceDefinitions."""
    folder = kuberay / CRDS if (kuberay / CRDS).is_dir() else kuberay
    built = "---\n".join(
        subprocess.run(["kubectl", "kustomize", ROOT / each], capture_output=True, text=True, check=True).stdout
        for each in ("deploy/kubernetes/ray", "deploy/kubernetes/fleet", "deploy/kubernetes/serve")
    )
    wrong = 0
    for found in yaml.safe_load_all(built):
        group, _, version = found["apiVersion"].partition("/")
        if group != "ray.io":
            continue
        crd = yaml.safe_load((folder / f"ray.io_{found['kind'].lower()}s.yaml").read_text("utf-8"))
        (schema,) = [each["schema"]["openAPIV3Schema"] for each in crd["spec"]["versions"] if each["name"] == version]
        problems = list(jsonschema.Draft202012Validator(_strict(schema)).iter_errors(found))
        for each in problems:
            print(f"{found['kind']} {found['metadata']['name']}: {each.json_path}: {each.message[:200]}")
        if (config := found["spec"].get("serveConfigV2")) is not None:
            from ray.serve.schema import ServeDeploySchema

            ServeDeploySchema.model_validate(yaml.safe_load(config))
        wrong += len(problems)
        print(f"{found['kind']} {found['metadata']['name']}: {len(problems)} problems")
    sys.exit(wrong > 0)


def _strict(schema: object) -> object:
    """The schema, in which a field that it does not name is wrong, as `kubectl apply --validate=strict` has it."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _strict(each) for name, each in schema.items()}
    named = found.get("properties")
    is_open = found.get("type") != "object" or found.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(named, dict) and "metadata" not in named and not is_open:
        found.setdefault("additionalProperties", False)
    if found.pop("x-kubernetes-int-or-string", False):
        found.pop("type", None)
    return found


if __name__ == "__main__":
    main()
