package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const upLimit = 3 * time.Minute

// up starts the cluster unless it is up, and prints the path of its kubeconfig when every node is ready.
func up(c *cluster, arguments []string) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	nodes := flags.Int("nodes", 1, "how many nodes")
	if err := flags.Parse(arguments); err != nil || flags.NArg() > 0 || *nodes < 1 || *nodes > 9 {
		return usageError("expected `up [--nodes N]` with N from 1 to 9")
	}
	lock, err := c.lockName()
	if err != nil {
		return err
	}
	defer lock.Close()
	if c.load() == nil {
		fmt.Fprintf(os.Stderr, "cluster: %s is up already\n", c.Name)
		fmt.Println(c.kubeconfig())
		return nil
	}
	if _, err := os.Stat(busybox); err != nil {
		return usageError("the packages of a node are missing; run `scripts/setup-cluster`")
	}
	if err := errors.Join(c.end(), os.RemoveAll(c.Folder)); err != nil {
		return fmt.Errorf("cannot clean up what an earlier cluster left: %w", err)
	}
	c.Nodes, c.APIPort, c.EtcdPort = *nodes, 6443, 2379
	begin := time.Now()
	if err := c.begin(); err != nil {
		return errors.Join(fmt.Errorf("the cluster %s did not start: %w; its logs are in %s", c.Name, err, c.path("logs")), c.end())
	}
	fmt.Fprintf(os.Stderr, "cluster: %s is up after %.1f s\n", c.Name, time.Since(begin).Seconds())
	fmt.Println(c.kubeconfig())
	return nil
}

// begin starts the first process, gives it all it needs and waits until it reports.
func (c *cluster) begin() error {
	if err := os.MkdirAll(c.path("logs"), 0o755); err != nil {
		return err
	}
	if err := writeToolsArchive(c.toolsArchive()); err != nil {
		return err
	}
	goOn, report, pid, err := c.startInit()
	if err != nil {
		return err
	}
	defer goOn.Close()
	if err := c.connect(pid); err != nil {
		return err
	}
	if err := errors.Join(c.writeFiles(), c.makeCgroups(), c.save(), c.handOver()); err != nil {
		return err
	}
	if _, err := goOn.WriteString("go"); err != nil {
		return err
	}
	goOn.Close()
	return awaitReport(report)
}

func (c *cluster) toolsArchive() string { return c.path("tools.tar") }

// handOver makes the kubeconfig readable for the user who became root by sudo.
func (c *cluster) handOver() error {
	user, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil {
		return nil
	}
	return os.Chown(c.kubeconfig(), user, -1)
}

// startInit starts the first process in namespaces of its own. It waits there for a word on the first file and reports on
// the second.
func (c *cluster) startInit() (goOn, report *os.File, pid int, err error) {
	log, err := os.Create(c.path("logs", "cluster.log"))
	if err != nil {
		return nil, nil, 0, err
	}
	defer log.Close()
	alive, err := lockFile(c.path("alive"))
	if err != nil {
		return nil, nil, 0, err
	}
	defer alive.Close()
	goRead, goOn, err := os.Pipe()
	if err != nil {
		return nil, nil, 0, err
	}
	defer goRead.Close()
	report, reportWrite, err := os.Pipe()
	if err != nil {
		return nil, nil, 0, err
	}
	defer reportWrite.Close()
	command := c.self(initVerb)
	command.Dir = "/"
	command.Stdout, command.Stderr = log, log
	command.ExtraFiles = []*os.File{alive, goRead, reportWrite}
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Setsid:     true,
	}
	if err := command.Start(); err != nil {
		return nil, nil, 0, fmt.Errorf("cannot make namespaces: %w", err)
	}
	pid = command.Process.Pid
	go command.Wait() // so that a first process that ended is no zombie of this one
	return goOn, report, pid, os.WriteFile(c.path("pid"), []byte(strconv.Itoa(pid)), 0o644)
}

