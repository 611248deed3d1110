"""The chart without a cluster: what it renders, what it refuses, which rights it asks for.

After a change that is meant, `PINTAIL_WRITE_SNAPSHOTS=1 scripts/test e2e/chart` records what is rendered; look at it.
"""

import json
import os
import re

import pytest
import yaml
from helm import CASES, CHART, ROOT

SNAPSHOTS = ROOT / "e2e" / "chart" / "snapshots"
NAMES = sorted(path.stem for path in CASES.glob("*.yaml"))


def without_definitions(text: str) -> str:
    """The definitions of the kinds are recorded in crds/ already."""
    documents = re.split(r"(?m)^---\n", text)
    return "---\n".join(document for document in documents if "kind: CustomResourceDefinition" not in document)


def of_kind(objects: list[dict], kind: str) -> list[dict]:
    return [thing for thing in objects if thing["kind"] == kind]


def the(objects: list[dict], kind: str) -> dict:
    (found,) = of_kind(objects, kind)
    return found


def operator(objects: list[dict]) -> dict:
    """The pod template of the operator."""
    return named(objects, "Deployment", "pintail-operator")["spec"]["template"]


def named(objects: list[dict], kind: str, name: str) -> dict:
    (found,) = [thing for thing in of_kind(objects, kind) if thing["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("case", NAMES)
def test_helm_finds_nothing_wrong(helm, case):
    done = helm.run("lint", CHART, "--strict", "--values", CASES / f"{case}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", NAMES)
def test_the_chart_renders_what_is_recorded(helm, case):
    rendered, snapshot = without_definitions(helm.text(case)), SNAPSHOTS / f"{case}.yaml"
    if os.environ.get("PINTAIL_WRITE_SNAPSHOTS"):
        snapshot.write_text(rendered)
    assert rendered == snapshot.read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        "colour=blue",
        "operator.colour=blue",
        "operator.image.colour=blue",
        "operator.replicas=0",
        "operator.replicas=many",
        "images.pullPolicy=Sometimes",
        "runner.image.digest=sha256:12",
        "runner.podTTLSeconds=1",
        "scope.namespaces={a,a}",
        "store.uri=gs://bucket/prefix",
    ],
)
def test_a_value_that_the_chart_does_not_know_is_refused(helm, wrong):
    done = helm.template("--set", "store.uri=s3://data/pintail", "--set", wrong)
    assert done.returncode != 0
    place = "/".join(part for part in wrong.split("=")[0].split(".") if part != "colour")
    assert "values don't meet the specifications of the schema" in done.stderr
    assert place in done.stderr.replace(".", "/"), done.stderr


def test_an_installation_without_a_store_is_refused_in_a_sentence(helm):
    done = helm.template()
    assert done.returncode != 0
    assert "store.uri is needed: the bucket of this installation, as in --set store.uri=s3://bucket/prefix" in done.stderr


def test_every_value_is_used():
    text = "\n".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())

    def leaves(values, path):
        # These are handed over whole.
        if isinstance(values, dict) and values and not path.endswith((".image", ".resources")):
            for name, value in values.items():
                yield from leaves(value, f"{path}.{name}")
        else:
            yield path

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    del values["global"]  # for charts that hold this one
    assert not [path for path in leaves(values, "") if not re.search(rf"\.Values{re.escape(path)}\b", text)]


# --- the kinds


