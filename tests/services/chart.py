"""The Helm chart, rendered by Helm's own library: no cluster and no helm program is asked."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

HELM = Path(__file__).parents[2] / "infra" / "helm"
CHART = HELM / "slidewire"
EXAMPLES = HELM / "examples"
VALUES = Path(__file__).parents[1] / "unit" / "infra" / "helm" / "values"
FILES = {
    "hospital": EXAMPLES / "hospital.yaml",
    "cloud": EXAMPLES / "cloud.yaml",
    "minimal": VALUES / "minimal.yaml",
    "everything": VALUES / "everything.yaml",
}
NAMESPACE = "pathology"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as some manifest describes it.

    Parameters
    ----------
    manifest : dict
        What it is part of.
    name : str
        Kind and name of that.
    labels, annotations : dict
    spec : dict
    """

    manifest: dict[str, Any]
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All of them, those that run before the others first."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


@cache
def chart() -> helm_python.Chart:
    """Load the chart, once."""
    return helm_python.Chart.load(CHART)


def values_of(name: str) -> dict[str, Any]:
    """Read the values of an example, as a copy that may be changed."""
    return dict(yaml.safe_load(FILES[name].read_text()))


def changed(values: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return values with one of them, by its path with dots, set to something else."""
    copy = deepcopy(dict(values))
    place = copy
    *parents, last = path.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return copy


def render(values: Mapping[str, Any], name: str = "slidewire") -> list[dict[str, Any]]:
    """Render the chart, as a first installation would."""
    rendered = chart().render(dict(values), name=name, namespace=NAMESPACE)
    texts = (text for path, text in sorted(rendered.items()) if path.endswith(".yaml"))
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest is not None]


@cache
def rendered(name: str) -> tuple[dict[str, Any], ...]:
    """Render an example; not to be changed."""
    return tuple(render(values_of(name)))


def kinds(manifests: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the manifests of a kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pods(manifests: Sequence[dict[str, Any]]) -> Iterator[Pod]:
    """Return what each pod will be."""
    for manifest in manifests:
        spec = manifest.get("spec") or {}
        template = spec.get("jobTargetRef", spec).get("template")
        if template is not None:
            about = template["metadata"]
            name = f"{manifest['kind']}/{manifest['metadata']['name']}"
            yield Pod(manifest, name, about["labels"], about.get("annotations", {}), template["spec"])