// connect lays a cable between the machine and the namespaces, with the first 10.89.N.0/24 that is free.
func (c *cluster) connect(pid int) error {
	for c.Network = 0; c.Network < 256; c.Network++ {
		if c.isNetworkTaken() {
			continue
		}
		err := run("ip", "link", "add", c.device(), "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(pid))
		if err != nil {
			if _, gone := net.InterfaceByName(c.device()); gone == nil {
				continue // another cluster was faster
			}
			return err
		}
		return runAll("ip address add "+c.hostAddress()+"/24 dev "+c.device(), "ip link set "+c.device()+" up")
	}
	return errors.New("no network 10.89.N.0/24 is free on this machine")
}

func (c *cluster) isNetworkTaken() bool {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	mine := &net.IPNet{IP: net.ParseIP(c.hostAddress()).To4().Mask(net.CIDRMask(24, 32)), Mask: net.CIDRMask(24, 32)}
	for _, address := range addresses {
		other, ok := address.(*net.IPNet)
		if ok && (mine.Contains(other.IP) || other.Contains(mine.IP)) {
			return true
		}
	}
	_, err = net.InterfaceByName(c.device())
	return err == nil
}

// awaitReport returns when the cluster is ready. It gives up where it failed, the time is over or the caller interrupts.
func awaitReport(report *os.File) error {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	text := make(chan string, 1)
	go func() {
		var all strings.Builder
		lines := bufio.NewScanner(report)
		for lines.Scan() && lines.Text() != "ready" {
			all.WriteString(lines.Text() + "\n")
		}
		if lines.Text() == "ready" {
			text <- "ready"
			return
		}
		text <- all.String()
	}()
	select {
	case <-interrupted:
		return errors.New("interrupted")
	case <-time.After(upLimit):
		return fmt.Errorf("it was not ready after %s", upLimit)
	case result := <-text:
		if result == "ready" {
			return nil
		}
		message := strings.TrimSpace(strings.TrimPrefix(result, "failed: "))
		if message == "" {
			message = "its first process ended, see cluster.log"
		}
		return errors.New(message)
	}
}

// down ends the cluster and removes all that is left of it.
func down(c *cluster) error {
	lock, err := c.lockName()
	if err != nil {
		return err
	}
	defer lock.Close()
	_, err = os.Stat(c.Folder)
	wasThere := err == nil
	err = errors.Join(c.end(), os.RemoveAll(c.Folder))
	os.Remove(lock.Name())
	os.Remove(clustersFolder) // stays where there are other clusters
	if err == nil && !wasThere {
		fmt.Fprintf(os.Stderr, "cluster: %s is not up\n", c.Name)
	}
	return err
}

// end kills the first process, and with it all others, and removes what the kernel does not remove by itself. What the
// folder holds stays.
func (c *cluster) end() error {
	if c.isAlive() {
		if err := c.kill(); err != nil {
			return err
		}
	}
	if err := c.removeCgroups(); err != nil {
		return err
	}
	if c.read() != nil || c.isAPIOnly() {
		return nil
	}
	if _, err := net.InterfaceByName(c.device()); err != nil {
		return nil
	}
	// The kernel removes it too, but later.
	if err := run("ip", "link", "delete", c.device()); err != nil {
		if _, gone := net.InterfaceByName(c.device()); gone == nil {
			return err
		}
	}
	return nil
}

func (c *cluster) kill() error {
	content, err := os.ReadFile(c.path("pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(content))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("cannot end process %d, the first of the cluster: %w", pid, err)
	}
	return waitFor(stopLimit, func() error {
		status, err := os.ReadFile(filepath.Join("/proc", string(content), "stat"))
		// The state is behind the name; a dead process that is still listed has no others left either.
		if err != nil || strings.Contains(string(status), ") Z ") {
			return nil
		}
		return fmt.Errorf("process %d, the first of the cluster, does not end", pid)
	})
}
