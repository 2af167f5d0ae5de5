"""The network policies: nothing to and from anybody, but what is listed."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.services.chart import FILES, Pod, changed, kinds, pods, render, rendered, values_of


def _selected(policy: dict[str, Any], pod: Pod) -> bool:
    return policy["spec"]["podSelector"]["matchLabels"].items() <= pod.labels.items()


def _reached(component: str, manifests: Sequence[dict[str, Any]]) -> set[tuple[str, int]]:
    """Where a pod may connect to: by address or namespace, and port."""
    pod = next(pod for pod in pods(manifests) if pod.labels["app.kubernetes.io/component"] == component)
    found = set()
    for policy in kinds(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []) if _selected(policy, pod) else []:
            for peer in rule["to"]:
                address = peer.get("ipBlock", {}).get("cidr") or peer["namespaceSelector"]["matchLabels"].get(
                    "kubernetes.io/metadata.name"
                )
                found |= {(address, port["port"]) for port in rule["ports"]}
    return found


@pytest.mark.parametrize("name", FILES)
def test_all_pods_are_denied_everything(name: str) -> None:
    """One policy denies both directions, and selects every pod of the release."""
    denying = [
        policy
        for policy in kinds(rendered(name), "NetworkPolicy")
        if set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not policy["spec"].get("ingress")
        and not policy["spec"].get("egress")
    ]
    assert len(denying) == 1
    assert all(_selected(denying[0], pod) for pod in pods(rendered(name)))


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_allowed_to_all(name: str) -> None:
    """No rule lacks a peer, none allows every address or every namespace."""
    for policy in kinds(rendered(name), "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []) + policy["spec"].get("ingress", []):
            peers = rule.get("to") or rule.get("from")
            assert peers
            for peer in peers:
                assert peer.get("ipBlock", {}).get("cidr") != "0.0.0.0/0"
                assert peer.get("namespaceSelector") != {}


def test_who_reaches_what() -> None:
    """Workers and watch reach servers, what only looks into the ledger reaches that; all can resolve names."""
    dns = {("kube-system", 53)}
    ledger = dns | {("databases", 5432)}
    servers = ledger | {("10.20.0.0/24", 443), ("10.20.0.0/24", 8443), ("brokers", 5672), ("10.20.1.9/32", 443)}
    proxy = {("10.20.1.11/32", 3128)}
    hub = {("10.20.1.10/32", 443)}
    everything, unwatched = (render(values_of("everything") | more) for more in ({}, {"watch": {"endpoints": []}}))
    assert _reached("migrate", everything) == ledger
    assert _reached("metrics", unwatched) == ledger
    assert _reached("watch", everything) == servers | proxy
    assert _reached("worker", everything) == servers | proxy | hub
    assert _reached("metrics", render(values_of("minimal"))) == {
        ("kube-system", 53), ("169.254.20.10/32", 53), ("10.0.0.5/32", 5432),
    }  # fmt: skip


def test_a_peer_in_a_namespace_is_those_pods_there() -> None:
    """Labels narrow a namespace down in the same peer; as a second peer they would widen it."""
    policy = next(
        one for one in kinds(rendered("everything"), "NetworkPolicy") if one["metadata"]["name"].endswith("-migrate")
    )
    (peer,) = (rule["to"] for rule in policy["spec"]["egress"] if rule["ports"][0]["port"] == 5432)
    assert peer == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "databases"}},
            "podSelector": {"matchLabels": {"app": "postgresql"}},
        }
    ]


@pytest.mark.parametrize(("name", "namespace"), [("everything", "observability"), ("minimal", "monitoring")])
def test_only_monitoring_comes_in(name: str, namespace: str) -> None:
    """One namespace may connect, to the port of the metrics."""
    rules = [rule for policy in kinds(rendered(name), "NetworkPolicy") for rule in policy["spec"].get("ingress", [])]
    assert rules == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}],
            "ports": [{"protocol": "TCP", "port": "metrics"}],
        }
    ]


def test_policies_can_be_left_to_others() -> None:
    """Without policies there is none, and nothing has to be listed."""
    values = changed(values_of("minimal"), "networkPolicy", {"enabled": False})
    assert kinds(render(values), "NetworkPolicy") == []
