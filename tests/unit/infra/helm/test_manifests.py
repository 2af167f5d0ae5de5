"""What the chart makes is what Kubernetes takes, and no pod may do more than it must."""

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import click
import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from tests.services.chart import CHART, FILES, HELM, changed, chart, kinds, pods, render, rendered, values_of
from worker.cli import app

_SCHEMAS = Path(__file__).parent / "schemas"
_FOREIGN = {"keda.sh/v1alpha1", "monitoring.coreos.com/v1"}
_ROOT = HELM.parents[1]
_SECRETS = re.compile(r"password|passwd|token|secret|credential", re.IGNORECASE)


def _validate(manifest: dict[str, Any], version: str) -> None:
    if manifest["apiVersion"] in _FOREIGN:
        schema = json.loads((_SCHEMAS / f"{manifest['kind'].lower()}.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(manifest)
        if manifest["kind"] == "ScaledJob":  # what KEDA makes of it
            job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "worker-"}}
            kubernetes_validate.validate(job | {"spec": manifest["spec"]["jobTargetRef"]}, version, strict=True)
        return
    kubernetes_validate.validate(manifest, version, strict=True)


def test_kubernetes_takes_it() -> None:
    """Every manifest fits the API's own schema, or the one we wrote, and has no unknown field."""
    for manifest in rendered("everything"):
        _validate(manifest, "1.37")


@pytest.mark.faults
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("version", [f"1.{minor}" for minor in range(29, 38)])
def test_every_kubernetes_takes_it(name: str, version: str) -> None:
    """The same for all examples, and every version from the oldest that the chart allows."""
    for manifest in rendered(name):
        _validate(manifest, version)


def test_a_wrong_field_is_seen() -> None:
    """The schemas are strict: a field that does not exist is no valid manifest, neither ours nor another's."""
    for kind in ("Deployment", "ScaledJob", "NetworkPolicy", "PodDisruptionBudget"):
        manifest = kinds(rendered("everything"), kind)[0]
        with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
            _validate(changed(manifest, "spec.maxUnavailible", 1), "1.37")
    job = kinds(rendered("everything"), "ScaledJob")[0]
    with pytest.raises(kubernetes_validate.ValidationError):
        _validate(changed(job, "spec.jobTargetRef.backofLimit", 1), "1.37")


@pytest.mark.parametrize("name", FILES)
def test_helm_lints_it(name: str) -> None:
    """Helm's own linter has no complaint; that the chart has no icon it may remark on."""
    report = helm_python.lint(CHART, values_of(name), strict=True)
    assert [message for message in report["messages"] if "icon" not in message["error"]] == []
    assert report["errors"] == []


@pytest.mark.parametrize("name", FILES)
def test_names_are_unique_and_short(name: str) -> None:
    """No two objects have one name; those that get a suffix leave room for it in a label of 63 characters."""
    named = Counter((one["kind"], one["metadata"]["name"]) for one in rendered(name))
    assert [key for key, count in named.items() if count > 1] == []
    assert all(len(manifest_name) <= 56 for _, manifest_name in named)


def test_a_long_release_name_is_cut() -> None:
    """With the longest names that are allowed every name still is one, and no two pools become the same."""
    values = values_of("everything")
    values["pools"] = {"a" * 15 + "b": values["pools"]["cpu"], "a" * 15 + "c": values["pools"]["cpu"]}
    manifests = render(values, name="r" * 53)
    jobs = kinds(manifests, "ScaledJob")
    assert len({job["metadata"]["name"] for job in jobs}) == 2
    assert all(len(job["metadata"]["name"]) <= 56 for job in jobs)
    labels = [one["metadata"]["labels"] for one in manifests] + [pod.labels for pod in pods(manifests)]
    assert max(len(value) for each in labels for value in each.values()) <= 63


def test_chart_has_the_version_of_the_package() -> None:
    """The chart, and the image it asks for, have the version that pyproject.toml has."""
    version = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart().version, chart().metadata["appVersion"]) == (version, version)
    worker = next(pods(rendered("minimal")))
    assert worker.containers[0]["image"] == f"registry.example.org/slidewire-worker-cpu:{version}"


