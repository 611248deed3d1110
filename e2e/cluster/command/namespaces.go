package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The verbs by which this program starts itself inside a cluster.
const (
	initVerb      = "run-as-init"
	superviseVerb = "supervise"
	nodeVerb      = "hold-node"
)

// The open files that `up` hands to the first process: its lock, the word to go on, and where to report.
const (
	aliveFile  = 3
	goFile     = 4
	reportFile = 5
)

// Where the machine's own /var is, inside: what the first node writes to its /var is not for the others.
const machineVariable = "/run/machine-variable"

// Settings of the whole kernel that kubelet changes. In the cluster a file is in the place of each.
var kernelSettings = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// self is a command that runs this program anew with a verb.
func (c *cluster) self(verb string) *exec.Cmd {
	return exec.Command("/proc/self/exe", "--programs", c.Programs, "--name", c.Name, verb)
}

// runAsInit is the first process in the cluster's namespaces: all others end with it. It prepares the namespaces, starts
// the supervisor, and collects every process that lost its parent.
func runAsInit(folder string) error {
	syscall.CloseOnExec(aliveFile)
	syscall.CloseOnExec(goFile)
	if word, err := io.ReadAll(os.NewFile(goFile, "go")); err != nil || len(word) == 0 {
		return errors.New("`up` ended before the cluster began")
	}
	c := &cluster{Folder: folder}
	if err := c.read(); err != nil {
		return err
	}
	report := os.NewFile(reportFile, "report")
	if err := errors.Join(c.separateMounts(), c.separateNetwork()); err != nil {
		fmt.Fprintf(report, "failed: %v\n", err)
		return err
	}
	supervisor := c.self(superviseVerb)
	supervisor.ExtraFiles = []*os.File{report}
	supervisor.Stdout, supervisor.Stderr = os.Stdout, os.Stderr
	if err := supervisor.Start(); err != nil {
		return err
	}
	report.Close()
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		if err == nil && ended == supervisor.Process.Pid {
			return fmt.Errorf("the supervisor ended with status %d", status.ExitStatus())
		}
	}
}

// separateMounts gives this process's mount namespace its own /proc, /run and writes to /var, so that nothing that
// components leave there outlives them.
func (c *cluster) separateMounts() error {
	for _, folder := range []string{"variable", "settings"} {
		if err := os.MkdirAll(c.path(folder), 0o755); err != nil {
			return err
		}
	}
	steps := []struct {
		source, target, kind string
		flags                uintptr
		options              string
	}{
		{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE, ""},
		{"", "/", "", syscall.MS_REC | syscall.MS_SHARED, ""}, // kubelet's mounts must reach the pods
		{"proc", "/proc", "proc", 0, ""},
		{"tmpfs", "/run", "tmpfs", 0, "mode=755"},
		{"tmpfs", c.path("etcd"), "tmpfs", 0, "mode=700"},
	}
	for _, step := range steps {
		if err := syscall.Mount(step.source, step.target, step.kind, step.flags, step.options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", step.kind, step.target, err)
		}
	}
	if err := os.Mkdir(machineVariable, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("/var", machineVariable, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /var on %s: %w", machineVariable, err)
	}
	if err := overlayVariable(c.path("variable")); err != nil {
		return err
	}
	for _, setting := range kernelSettings {
		if err := coverSetting(c.path("settings"), setting); err != nil {
			return err
		}
	}
	return nil
}

// overlayVariable keeps what is written to /var from here on in memory.
func overlayVariable(folder string) error {
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", folder, err)
	}
	upper, work := filepath.Join(folder, "upper"), filepath.Join(folder, "work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", machineVariable, upper, work)
	if err := syscall.Mount("overlay", "/var", "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay on /var: %w", err)
	}
	return nil
}

func coverSetting(folder, setting string) error {
	path := filepath.Join("/proc/sys", setting)
	value, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	cover := filepath.Join(folder, filepath.Base(setting))
	if err := os.WriteFile(cover, value, 0o644); err != nil {
		return err
	}
	if err := syscall.Mount(cover, path, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("cover %s: %w", path, err)
	}
	return nil
}

// separateNetwork sets up the network namespace, into which `up` has moved one end of a cable as eth0. There is no way
// out but to the machine itself.
func (c *cluster) separateNetwork() error {
	first := c.nodes()[0]
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	rules := "table ip pintail { chain outward { type nat hook postrouting priority srcnat; oifname eth0 masquerade; }; }"
	if err := run("nft", rules); err != nil {
		return err
	}
	return runAll(
		"ip link set lo up",
		"ip address add "+c.address()+"/24 dev eth0",
		"ip link set eth0 up",
		// For connections of this namespace to services: without a route they would fail before they are redirected.
		"ip route add "+serviceNetwork+" dev eth0",
		"ip link add cni0 type bridge",
		"ip address add "+first.address+"/24 dev cni0",
		"ip link set cni0 up",
	)
}