@pytest.mark.parametrize("path", sorted((ROOT / "crds").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_chart_installs_the_kinds_as_they_are_and_keeps_them(helm, path):
    wanted = yaml.safe_load(path.read_text())
    (found,) = [
        thing
        for thing in of_kind(helm.objects("everything"), wanted["kind"])
        if thing["metadata"]["name"] == wanted["metadata"]["name"]
    ]
    assert found["spec"] == wanted["spec"]
    assert found["metadata"]["annotations"] == {
        "argocd.argoproj.io/sync-options": "Prune=false,ServerSideApply=true",
        "helm.sh/resource-policy": "keep",
    }


def test_kinds_are_left_to_others_and_let_go_when_asked(helm):
    assert not of_kind(helm.objects("least", "--set", "crds.install=false"), "CustomResourceDefinition")
    kinds = of_kind(helm.objects("least", "--set", "crds.keep=false"), "CustomResourceDefinition")
    assert kinds and not any("annotations" in kind["metadata"] for kind in kinds)


# --- rights


def rules(thing: dict) -> set[tuple]:
    """`(group, resource, verb, name)` of everything that a role allows."""
    return {
        (group, resource, verb, name)
        for rule in thing["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


@pytest.mark.parametrize("case", NAMES)
def test_no_role_has_a_wildcard_or_reads_a_secret(helm, case):
    for thing in helm.objects(case):
        if thing["kind"] in ("Role", "ClusterRole"):
            for group, resource, verb, _ in rules(thing):
                assert "*" not in (group, resource, verb)
                if thing["metadata"]["name"] == "pintail-admission":
                    continue
                assert not resource.startswith(("secrets", "serviceaccounts", "pods/"))
                assert verb not in ("impersonate", "escalate", "bind", "deletecollection") or "edit" in thing["metadata"]["name"]


def test_the_operator_writes_status_by_its_subresource_alone(helm):
    allowed = rules([role for role in of_kind(helm.objects("least"), "ClusterRole") if role["metadata"]["name"] == "pintail-operator"][0])
    written = {"workflows": set(), "connections": set(), "launchplans": set(), "executions": {"create", "patch", "delete"}}
    for resource, expected in written.items():
        writes = {verb for group, name, verb, _ in allowed if (group, name) == ("pintail.dev", resource)} - {"get", "list", "watch"}
        assert writes == expected, (resource, writes)
        assert ("pintail.dev", f"{resource}/status", "patch", "") in allowed


def test_every_rule_says_why():
    for template in (CHART / "templates").glob("*.*"):
        lines = template.read_text().splitlines()
        for above, line in zip(lines, lines[1:]):
            if line.strip().startswith("- apiGroups:"):
                assert above.strip().startswith("#"), f"{template.name}: {line}"


def test_in_one_namespace_alone_nothing_is_asked_of_the_cluster(helm):
    assert "kind: Cluster" not in helm.text("single")
    assert {thing["metadata"]["namespace"] for thing in helm.objects("single")} == {"pintail-system"}


def test_in_some_namespaces_the_operator_can_elsewhere_only_let_versions_go(helm):
    objects = helm.objects("namespaces")
    bound = {binding["roleRef"]["name"] for binding in of_kind(objects, "ClusterRoleBinding")}
    assert bound == {"pintail-release-pintail-system", "pintail-admission-pintail-system"}
    release = named(objects, "ClusterRole", "pintail-release-pintail-system")
    assert rules(release) == {("pintail.dev", "artifacts", verb, "") for verb in ("get", "list", "watch", "patch")}
    roles = of_kind(objects, "Role")
    assert {role["metadata"]["namespace"] for role in roles} == {"team-a", "team-b", "pintail-system"}
    everywhere = [role for role in of_kind(helm.objects("least"), "ClusterRole") if role["metadata"]["name"] == "pintail-operator"][0]
    for role in roles:
        if role["metadata"]["name"] == "pintail-operator":
            assert rules(role) == rules(everywhere)


def test_the_network_policy_is_for_tasks_and_readers(helm):
    (policy, *_) = [thing for thing in of_kind(helm.objects("namespaces"), "NetworkPolicy") if thing["metadata"]["name"] == "pintail-task"]
    (expression,) = policy["spec"]["podSelector"]["matchExpressions"]
    assert expression == {"key": "app.kubernetes.io/name", "operator": "In", "values": ["pintail-task", "pintail-reader"]}


def test_agents_reach_the_operator_and_nobody_else_reaches_its_port(helm):
    objects = helm.objects("everything")
    (service,) = [thing for thing in of_kind(objects, "Service") if thing["metadata"]["name"] == "pintail-operator-agents"]
    (monitored,) = the(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert monitored["port"] not in {port["name"] for port in service["spec"]["ports"]}
    pod = operator(objects)
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (port,) = [port["containerPort"] for port in pod["spec"]["containers"][0]["ports"] if port["name"] == service["spec"]["ports"][0]["targetPort"]]
    policies = {thing["metadata"]["name"]: thing["spec"] for thing in of_kind(objects, "NetworkPolicy")}
    agents = {"app.kubernetes.io/name": "pintail-agent"}
    rules = [rule for rule in policies["pintail-operator"]["ingress"] if any(allowed["port"] == port for allowed in rule["ports"])]
    assert [rule["from"] for rule in rules] == [[{"namespaceSelector": {}, "podSelector": {"matchLabels": agents}}]]
    assert policies["pintail-agent"]["podSelector"] == {"matchLabels": agents}
    assert any(allowed["port"] == port for rule in policies["pintail-agent"]["egress"] for allowed in rule.get("ports", []))


# --- pods


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("name", ["pintail-operator", "pintail-checker"])
def test_pods_pass_the_strictest_rules(helm, case, name):
    pod = named(helm.objects(case), "Deployment", name)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["livenessProbe"] and container["readinessProbe"]


def test_other_settings_are_another_pod(helm):
    def checksum(*arguments):
        pod = operator(helm.objects("least", *arguments))
        return pod["metadata"]["annotations"]["checksum/settings"]

    assert checksum() == checksum("--set", "operator.replicas=2")
    assert checksum() != checksum("--set", "runner.podTTLSeconds=99")


def test_two_replicas_are_kept_apart_and_up(helm):
    one, two = helm.objects("least"), helm.objects("least", "--set", "operator.replicas=2")
    assert not of_kind(one, "PodDisruptionBudget") and the(two, "PodDisruptionBudget")
    spread = "topologySpreadConstraints"
    assert spread not in operator(one)["spec"]
    assert spread in operator(two)["spec"]


# --- the checker


@pytest.mark.parametrize("case", NAMES)
def test_the_checker_has_no_token_no_secret_and_no_network(helm, case):
    objects = helm.objects(case)
    deployment = named(objects, "Deployment", "pintail-checker")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["automountServiceAccountToken"] is False and "serviceAccountName" not in pod["spec"]
    assert not {"env", "envFrom", "volumeMounts"} & container.keys() and "volumes" not in pod["spec"]
    assert container["resources"]["limits"].keys() == {"memory"}
    policy = named(objects, "NetworkPolicy", "pintail-checker")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"] and policy["egress"] == []
    assert policy["podSelector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    (rule,) = policy["ingress"]
    (allowed,) = rule["from"]
    assert allowed["podSelector"]["matchLabels"].items() <= operator(objects)["metadata"]["labels"].items()


def settings(objects: list[dict]) -> dict:
    return json.loads(named(objects, "ConfigMap", "pintail-operator")["data"]["settings.json"])


def test_the_operator_asks_the_checker_that_is_there(helm):
    objects = helm.objects("least")
    service = named(objects, "Service", "pintail-checker")
    assert settings(objects)["checker"]["url"] == f"http://pintail-checker.{service['metadata']['namespace']}.svc"
    pod = named(objects, "Deployment", "pintail-checker")["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    without = helm.objects("least", "--set", "checker.enabled=false")
    assert "checker" not in settings(without)
    assert not [thing for thing in without if thing["metadata"]["name"] == "pintail-checker"]


# --- admission


def test_the_operator_may_use_one_secret_and_tell_of_its_own_webhook(helm):
    for case in ("least", "namespaces"):
        objects = helm.objects(case)
        webhook = the(objects, "ValidatingWebhookConfiguration")["metadata"]["name"]
        secret = the(objects, "Secret")
        assert not {"data", "stringData"} & secret.keys()
        assert rules(named(objects, "Role", "pintail-admission")) == {
            ("", "secrets", verb, secret["metadata"]["name"]) for verb in ("get", "update")
        }
        assert rules(named(objects, "ClusterRole", webhook)) == {
            ("admissionregistration.k8s.io", "validatingwebhookconfigurations", verb, webhook) for verb in ("get", "patch")
        }
        assert settings(objects)["admission"] == {"configuration": webhook, "service": "pintail-admission"}


@pytest.mark.parametrize("case", ["least", "namespaces", "everything"])
def test_the_webhook_holds_nothing_up_and_leaves_its_trust_to_others(helm, case):
    objects = helm.objects(case)
    (webhook,) = the(objects, "ValidatingWebhookConfiguration")["webhooks"]
    assert (webhook["failurePolicy"], webhook["sideEffects"], webhook["timeoutSeconds"]) == ("Ignore", "None", 5)
    assert "caBundle" not in webhook["clientConfig"]
    service = named(objects, "Service", webhook["clientConfig"]["service"]["name"])
    (port,) = service["spec"]["ports"]
    assert port["port"] == webhook["clientConfig"]["service"]["port"]
    assert port["targetPort"] in [port["name"] for port in operator(objects)["spec"]["containers"][0]["ports"]]
    selected = webhook.get("namespaceSelector", {}).get("matchExpressions", [{}])[0].get("values")
    assert selected == (["team-a", "team-b"] if case == "namespaces" else None)


def test_with_cert_manager_the_operator_touches_no_secret(helm):
    objects = helm.objects("everything")
    certificate = the(objects, "Certificate")
    assert certificate["spec"]["dnsNames"] == ["pintail-admission.pintail-system.svc"]
    assert not of_kind(objects, "Secret") and not [thing for thing in of_kind(objects, "Role") if thing["metadata"]["name"] == "pintail-admission"]
    folder = settings(objects)["admission"]["certificateFolder"]
    assert folder in [mount["mountPath"] for mount in operator(objects)["spec"]["containers"][0]["volumeMounts"]]
    annotations = the(objects, "ValidatingWebhookConfiguration")["metadata"]["annotations"]
    assert annotations == {"cert-manager.io/inject-ca-from": "pintail-system/pintail-admission"}


def test_without_rights_in_the_cluster_there_is_no_webhook(helm):
    for objects in (helm.objects("single"), helm.objects("least", "--set", "admission.enabled=false")):
        assert not [thing for thing in objects if "admission" in thing["metadata"]["name"]]
        assert "admission" not in settings(objects)
