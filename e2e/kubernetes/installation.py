"""Pintail on the cluster as a user installs it: images, the chart by the README's command, a namespace for each test."""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from cluster import GROUP, KINDS, ROOT, Cluster, eventually, is_over, of_cluster

# The tests have a module of that name, too.
_spec = importlib.util.spec_from_file_location("example_servers", ROOT / "examples" / "servers.py")
example_servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(example_servers)

SYSTEM = "pintail-system"
OPERATOR = "app.kubernetes.io/name=pintail,app.kubernetes.io/component=operator"
WEBHOOK = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/pintail-admission-{SYSTEM}"
IMAGES = ("pintail-operator", "pintail-runner")


@dataclass(frozen=True)
class Build:
    """Where the programs of a build are, and how its images are called."""

    programs: Path
    archives: Path
    registry: str = ""

    def missing(self) -> list[str]:
        return [str(path) for path in (self.programs / name for name in IMAGES) if not path.exists()]

    def make_images(self) -> None:
        """Archives of the programs, made anew when those have changed."""
        parts = [self.programs / name for name in IMAGES] + sorted((ROOT / "lib").rglob("*.*"))
        sources = parts + sorted((ROOT / "xtask" / "src" / "image").glob("*.rs"))
        key = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sources)).hexdigest()
        done = self.archives / "made-of"
        if done.exists() and done.read_text() == key:
            return
        xtask = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "xtask"
        places = ["--programs", self.programs, "--output", self.archives, "--prefix", self.registry]
        subprocess.run([xtask, "image", *places], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        done.write_text(key)

    def import_images(self, cluster: Cluster) -> None:
        """Onto every node, those that it does not have. The cluster itself remembers which it has."""
        archives = {name: self.archives / f"{name}.tar" for name in IMAGES}
        wanted = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in archives.items()}
        name = "-".join(["imported-images", self.registry]).rstrip("-")
        had = (cluster.get(f"/api/v1/namespaces/kube-system/configmaps/{name}") or {}).get("data", {})
        if changed := [str(archives[name]) for name in IMAGES if had.get(name) != wanted[name]]:
            by_user = shlex.split(os.environ.get("PINTAIL_E2E_IMPORT", ""))
            cluster.run(*(by_user or of_cluster("import")), *changed)
            memory = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": wanted}
            cluster.apply("kube-system", memory)


BUILT = Build(ROOT / "bin", ROOT / "target" / "images")
# The same source with format numbers that are one higher: `scripts/build newer`.
NEWER = Build(ROOT / "target" / "newer", ROOT / "target" / "newer" / "images", "newer")


