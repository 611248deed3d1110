package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Writes of pods and of our own objects, without their content: what end-to-end tests count.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
  resources:
  - group: ""
    resources: [pods, pods/*]
  - group: pintail.dev
- level: None
`

const corefile = `.:53 {
    bind %[1]s
    errors
    ready %[1]s:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig %[2]s
    }
}
`

// Who talks to the API, by the name of its kubeconfig, and as which user and group.
var identities = map[string][2]string{
	"kube-controller-manager": {"system:kube-controller-manager", administrators},
	"kube-scheduler":          {"system:kube-scheduler", "system:kube-scheduler"},
	"kube-proxy":              {"system:kube-proxy", "system:node-proxier"},
	"coredns":                 {"system:coredns", administrators},
}

// writeFiles writes all that the components read: certificates, kubeconfigs and configurations.
func (c *cluster) writeFiles() error {
	for _, folder := range []string{"certificates", "kubeconfigs", "logs", "etcd"} {
		if err := os.MkdirAll(c.path(folder), 0o755); err != nil {
			return err
		}
	}
	signer, err := newAuthority()
	if err != nil {
		return err
	}
	if err := c.writeAPIFiles(signer); err != nil {
		return err
	}
	for name, who := range identities {
		if err := c.writeKubeconfig(signer, c.path("kubeconfigs", name), who[0], who[1]); err != nil {
			return err
		}
	}
	for _, node := range c.nodes() {
		if err := c.writeNodeFiles(signer, node); err != nil {
			return err
		}
	}
	return writeText(map[string]string{
		c.path("audit-policy.yaml"): auditPolicy,
		c.path("Corefile"):          fmt.Sprintf(corefile, firstNodeBridge, c.path("kubeconfigs", "coredns")),
		c.path("resolv.conf"):       "nameserver " + firstNodeBridge + "\n",
	})
}

func (c *cluster) writeAPIFiles(signer *authority) error {
	if err := os.WriteFile(c.path("certificates", "authority.crt"), signer.encoded, 0o644); err != nil {
		return err
	}
	server, err := signer.server("kubernetes", "localhost", "127.0.0.1", c.address(), firstNodeBridge, apiService,
		"kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	if err != nil {
		return err
	}
	administrator, err := signer.client("administrator", administrators)
	if err != nil {
		return err
	}
	tokens, err := newAuthority() // only its key is used: it signs the tokens of service accounts
	if err != nil {
		return err
	}
	signing, err := tokens.client("service-accounts", "")
	if err != nil {
		return err
	}
	content, err := kubeconfig(c.apiServer(), signer, administrator)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.kubeconfig(), content, 0o600); err != nil {
		return err
	}
	for name, one := range map[string]pair{"apiserver": server, "administrator": administrator, "service-accounts": signing} {
		if err := one.write(c.path("certificates", name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) writeKubeconfig(signer *authority, path, user, group string) error {
	client, err := signer.client(user, group)
	if err != nil {
		return err
	}
	content, err := kubeconfig(c.apiServer(), signer, client)
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

func (c *cluster) writeNodeFiles(signer *authority, one node) error {
	if err := os.MkdirAll(one.path("network"), 0o755); err != nil {
		return err
	}
	serving, err := signer.server(one.name, one.address)
	if err != nil {
		return err
	}
	if err := serving.write(one.path("kubelet")); err != nil {
		return err
	}
	if err := c.writeKubeconfig(signer, one.path("kubeconfig"), "system:node:"+one.name, "system:nodes"); err != nil {
		return err
	}
	return writeText(map[string]string{
		one.path("containerd.toml"):            one.containerdConfiguration(),
		one.path("kubelet.yaml"):               c.kubeletConfiguration(one),
		one.path("kube-proxy.yaml"):            c.proxyConfiguration(one),
		one.path("network", "bridge.conflist"): one.networkConfiguration(),
	})
}

func writeText(files map[string]string) error {
	for path, content := range files {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// A node is a containerd, a kubelet and a kube-proxy with a bridge for its pods.
type node struct {
	number  int
	name    string
	folder  string
	subnet  string // of its pods
	address string // of the bridge, and of the node
}

func (c *cluster) nodes() []node {
	var all []node
	for i := 1; i <= c.Nodes; i++ {
		name := fmt.Sprintf("node%d", i)
		all = append(all, node{
			number:  i,
			name:    name,
			folder:  c.path(name),
			subnet:  fmt.Sprintf("10.88.%d.0/24", i-1),
			address: fmt.Sprintf("10.88.%d.1", i-1),
		})
	}
	return all
}

func (n node) path(parts ...string) string {
	return filepath.Join(append([]string{n.folder}, parts...)...)
}

func (n node) socket() string { return n.path("containerd.sock") }

// The first line of options beside the paths: without CAP_SYS_RESOURCE, which containers and small machines lack, a
// sandbox cannot have the score that it asks for.
func (n node) containerdConfiguration() string {
	return fmt.Sprintf(`version = 2
root = "%[1]s/containerd"
state = "%[1]s/containerd-state"

[grpc]
address = "%[2]s"

[plugins."io.containerd.internal.v1.opt"]
path = "%[1]s/opt"

[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "%[3]s"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "%[1]s/network"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
`, n.folder, n.socket(), pauseImage)
}

// No eviction and no garbage collection of images: a full disk of the machine is not the tests' business, and an image
// that was imported cannot be pulled again. A container that ends is started anew after a second at most: tests of
// faults end it often.
func (c *cluster) kubeletConfiguration(n node) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%[1]s
cgroupDriver: cgroupfs
cgroupRoot: %[2]s
failCgroupV1: false
enforceNodeAllocatable: []
failSwapOn: false
address: %[3]s
healthzBindAddress: %[3]s
readOnlyPort: 0
tlsCertFile: %[4]s/kubelet.crt
tlsPrivateKeyFile: %[4]s/kubelet.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[5]s}
authorization: {mode: Webhook}
clusterDNS: [%[6]s]
clusterDomain: cluster.local
resolvConf: %[7]s
podLogsDir: %[4]s/pod-logs
volumePluginDir: %[4]s/volume-plugins
serializeImagePulls: false
nodeStatusUpdateFrequency: 2s
imageGCHighThresholdPercent: 100
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
evictionHard: {imagefs.available: 0%%, nodefs.available: 0%%, nodefs.inodesFree: 0%%}
`, n.socket(), c.cgroup(n), n.address, n.folder, c.path("certificates", "authority.crt"), firstNodeBridge, c.path("resolv.conf"))
}

// Every connection to a service is masqueraded: a pod that reached itself or a neighbour on its bridge would otherwise
// get the answer from an address that it did not ask.
func (c *cluster) proxyConfiguration(n node) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
nftables: {masqueradeAll: true}
hostnameOverride: %s
healthzBindAddress: %s:10256
metricsBindAddress: %s:10249
clientConnection: {kubeconfig: %s}
conntrack: {maxPerCore: 0}
`, n.name, n.address, n.address, c.path("kubeconfigs", "kube-proxy"))
}

func (n node) networkConfiguration() string {
	return strings.NewReplacer("SUBNET", n.subnet, "FOLDER", n.folder).Replace(`{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "FOLDER/addresses",
        "ranges": [[{"subnet": "SUBNET"}]], "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`)
}