def test_images() -> None:
    """A digest counts before a tag; a pool with an image of its own does not get the digest of the shared one."""
    images = {pod.name: pod.spec["containers"][0]["image"] for pod in pods(rendered("everything"))}
    shared = f"registry.example.org/slidewire-worker-cpu@{values_of('everything')['image']['digest']}"
    assert images.pop("Deployment/slidewire-embeddings-worker-gpu-l4").endswith("worker-torch-cuda:0.1.0-cuda")
    assert images.pop("ScaledJob/slidewire-embeddings-worker-gpu-l4").endswith("worker-torch-cuda:0.1.0-cuda")
    assert set(images.values()) == {shared}


@pytest.mark.parametrize("name", FILES)
def test_pod_may_do_little(name: str) -> None:
    """Not root, no token of the cluster, nothing written but to volumes, no privilege, the default seccomp profile."""
    for pod in pods(rendered(name)):
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["enableServiceLinks"] is False  # a Service `slidewire` would set SLIDEWIRE_PORT
        security = pod.spec["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, 10001, 10001)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
        assert not set(pod.spec) & {"hostNetwork", "hostPID", "hostIPC"}
        assert not [volume for volume in pod.spec["volumes"] if "hostPath" in volume]


@pytest.mark.parametrize("name", FILES)
def test_pod_can_write_where_it_must(name: str) -> None:
    """Temporary files and state have a volume; every mount has one, and every volume a mount."""
    for pod in pods(rendered(name)):
        for container in pod.containers:
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert {"/tmp", "/srv/slidewire/state"} <= set(mounts)
            assert not mounts["/tmp"].get("readOnly")
            environment = {entry["name"]: entry.get("value") for entry in container["env"]}
            assert environment["SLIDEWIRE_STATE_FOLDER"] in mounts
            assert f"{mounts['/etc/slidewire']['mountPath']}/slidewire.toml" == environment["SLIDEWIRE_CONFIG"]
        mounted = {mount["name"] for container in pod.containers for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod.spec["volumes"]}


@pytest.mark.parametrize("name", FILES)
def test_secrets_come_from_secrets(name: str) -> None:
    """Whatever is named like a secret is a reference to one, and no variable is set twice."""
    for pod in pods(rendered(name)):
        for container in pod.containers:
            names = [entry["name"] for entry in container["env"]]
            assert [name for name, count in Counter(names).items() if count > 1] == []
            for entry in container["env"]:
                if _SECRETS.search(entry["name"]) or entry["name"] in {"SLIDEWIRE_LEDGER_URL", "SLIDEWIRE_BROKER_URL"}:
                    assert set(entry["valueFrom"]) == {"secretKeyRef"}


def test_no_secret_is_made() -> None:
    """The chart makes no Secret, so that none is in a release's history."""
    assert [one for name in FILES for one in rendered(name) if one["kind"] == "Secret"] == []


def test_who_sees_which_secret() -> None:
    """What only looks into the ledger has the ledger's secret and no other; no worker has the hub's token."""
    seen = {}
    unwatched = render(changed(values_of("everything"), "watch.endpoints", []))
    for pod in [*pods(rendered("everything")), *pods(unwatched)]:
        for container in pod.containers:
            references = [entry["valueFrom"]["secretKeyRef"]["name"] for entry in container["env"] if "secretKeyRef" in
                          entry.get("valueFrom", {})]  # fmt: skip
            seen.setdefault(container["name"].partition("-")[0], set()).update(references)
    servers, ledger = {"ledger-app", "broker", "pacs", "token-client", "webhook"}, {"ledger-app"}
    assert seen == {
        "worker": servers, "watch": servers, "metrics": ledger, "migrate": ledger, "fetch": ledger | {"hub"},
    }  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_service_account_exists(name: str) -> None:
    """Every pod has an account that the chart makes, and that mounts no token either."""
    accounts = {account["metadata"]["name"]: account for account in kinds(rendered(name), "ServiceAccount")}
    for pod in pods(rendered(name)):
        assert accounts[pod.spec["serviceAccountName"]]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", FILES)
def test_probes_ask_the_metrics_port(name: str) -> None:
    """What runs for long is asked at /livez and /readyz, on the port that its process is told to listen on."""
    for pod in pods(rendered(name)):
        container = pod.spec["containers"][0]
        if container["name"] == "migrate":
            assert not {"livenessProbe", "readinessProbe", "startupProbe"} & set(container)
            continue
        paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
        (port,) = container["ports"]
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert port["name"] == container["livenessProbe"]["httpGet"]["port"] == "metrics"
        assert (environment["SLIDEWIRE_METRICS_PORT"], environment["SLIDEWIRE_METRICS_HOST"]) == (
            str(port["containerPort"]),
            "0.0.0.0",
        )


@pytest.mark.parametrize("name", FILES)
def test_there_is_time_for_a_checkpoint(name: str) -> None:
    """A worker has the 120 s that it may take to leave, and a margin."""
    for pod in pods(rendered(name)):
        if pod.labels["app.kubernetes.io/component"] == "worker":
            assert pod.spec["terminationGracePeriodSeconds"] >= 130


@pytest.mark.parametrize("name", FILES)
def test_budgets_select_what_they_are_for(name: str) -> None:
    """Every worker that stands is under exactly one budget, which lets one go at a time."""
    budgets = kinds(rendered(name), "PodDisruptionBudget")
    for pod in pods(rendered(name)):
        over = [one for one in budgets if one["spec"]["selector"]["matchLabels"].items() <= pod.labels.items()]
        if pod.manifest["kind"] == "Deployment" and pod.labels["app.kubernetes.io/component"] == "worker":
            assert [one["spec"].get("maxUnavailable") for one in over] == [1]
        elif pod.name == "ScaledJob/slidewire-embeddings-worker-cpu":
            # Of Jobs Kubernetes knows no scale: only a number, and as many as there can be lets none go.
            assert [one["spec"].get("minAvailable") for one in over] == [pod.manifest["spec"]["maxReplicaCount"]]
        else:
            assert over == []


@pytest.mark.parametrize("name", FILES)
def test_deployments_own_their_pods_only(name: str) -> None:
    """No Deployment's selector fits another's pods."""
    everything = list(pods(rendered(name)))
    for deployment in kinds(rendered(name), "Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        fitting = [pod.name for pod in everything if selector.items() <= pod.labels.items()]
        assert fitting == [f"Deployment/{deployment['metadata']['name']}"]


def test_gpus() -> None:
    """A worker with a GPU asks for it and refuses to do without; nobody else sees one."""
    for pod in pods(rendered("everything")):
        container = pod.spec["containers"][0]
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        limits = container["resources"].get("limits", {})
        if pod.labels.get("slidewire/pool") == "gpu-l4":
            assert limits["nvidia.com/mig-3g.40gb"] == 1
            assert environment["SLIDEWIRE_DEVICE"] == "cuda"
            assert "NVIDIA_VISIBLE_DEVICES" not in environment
        else:
            assert not [resource for resource in limits if resource.startswith("nvidia.com")]
            assert environment["NVIDIA_VISIBLE_DEVICES"] == "void"
            assert environment.get("SLIDEWIRE_DEVICE", "cpu") == "cpu"


def test_pool_settings_reach_the_worker() -> None:
    """Encoders, lanes, settings and placement of a pool are those of its workers; only Jobs leave."""
    both = {pod.manifest["kind"]: pod for pod in pods(rendered("everything")) if pod.name.endswith("worker-gpu-l4")}
    standing = ["worker", "--encoder", "uni", "--encoder", "timm:resnet50.a1_in1k", "--encoder", "house-model",
                "--lane", "interactive", "--lane", "backfill"]  # fmt: skip
    assert both["Deployment"].spec["containers"][0]["args"] == standing
    assert both["ScaledJob"].spec["containers"][0]["args"] == [*standing, "--leave-after", "120"]
    for pod in both.values():
        environment = {entry["name"]: entry.get("value") for entry in pod.spec["containers"][0]["env"]}
        assert (environment["SLIDEWIRE_BATCH_SIZE"], environment["SLIDEWIRE_STALL_S"]) == ("256", "600")
        assert pod.spec["nodeSelector"] == {"accelerator": "l4"}
        assert (pod.spec["runtimeClassName"], pod.spec["priorityClassName"]) == ("nvidia", "batch")
        assert pod.annotations["example.org/team"] == "pathology"
        assert [container["args"] for container in pod.spec["initContainers"]] == [["encoders", "fetch", "uni"]]
    (cpu,) = (pod for pod in pods(rendered("everything")) if pod.name == "Deployment/slidewire-embeddings-worker-cpu")
    assert [container["args"] for container in cpu.containers] == [["worker", "--encoder", "efficientnet-lite0"]]


def test_a_pool_says_otherwise_than_the_defaults() -> None:
    """What a pool says counts, be it 0, empty or false; what it does not say comes from the defaults."""
    values = values_of("everything")
    values["poolDefaults"] |= {
        "workers": {"min": 2, "max": 4},
        "gpu": {"count": 1},
        "drainsWait": True,
        "lanes": ["backfill"],
    }
    own = {"workers": {"min": 0}, "gpu": {"count": 0}, "drainsWait": False, "encoders": [], "lanes": []}
    values["weights"] = {"existingClaim": "weights"}
    values["pools"] = {"p": own | {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}}
    manifests = render(values)
    (job,) = kinds(manifests, "ScaledJob")
    assert job["spec"]["maxReplicaCount"] == 4
    assert kinds(manifests, "PodDisruptionBudget") == []
    (pod,) = pods([job])
    assert pod.containers[0]["args"] == ["worker", "--leave-after", "300"]
    assert "nvidia.com/gpu" not in pod.containers[0]["resources"].get("limits", {})


def test_weights_are_read_only() -> None:
    """A worker cannot change its weights; only what fetches them can write there."""
    for pod in pods(rendered("everything")):
        if pod.labels["app.kubernetes.io/component"] == "worker":
            *fetching, worker = pod.containers
            mounts = [next(m for m in one["volumeMounts"] if m["name"] == "weights") for one in (*fetching, worker)]
            assert len(fetching) == ("gpu" in pod.name)
            assert [mount.get("readOnly", False) for mount in mounts] == [False] * len(fetching) + [True]


@pytest.mark.parametrize("name", FILES)
def test_commands_exist(name: str) -> None:
    """Every container is told a command and options that Slidewire has."""
    for pod in pods(rendered(name)):
        for container in pod.containers:
            command: Any = get_command(app)
            arguments = container["args"]
            while hasattr(command, "resolve_command"):
                _, command, arguments = command.resolve_command(click.Context(command), list(arguments))
            command.make_context(None, list(arguments))


def test_one_watch_an_endpoint() -> None:
    """Each watched endpoint has one process, never two at a time; then no other process serves the ledger's metrics."""
    deployments = {one["metadata"]["name"]: one["spec"] for one in kinds(rendered("everything"), "Deployment")}
    for endpoint in ("pacs", "research"):
        spec = deployments[f"slidewire-embeddings-watch-{endpoint}"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
        assert spec["template"]["spec"]["containers"][0]["args"] == ["watch", endpoint]
    assert "slidewire-embeddings-metrics" not in deployments
    (metrics,) = (
        one for one in kinds(rendered("minimal"), "Deployment") if one["metadata"]["name"].endswith("-metrics")
    )
    assert metrics["spec"]["template"]["spec"]["containers"][0]["args"] == ["metrics", "--serve"]


@pytest.mark.parametrize("name", FILES)
def test_migration_runs_before_anything_of_the_release_exists(name: str) -> None:
    """The hook needs nothing but what other hooks make before it, and Secrets that exist already."""
    hooks = [one for one in rendered(name) if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    order = {one["kind"]: int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in hooks}
    assert set(order) == {"ServiceAccount", "ConfigMap", "Job"}
    assert max(order, key=order.__getitem__) == "Job"
    made = {(one["kind"], one["metadata"]["name"]) for one in hooks}
    (job,) = pods([one for one in hooks if one["kind"] == "Job"])
    assert ("ServiceAccount", job.spec["serviceAccountName"]) in made
    for volume in job.spec["volumes"]:
        assert "emptyDir" in volume or ("ConfigMap", volume["configMap"]["name"]) in made
    assert job.spec["containers"][0]["args"] == ["ledger", "migrate"]
    moments = {one["metadata"]["annotations"]["helm.sh/hook"] for one in hooks}
    assert moments == {"pre-upgrade" if name == "everything" else "pre-install,pre-upgrade"}


def test_changed_settings_start_new_pods() -> None:
    """Another configuration is another pod, also of KEDA's Jobs; the same one is the same."""
    before = {pod.name: pod.annotations.get("slidewire/config") for pod in pods(rendered("everything"))}
    again = {pod.name: pod.annotations.get("slidewire/config") for pod in pods(render(values_of("everything")))}
    after = {
        pod.name: pod.annotations.get("slidewire/config")
        for pod in pods(render(changed(values_of("everything"), "config.batch_size", 32)))
    }
    assert before == again
    assert {name for name, digest in before.items() if digest == after[name]} == {"Job/slidewire-embeddings-migrate"}


def test_checkpoints_are_shared_and_outlive_the_chart() -> None:
    """All workers mount the same claim, which many may write to, and which uninstalling leaves alone."""
    (claim,) = kinds(rendered("hospital"), "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert kinds(rendered("everything"), "PersistentVolumeClaim") == []
    for name, expected in (("hospital", claim["metadata"]["name"]), ("everything", "shared-checkpoints")):
        for pod in pods(rendered(name)):
            if pod.labels["app.kubernetes.io/component"] == "worker":
                volume = next(one for one in pod.spec["volumes"] if one["name"] == "checkpoints")
                assert volume["persistentVolumeClaim"]["claimName"] == expected


def test_alerts_are_those_of_prometheus() -> None:
    """The rule's groups are those of infra/prometheus/alerts.yml, and a packaged chart has the file itself."""
    alerts = (HELM.parent / "prometheus" / "alerts.yml").read_text()
    assert {one["name"]: one["data"] for one in chart().files}["files/alerts.yml"] == alerts
    (rule,) = kinds(rendered("everything"), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(alerts)
    assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_dashboard_is_that_of_grafana() -> None:
    """The dashboard is the one of infra/grafana, every panel with the data source that the values name."""
    (dashboard,) = (
        one for one in kinds(rendered("everything"), "ConfigMap") if "-dashboard" in one["metadata"]["name"]
    )
    ours = (HELM.parent / "grafana" / "dashboards" / "slidewire.json").read_text()
    source = '"type": "prometheus", "uid": "prometheus"'
    flat = " ".join(dashboard["data"]["slidewire.json"].split())
    assert flat == " ".join(ours.split()).replace('"type": "prometheus", "uid": "slidewire"', source)
    assert flat.count(source) == flat.count('"datasource"')


def test_monitor_finds_every_process() -> None:
    """The monitor's selector and port fit all pods that serve metrics."""
    (monitor,) = kinds(rendered("everything"), "PodMonitor")
    selector = monitor["spec"]["selector"]["matchLabels"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for pod in pods(rendered("everything")):
        assert selector.items() <= pod.labels.items()
        if pod.labels["app.kubernetes.io/component"] != "migrate":
            assert endpoint["port"] in [port["name"] for port in pod.spec["containers"][0]["ports"]]
    (relabeling,) = endpoint["relabelings"]
    assert relabeling["sourceLabels"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_component"]
    assert (relabeling["targetLabel"], relabeling["replacement"]) == ("job", "slidewire-$1")