// superviseCluster runs all components and reports to `up`: a line "ready", or what failed.
func superviseCluster(folder string) error {
	report := os.NewFile(3, "report")
	syscall.CloseOnExec(3)
	c := &cluster{Folder: folder}
	if err := c.read(); err != nil {
		return err
	}
	s := newSupervisor(c)
	if err := s.bringUpWithNodes(); err != nil {
		fmt.Fprintf(report, "failed: %v\n", err)
		return err
	}
	s.finish()
	listener, err := c.listen()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(report, "ready"); err != nil {
		return fmt.Errorf("`up` ended before the cluster was ready: %w", err)
	}
	report.Close()
	return s.serve(listener)
}

func (s *supervisor) bringUpWithNodes() error {
	for _, one := range s.cluster.nodes()[1:] {
		if err := s.cluster.addNode(one); err != nil {
			return fmt.Errorf("cannot make the namespaces of %s: %w", one.name, err)
		}
	}
	if err := s.bringUp(); err != nil {
		return err
	}
	for _, one := range s.cluster.nodes() {
		if err := importImage(one, s.cluster.toolsArchive()); err != nil {
			return err
		}
		if err := s.awaitNode(one); err != nil {
			return err
		}
	}
	return s.awaitServiceAccount()
}

func (s *supervisor) awaitNode(n node) error {
	api, err := s.cluster.apiClient()
	if err != nil {
		return err
	}
	return s.await(n.component("kubelet"), n.name+" is not ready", func() error {
		response, err := api.Get(s.cluster.apiServer() + "/api/v1/nodes/" + n.name)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		var object struct {
			Status struct {
				Conditions []struct{ Type, Status, Message string }
			}
		}
		if err := json.NewDecoder(response.Body).Decode(&object); err != nil {
			return err
		}
		for _, condition := range object.Status.Conditions {
			if condition.Type != "Ready" {
				continue
			}
			if condition.Status == "True" {
				return nil
			}
			return errors.New(condition.Message)
		}
		return errors.New("it has not registered itself")
	})
}

// addNode makes the namespaces of a node beside the first: mounts and a network, with a cable to the first node's.
func (c *cluster) addNode(n node) error {
	holder := exec.Command("/proc/self/exe", "--programs", c.Programs, nodeVerb, n.folder)
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	holder.Stderr = os.Stderr
	output, err := holder.StdoutPipe()
	if err != nil {
		return err
	}
	if err := holder.Start(); err != nil {
		return err
	}
	if line, _ := bufio.NewReader(output).ReadString('\n'); line != "ready\n" {
		return errors.New("its first process failed; see logs/cluster.log")
	}
	pid := strconv.Itoa(holder.Process.Pid)
	if err := os.WriteFile(n.path("holder"), []byte(pid), 0o644); err != nil {
		return err
	}
	inside := "nsenter --net --target " + pid + " -- "
	here, there := n.cable()
	return runAll(
		"ip link add "+n.name+" type veth peer name eth0 netns "+pid,
		"ip address add "+here+"/24 dev "+n.name,
		"ip link set "+n.name+" up",
		"ip route add "+n.subnet+" via "+there,
		inside+"ip link set lo up",
		inside+"ip address add "+there+"/24 dev eth0",
		inside+"ip link set eth0 up",
		inside+"ip route add default via "+here,
		inside+"ip link add cni0 type bridge",
		inside+"ip address add "+n.address+"/24 dev cni0",
		inside+"ip link set cni0 up",
	)
}

// cable are the addresses of both ends of the cable between the first node and this one.
func (n node) cable() (here, there string) {
	return fmt.Sprintf("10.90.%d.1", n.number), fmt.Sprintf("10.90.%d.2", n.number)
}

// holdNode is the first process of a further node. Its mounts are not those of the first node.
func holdNode(folder string) error {
	variable := filepath.Join(folder, "variable")
	if err := os.MkdirAll(variable, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return err
	}
	if err := overlayVariable(variable); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	fmt.Println("ready")
	return syscall.Exec("/bin/sleep", []string{"sleep", "infinity"}, nil)
}

// onNode is the command as it is run on the node.
func (c *cluster) onNode(n node, command ...string) []string {
	if n.number == 1 {
		return command
	}
	pid, _ := os.ReadFile(n.path("holder")) // written when the node was added
	return append([]string{"nsenter", "--net", "--mount", "--target", strings.TrimSpace(string(pid)), "--"}, command...)
}
