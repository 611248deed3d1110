package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

const checkNamespace = "cluster-check"

// All pods of the check run under the restricted profile, as those of Pintail do.
const checkObjects = `
apiVersion: v1
kind: Namespace
metadata:
  name: NAMESPACE
  labels: {pod-security.kubernetes.io/enforce: restricted}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NAMESPACE}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`

const checkPod = `
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: NAMESPACE, labels: {app: %[1]s}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: IMAGE
    imagePullPolicy: IfNotPresent
    command: [sh, -c, '%[2]s']
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
`

type checker struct {
	cluster *cluster
	failed  bool
}

// check runs pods and prints, for each thing that tests rely on, whether it holds and how long it took.
func check(c *cluster) error {
	k := &checker{cluster: c}
	defer k.kubectl("", "delete", "namespace", checkNamespace, "--ignore-not-found", "--wait=false")
	server, address, err := serveFromHere(c)
	if err != nil {
		return err
	}
	defer server.Close()
	if err := k.apply(checkObjects); err != nil {
		return err
	}
	k.report("a pod under the restricted profile succeeds", k.runs("simple", "echo written; echo the end > /dev/termination-log"))
	k.report("its log can be read", k.logIs("simple", "written"))
	k.report("its termination message is reported",
		k.reads("simple", "{.status.containerStatuses[0].state.terminated.message}", "the end"))
	k.report("too much memory is reported as OOMKilled", func() error {
		if err := k.apply(pod("greedy", "dd if=/dev/zero of=/dev/null bs=256M count=1")); err != nil {
			return err
		}
		if err := k.await("greedy", "Failed"); err != nil {
			return err
		}
		return k.reads("greedy", "{.status.containerStatuses[0].state.terminated.reason}", "OOMKilled")()
	})
	k.report("a server in a pod is ready", func() error {
		if err := k.apply(pod("web", "echo from a pod > /dev/shm/index.html; exec httpd -f -p 8080 -h /dev/shm")); err != nil {
			return err
		}
		_, err := k.kubectl("", "wait", "--for=condition=Ready", "pod/web", "--namespace", checkNamespace, "--timeout=60s")
		return err
	})
	k.report("a service is found by its name and answers", k.fetches("client", "http://web", "from a pod"))
	k.report("a pod reaches a server of this machine", k.fetches("outward", address, "from the machine"))
	if k.failed {
		return errors.New("the cluster does not do what tests need")
	}
	return nil
}

// serveFromHere starts a server on the address at which pods reach this machine.
func serveFromHere(c *cluster) (*http.Server, string, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(c.hostAddress(), "0"))
	if err != nil {
		return nil, "", err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(writer, "from the machine")
	})}
	go server.Serve(listener)
	return server, "http://" + listener.Addr().String(), nil
}

func (k *checker) report(what string, attempt func() error) {
	begin := time.Now()
	if err := attempt(); err != nil {
		k.failed = true
		fmt.Printf("failed  %s: %v\n", what, err)
		return
	}
	fmt.Printf("ok      %s (%.1f s)\n", what, time.Since(begin).Seconds())
}

func pod(name, script string) string {
	return fmt.Sprintf(checkPod, name, script)
}

// runs gives a check that a pod with this script succeeds.
func (k *checker) runs(name, script string) func() error {
	return func() error {
		if err := k.apply(pod(name, script)); err != nil {
			return err
		}
		return k.await(name, "Succeeded")
	}
}

// fetches gives a check that a pod gets this text from the address. A service may be known a little later than its pod.
func (k *checker) fetches(name, address, expected string) func() error {
	return func() error {
		script := "for attempt in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - " + address + " && exit; sleep 1; done; exit 1"
		if err := k.runs(name, script)(); err != nil {
			return err
		}
		return k.logIs(name, expected)()
	}
}

func (k *checker) logIs(name, expected string) func() error {
	return func() error {
		found, err := k.kubectl("", "logs", name, "--namespace", checkNamespace)
		if err == nil && !strings.Contains(found, expected) {
			err = fmt.Errorf("found %q, expected %q", found, expected)
		}
		return err
	}
}

func (k *checker) reads(name, path, expected string) func() error {
	return func() error {
		found, err := k.kubectl("", "get", "pod", name, "--namespace", checkNamespace, "--output=jsonpath="+path)
		if err == nil && strings.TrimSpace(found) != expected {
			err = fmt.Errorf("found %q, expected %q", found, expected)
		}
		return err
	}
}

// await returns when the pod has the phase, and shows the pod where it has not in time.
func (k *checker) await(name, phase string) error {
	_, err := k.kubectl("", "wait", "--for=jsonpath={.status.phase}="+phase, "pod/"+name,
		"--namespace", checkNamespace, "--timeout=60s")
	if err != nil {
		description, _ := k.kubectl("", "describe", "pod", name, "--namespace", checkNamespace)
		return fmt.Errorf("%w\n%s", err, description)
	}
	return nil
}

// apply creates objects. A namespace has no service account at first, without which it takes no pod: it is tried again.
func (k *checker) apply(objects string) error {
	text := strings.NewReplacer("NAMESPACE", checkNamespace, "IMAGE", toolsImage).Replace(objects)
	return waitFor(20*time.Second, func() error {
		_, err := k.kubectl(text, "apply", "--filename=-")
		return err
	})
}

func (k *checker) kubectl(input string, arguments ...string) (string, error) {
	command := exec.Command(k.cluster.program("kubectl"), arguments...)
	command.Env = append(os.Environ(), "KUBECONFIG="+k.cluster.kubeconfig())
	command.Stdin = strings.NewReader(input)
	var output, complaint bytes.Buffer
	command.Stdout, command.Stderr = &output, &complaint
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %s", arguments[0], strings.TrimSpace(complaint.String()))
	}
	return output.String(), nil
}