def readme_commands() -> list[list[str]]:
    """The README's three: install, apply an example, watch it."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("\n## On Kubernetes") :]
    block = re.search(r"<!-- three commands -->\n+```sh\n(.*?)```", section, re.DOTALL).group(1)
    lines = block.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    return [command for command in commands if command]


class Installation:
    def __init__(self, cluster: Cluster, buckets, mailbox, more_ports: dict[str, int]):
        self.cluster, self.buckets, self.mailbox = cluster, buckets, mailbox
        self.ports = {"mail": mailbox.port, "bucket": buckets.port, **more_ports}
        self.namespaces: list[str] = []
        self._lock = threading.Lock()

    # --- the chart

    def install(self) -> str:
        """By the README's command. What an earlier session left is removed first."""
        self.remove()
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
        self.cluster.apply("default", namespace)
        self.cluster.apply(SYSTEM, example_servers.store_secret())
        command = [part.replace("$PINTAIL_CLUSTER_HOST", self.cluster.host) for part in readme_commands()[0]]
        more = ["--wait", "--timeout", "90s"]
        try:
            return self.cluster.run(*command, *more).stdout
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.diagnosis()}") from None

    def upgrade(self, build: Build) -> None:
        """To the images of another build, as `helm upgrade` does it, until that one leads."""
        build.make_images()
        build.import_images(self.cluster)
        before = {pod["metadata"]["name"] for pod in self.operators()}
        command = ["helm", "upgrade", "pintail", "charts/pintail", "-n", SYSTEM, "--reuse-values", "--wait", "--timeout", "90s"]
        self.cluster.run(*command, "--set", f"images.registry={build.registry}")

        def replaced() -> bool:
            names = {pod["metadata"]["name"] for pod in self.operators()}
            return len(names) == 1 and not names & before and self.leader().partition("_")[0] in names

        eventually(replaced, "the other build to lead", 60)

    def remove(self) -> None:
        """Namespaces of tests, then the installation. Objects with a finalizer need the operator to go."""
        for namespace in self.cluster.items("/api/v1/namespaces", labelSelector="pintail.dev/e2e"):
            self.delete_namespace(namespace["metadata"]["name"], wait=False)
        self.cluster.run("helm", "uninstall", "pintail", "-n", SYSTEM, "--ignore-not-found", "--wait")
        for kind in KINDS:
            for thing in self.cluster.items(f"{GROUP}/{kind}"):
                place = f"{GROUP}/namespaces/{thing['metadata']['namespace']}/{kind}/{thing['metadata']['name']}"
                if thing["metadata"].get("finalizers"):
                    self.cluster.patch(place, {"metadata": {"finalizers": None}})
                self.cluster.delete(place)
        self.cluster.delete(f"/api/v1/namespaces/{SYSTEM}")

        def left():
            namespaces = self.cluster.items("/api/v1/namespaces")
            names = [entry["metadata"]["name"] for entry in namespaces]
            return [name for name in names if name == SYSTEM or name.startswith("e2e-")]

        eventually(lambda: not left(), lambda: f"the end of {left()}", 90)

    def operators(self) -> list[dict]:
        """Pods of the operator that run, the leader first."""
        pods = self.cluster.pods(SYSTEM, labelSelector=OPERATOR)
        running = [pod for pod in pods if pod["status"].get("phase") == "Running"]
        return sorted(running, key=lambda pod: not self.leader().startswith(pod["metadata"]["name"]))

    @contextlib.contextmanager
    def without_webhook(self):
        """What is applied meanwhile is reviewed by nobody, once the API server has noticed."""
        configuration = self.cluster.get(WEBHOOK)
        for field in ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"):
            configuration["metadata"].pop(field, None)
        self.cluster.delete(WEBHOOK)
        try:
            yield
        finally:
            self.cluster.create(WEBHOOK.rpartition("/")[0], configuration)

    def leader(self) -> str:
        """Identity of the replica that holds the lease: `<pod>_<uid>`."""
        lease = self.cluster.get(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/pintail-operator")
        return ((lease or {}).get("spec") or {}).get("holderIdentity") or ""

    def operator_processes(self) -> dict[str, int]:
        """Process ids of the operators as this machine sees them, by pod."""
        found = {}
        for pod in self.operators():
            uid = pod["metadata"]["uid"]
            for process in psutil.process_iter(["name"]):
                if process.info["name"].startswith("pintail-operat") and uid in _cgroup(process.pid):
                    found[pod["metadata"]["name"]] = process.pid
        return found

    def diagnosis(self) -> str:
        finished = self.cluster.run(
            "kubectl", "-n", SYSTEM, "logs", "-l", OPERATOR, "--tail=60", "--prefix",
            check=False,
        )  # fmt: skip
        previous = self.cluster.run(
            "kubectl", "-n", SYSTEM, "logs", "-l", OPERATOR, "--tail=20", "--previous",
            check=False,
        )  # fmt: skip
        return "\n".join(
            ["===== the operator", finished.stdout, "--- before its last start", previous.stdout]
            + [self.cluster.describe(SYSTEM)]
        )

    # --- a namespace for each test

    def new_namespace(self, name: str) -> str:
        namespace = f"e2e-{name}"
        document = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": namespace,
                # The strictest rules for pods that Kubernetes has.
                "labels": {"pintail.dev/e2e": "", "pod-security.kubernetes.io/enforce": "restricted"},
            },
        }
        self.cluster.apply("default", document)
        self.cluster.apply(namespace, *example_servers.objects(self.cluster.host, self.ports))
        with self._lock:
            self.namespaces.append(namespace)
        return namespace

    def delete_namespace(self, namespace: str, wait: bool = True) -> None:
        place = f"/api/v1/namespaces/{namespace}"
        self.cluster.delete(place)
        for volume in self.cluster.items("/api/v1/persistentvolumes", labelSelector=f"pintail.dev/e2e={namespace}"):
            self.cluster.delete(f"/api/v1/persistentvolumes/{volume['metadata']['name']}")
        if wait:
            eventually(lambda: self.cluster.get(place) is None, f"the end of namespace {namespace}", 90)

    def need_volume(self, namespace: str, claim: str) -> None:
        """A volume for this claim, where the cluster makes none by itself."""
        (classes,) = eventually(lambda: [self.cluster.items("/apis/storage.k8s.io/v1/storageclasses")], "classes of volumes")
        if classes:
            return
        # hostPath knows no groups, so the folder must be open to all. It goes with the cluster.
        folder = Path(self.cluster.environment["KUBECONFIG"]).parent / "volumes" / namespace / claim
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        folder.chmod(0o777)
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{namespace}-{claim}", "labels": {"pintail.dev/e2e": namespace}},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": namespace, "name": claim},
                "hostPath": {"path": str(folder)},
            },
        }
        self.cluster.apply("default", volume)

    def put_on_volume(self, namespace: str, claim: str, file: Path) -> None:
        """Copies a file onto the volume of a claim, by a pod that holds it."""
        name = f"put-{claim}"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                # The account `default` of a new namespace may not be there yet.
                "serviceAccountName": "pintail-runner",
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "put",
                        "image": self.cluster.environment.get("PINTAIL_CLUSTER_TOOLS_IMAGE", "busybox:1.37"),
                        "imagePullPolicy": "IfNotPresent",
                        "stdin": True,
                        "stdinOnce": True,
                        "command": ["sh", "-c", f"cat > /volume/{file.name}.new && mv /volume/{file.name}.new /volume/{file.name}"],
                        "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
                "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}],
            },
        }  # fmt: skip
        place = f"/api/v1/namespaces/{namespace}/pods/{name}"

        def is_put() -> bool:
            self.cluster.apply(namespace, pod)
            eventually(lambda: self.cluster.get(place)["status"].get("phase") == "Running", f"pod {name}")
            with open(file, "rb") as content:
                command = ["kubectl", "-n", namespace, "attach", "-i", "-q", name]
                attached = subprocess.run(command, env=self.cluster.environment, stdin=content, check=False, timeout=60)
            ended = ("Succeeded",) if attached.returncode == 0 else ("Succeeded", "Failed", "Running")
            phase = eventually(lambda: (found := self.cluster.get(place)["status"]["phase"]) in ended and found, f"the end of {name}")
            eventually(lambda: self.cluster.delete(place, gracePeriodSeconds=0) or True, f"pod {name} to be deleted")
            eventually(lambda: not self.cluster.get(place), f"pod {name} to be gone")
            # The API server may go away in the middle.
            return attached.returncode == 0 and phase == "Succeeded"

        eventually(is_put, f"{file.name} on the volume", 120)

    # --- executions

    def execute(self, namespace: str, workflow: str, name: str, inputs: dict | None = None, **spec) -> dict:
        """Creates an Execution and waits for its end."""
        self.start(namespace, workflow, name, inputs, **spec)
        return self.finished(namespace, name)

    def start(self, namespace: str, workflow: str, name: str, inputs: dict | None = None, **spec) -> None:
        document = {
            "apiVersion": "pintail.dev/v1alpha1",
            "kind": "Execution",
            "metadata": {"name": name},
            "spec": {"workflowRef": {"name": workflow}, **({"inputs": inputs} if inputs else {}), **spec},
        }
        eventually(lambda: self.cluster.ensure(f"{GROUP}/namespaces/{namespace}/executions", document), f"{name} to be created")

    def finished(self, namespace: str, name: str, deadline_s: float = 120) -> dict:
        def ended():
            execution = self.cluster.object(namespace, "executions", name)
            return execution if is_over(execution) else None

        def what():
            status = (self.cluster.object(namespace, "executions", name) or {}).get("status", {})
            short = {key: status.get(key) for key in ("conditions", "progress", "taskList", "failures")}
            return f"the end of {namespace}/{name}: {json.dumps(short, indent=1)}"

        # Many wait at the same time, and asking costs the pods' processors.
        return eventually(ended, what, deadline_s, every_s=0.3)


def _cgroup(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cgroup").read_text().replace("_", "-")
    return ""


def manifests(*paths: Path) -> list[dict]:
    """Every document of these files, and of these folders' files."""
    files = [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    return [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]
