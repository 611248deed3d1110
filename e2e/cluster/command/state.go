package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const clustersFolder = "/tmp/pintail-cluster"

// What is inside is the same in every cluster, because each has a network of its own.
const (
	serviceNetwork  = "10.96.0.0/16"
	apiService      = "10.96.0.1"
	firstNodeBridge = "10.88.0.1" // also the address of the first node and of the name server
)

// A cluster, as it is written to its folder for the processes and verbs that come later.
type cluster struct {
	Name     string
	Folder   string // all that it writes
	Programs string // the folder of the programs kubernetes, kubectl and helm
	Network  int    // N of the network 10.89.N.0/24 between it and the machine; -1 where only the API runs
	Nodes    int
	APIPort  int
	EtcdPort int
}

func (c *cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.Folder}, parts...)...)
}

func (c *cluster) kubeconfig() string         { return c.path("kubeconfig") }
func (c *cluster) program(name string) string { return filepath.Join(c.Programs, name) }
func (c *cluster) isAPIOnly() bool            { return c.Network < 0 }
func (c *cluster) device() string             { return fmt.Sprintf("pintail%d", c.Network) }
func (c *cluster) hostAddress() string        { return fmt.Sprintf("10.89.%d.1", c.Network) }

// address is where clients of the API find it.
func (c *cluster) address() string {
	if c.isAPIOnly() {
		return "127.0.0.1"
	}
	return fmt.Sprintf("10.89.%d.2", c.Network)
}

func (c *cluster) apiServer() string {
	return "https://" + net.JoinHostPort(c.address(), strconv.Itoa(c.APIPort))
}

func (c *cluster) save() error {
	content, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.path("cluster.json"), content, 0o644)
}

// read reads what `up` wrote.
func (c *cluster) read() error {
	content, err := os.ReadFile(c.path("cluster.json"))
	if err != nil {
		return err
	}
	return json.Unmarshal(content, c)
}

// load reads the cluster and fails where it is not up.
func (c *cluster) load() error {
	if !c.isAlive() {
		return fmt.Errorf("the cluster %s is not up; start it by `scripts/cluster --name %s up`", c.Name, c.Name)
	}
	if err := c.read(); err != nil {
		return fmt.Errorf("cannot read the cluster %s: %w", c.Name, err)
	}
	return nil
}

// isAlive tells whether the cluster's first process runs: that process holds a lock as long as it lives.
func (c *cluster) isAlive() bool {
	lock, err := os.Open(c.path("alive"))
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// lockFile opens a file, makes it where it is missing, and waits for its lock.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// lockName keeps every other `up` and `down` of the same name waiting, until the file is closed.
func (c *cluster) lockName() (*os.File, error) {
	if os.Geteuid() != 0 {
		return nil, usageError("a whole cluster needs root; `scripts/cluster api-only` does not")
	}
	if err := os.Mkdir(clustersFolder, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	// Anyone may have made a folder in /tmp first.
	information, err := os.Lstat(clustersFolder)
	if err != nil {
		return nil, err
	}
	if owner := information.Sys().(*syscall.Stat_t); !information.IsDir() || owner.Uid != 0 {
		return nil, fmt.Errorf("%s does not belong to root; look at it and remove it", clustersFolder)
	}
	for {
		lock, err := lockFile(c.Folder + ".lock")
		if err != nil {
			return nil, err
		}
		// A `down` that was faster has removed the file that this lock is of.
		mine, _ := lock.Stat()
		if now, err := os.Stat(lock.Name()); err == nil && os.SameFile(mine, now) {
			return lock, nil
		}
		lock.Close()
		if err := os.MkdirAll(clustersFolder, 0o755); err != nil {
			return nil, err
		}
	}
}

func (c *cluster) environment() string {
	lines := []string{
		"export KUBECONFIG=" + c.kubeconfig(),
		fmt.Sprintf(`export PATH="%s:$PATH"`, c.Programs),
		"export PINTAIL_CLUSTER_HOST=" + c.hostAddress(),
		"export PINTAIL_CLUSTER_AUDIT_LOG=" + c.path("audit.log"),
		"export PINTAIL_CLUSTER_TOOLS_IMAGE=" + toolsImage,
	}
	return strings.Join(lines, "\n") + "\n"
}

// listen opens the socket of the control verbs.
func (c *cluster) listen() (net.Listener, error) {
	return net.Listen("unix", c.path("control.sock"))
}

// waitFor tries until it succeeds and gives the last error where the time is over.
func waitFor(limit time.Duration, attempt func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := attempt()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
