package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

const apiFolderPattern = "pintail-api-*"

// apiOnly runs the API server, etcd and some controllers on free ports of 127.0.0.1, with all files in a folder of its own
// in memory. It ends with its input or with the command that it runs, and leaves nothing.
func apiOnly(c *cluster, arguments []string) error {
	if len(arguments) > 0 && (arguments[0] != "--" || len(arguments) == 1) {
		return usageError("expected `api-only` or `api-only -- COMMAND...`")
	}
	parent := memoryFolder()
	removeAbandoned(parent)
	folder, err := os.MkdirTemp(parent, apiFolderPattern)
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	// The lock is held before it has the name at which others look for it.
	alive, err := lockFile(filepath.Join(folder, "alive.new"))
	if err != nil {
		return err
	}
	defer alive.Close()
	if err := os.Rename(alive.Name(), filepath.Join(folder, "alive")); err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)

	c.Folder, c.Network = folder, -1
	s, err := startAPI(c, ended)
	if err != nil {
		return fmt.Errorf("the API did not start: %w", err)
	}
	defer s.killAll()
	if len(arguments) > 0 {
		return c.runCommand(arguments[1:], ended)
	}
	fmt.Printf("KUBECONFIG=%s\nready\n", c.kubeconfig())
	input := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(input)
	}()
	select {
	case <-input:
	case <-ended:
	}
	return nil
}

// startAPI tries again where another process took one of its ports between the choice and the start.
func startAPI(c *cluster, ended <-chan os.Signal) (*supervisor, error) {
	for attempt := 1; ; attempt++ {
		ports, err := freePorts(2)
		if err != nil {
			return nil, err
		}
		c.APIPort, c.EtcdPort = ports[0], ports[1]
		if err := c.writeFiles(); err != nil {
			return nil, err
		}
		s := newSupervisor(c)
		err = s.bringUpAPI(ended)
		if err == nil {
			return s, nil
		}
		s.killAll()
		if attempt == 3 || !strings.Contains(err.Error(), "address already in use") {
			return nil, err
		}
		if err := errors.Join(os.RemoveAll(c.path("etcd")), os.RemoveAll(c.path("logs"))); err != nil {
			return nil, err
		}
	}
}

// bringUpAPI returns when pods can be created: that needs the namespace's service account, which a controller makes.
func (s *supervisor) bringUpAPI(ended <-chan os.Signal) error {
	done := make(chan error, 1)
	go func() {
		err := s.bringUp()
		if err == nil {
			err = s.awaitServiceAccount()
		}
		done <- err
	}()
	select {
	case err := <-done:
		s.finish()
		return err
	case <-ended:
		return errors.New("interrupted")
	}
}

func (s *supervisor) awaitServiceAccount() error {
	api, err := s.cluster.apiClient()
	if err != nil {
		return err
	}
	account := s.cluster.apiServer() + "/api/v1/namespaces/default/serviceaccounts/default"
	return s.await("kube-controller-manager", "no service account was made", answers(api, account))
}

// runCommand runs a command of the caller and ends as it does. Signals are passed on to it.
func (c *cluster) runCommand(words []string, signals <-chan os.Signal) error {
	command := exec.Command(words[0], words[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig(), "PATH="+c.Programs+":"+os.Getenv("PATH"))
	if err := command.Start(); err != nil {
		return err
	}
	go func() {
		for one := range signals {
			command.Process.Signal(one)
		}
	}()
	return command.Wait()
}

func memoryFolder() string {
	if information, err := os.Stat("/dev/shm"); err == nil && information.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}

// removeAbandoned removes the folders of those that were killed: nobody holds their lock any more.
func removeAbandoned(parent string) {
	folders, _ := filepath.Glob(filepath.Join(parent, apiFolderPattern))
	for _, folder := range folders {
		lock, err := os.Open(filepath.Join(folder, "alive"))
		if err != nil {
			continue // just made, or of another user
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			os.RemoveAll(folder)
		}
		lock.Close()
	}
}

// freePorts gives ports of 127.0.0.1 that are free now. The kernel does not hand them out again soon.
func freePorts(count int) ([]int, error) {
	var ports []int
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
