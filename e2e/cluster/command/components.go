package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A component is a process of the cluster that is kept running.
type component struct {
	name    string
	command []string
	healthy func() error // nil where it does its work
}

// stages are the components in the order of their start: each stage waits until the one before is healthy.
func (c *cluster) stages() ([][]component, error) {
	api, err := c.apiClient()
	if err != nil {
		return nil, err
	}
	first := []component{c.etcd()}
	last := []component{c.controllerManager()}
	if !c.isAPIOnly() {
		last = append(last, c.scheduler(), c.coreDNS())
	}
	for _, one := range c.nodes() {
		first = append(first, c.containerd(one))
		last = append(last, c.kubelet(one), c.proxy(one))
	}
	return [][]component{first, {c.apiServerComponent(api)}, last}, nil
}

func (c *cluster) etcd() component {
	client := "http://127.0.0.1:" + strconv.Itoa(c.EtcdPort)
	return component{
		name: "etcd",
		command: []string{
			c.program("kubernetes"), "etcd", "--data-dir=" + c.path("etcd", "data"), "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=http://127.0.0.1:0", // a member without peers: any free port
		},
		healthy: answers(plain, client+"/health"),
	}
}

func (c *cluster) apiServerComponent(api *http.Client) component {
	certificates := c.path("certificates")
	command := []string{
		c.program("kubernetes"), "kube-apiserver",
		"--etcd-servers=http://127.0.0.1:" + strconv.Itoa(c.EtcdPort),
		"--secure-port=" + strconv.Itoa(c.APIPort),
		"--tls-cert-file=" + certificates + "/apiserver.crt",
		"--tls-private-key-file=" + certificates + "/apiserver.key",
		"--client-ca-file=" + certificates + "/authority.crt",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-cluster-ip-range=" + serviceNetwork,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + certificates + "/service-accounts.key",
		"--service-account-signing-key-file=" + certificates + "/service-accounts.key",
		"--audit-policy-file=" + c.path("audit-policy.yaml"),
		"--audit-log-path=" + c.path("audit.log"),
	}
	if c.isAPIOnly() {
		// The address of a service must not be a loopback address, so there is no service of the API itself.
		command = append(command, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none")
	} else {
		command = append(command, "--bind-address=0.0.0.0", "--advertise-address="+firstNodeBridge,
			"--kubelet-certificate-authority="+certificates+"/authority.crt",
			"--kubelet-client-certificate="+certificates+"/administrator.crt",
			"--kubelet-client-key="+certificates+"/administrator.key",
			"--kubelet-preferred-address-types=InternalIP") // or the name of the node would be looked up
	}
	return component{name: "kube-apiserver", command: command, healthy: answers(api, c.apiServer()+"/readyz")}
}

func (c *cluster) controllerManager() component {
	port := 10257
	command := []string{
		c.program("kubernetes"), "kube-controller-manager",
		"--kubeconfig=" + c.path("kubeconfigs", "kube-controller-manager"), "--leader-elect=false",
		"--service-account-private-key-file=" + c.path("certificates", "service-accounts.key"),
		"--root-ca-file=" + c.path("certificates", "authority.crt"),
	}
	healthy := func() error { return nil } // without a port nothing can be asked; the default service account is awaited
	if c.isAPIOnly() {
		// What the API promises by itself as users see it: names end, owners take their own along, accounts and quotas exist.
		port = 0
		command = append(command, "--controllers=clusterrole-aggregation-controller,garbage-collector-controller,"+
			"namespace-controller,resourcequota-controller,root-ca-certificate-publisher-controller,serviceaccount-controller")
	} else {
		healthy = answers(trusting, "https://127.0.0.1:10257/healthz")
		command = append(command, "--flex-volume-plugin-dir="+c.path("volume-plugins")) // or it makes one in /usr
	}
	return component{name: "kube-controller-manager", command: append(command, "--secure-port="+strconv.Itoa(port)), healthy: healthy}
}

func (c *cluster) scheduler() component {
	return component{
		name: "kube-scheduler",
		command: []string{
			c.program("kubernetes"), "kube-scheduler", "--kubeconfig=" + c.path("kubeconfigs", "kube-scheduler"),
			"--leader-elect=false",
		},
		healthy: answers(trusting, "https://127.0.0.1:10259/healthz"),
	}
}

func (c *cluster) coreDNS() component {
	return component{
		name:    "coredns",
		command: []string{c.program("kubernetes"), "coredns", "-conf", c.path("Corefile")},
		healthy: answers(plain, "http://"+firstNodeBridge+":8181/ready"),
	}
}

func (c *cluster) containerd(n node) component {
	return component{
		name:    n.component("containerd"),
		command: c.onNode(n, "containerd", "--config", n.path("containerd.toml")),
		healthy: func() error {
			connection, err := net.Dial("unix", n.socket())
			if err == nil {
				connection.Close()
			}
			return err
		},
	}
}

func (c *cluster) kubelet(n node) component {
	return component{
		name: n.component("kubelet"),
		command: c.onNode(n, c.program("kubernetes"), "kubelet", "--config="+n.path("kubelet.yaml"),
			"--kubeconfig="+n.path("kubeconfig"), "--root-dir="+n.path("kubelet"),
			"--hostname-override="+n.name, "--node-ip="+n.address),
		healthy: answers(plain, "http://"+n.address+":10248/healthz"),
	}
}

func (c *cluster) proxy(n node) component {
	return component{
		name:    n.component("kube-proxy"),
		command: c.onNode(n, c.program("kubernetes"), "kube-proxy", "--config="+n.path("kube-proxy.yaml")),
		healthy: answers(plain, "http://"+n.address+":10256/healthz"),
	}
}

// component is the name of a component of this node: those of the first node have no number.
func (n node) component(name string) string {
	if n.number == 1 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, n.number)
}

var plain = &http.Client{Timeout: 5 * time.Second}

// A client that takes any certificate, for components that make their own; it asks only how they are.
var trusting = &http.Client{
	Timeout:   5 * time.Second,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
}

// answers succeeds where the address answers with 200.
func answers(client *http.Client, address string) func() error {
	return func() error {
		response, err := client.Get(address)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		content, _ := io.ReadAll(io.LimitReader(response.Body, 2000))
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s: %s", address, response.Status, strings.TrimSpace(string(content)))
		}
		return nil
	}
}
