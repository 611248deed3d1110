package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
)

// control sends a verb to the supervisor and prints what it answers.
func (c *cluster) control(words []string) error {
	connection, err := net.Dial("unix", c.path("control.sock"))
	if err != nil {
		return fmt.Errorf("cannot reach the supervisor of the cluster %s: %w", c.Name, err)
	}
	defer connection.Close()
	fmt.Fprintln(connection, strings.Join(words, " "))
	answer, err := io.ReadAll(connection)
	if err != nil {
		return err
	}
	if message, isError := strings.CutPrefix(string(answer), "error: "); isError {
		return errors.New(strings.TrimSpace(message))
	}
	if words[0] == "status" {
		fmt.Printf("cluster %s: API %s, this machine is %s for its pods, kubeconfig %s\n",
			c.Name, c.apiServer(), c.hostAddress(), c.kubeconfig())
	}
	fmt.Print(string(answer))
	return nil
}

// importImages brings archives (`docker save` or OCI layout) onto every node.
func (c *cluster) importImages(files []string) error {
	if len(files) == 0 {
		return usageError("name the archives to import")
	}
	for _, one := range c.nodes() {
		for _, file := range files {
			absolute, err := filepath.Abs(file)
			if err != nil {
				return err
			}
			if err := importImage(one, absolute); err != nil {
				return err
			}
		}
	}
	return nil
}

func importImage(n node, file string) error {
	err := run("ctr", "--address", n.socket(), "--namespace", "k8s.io", "images", "import", file)
	if err != nil {
		return fmt.Errorf("cannot import %s onto %s: %w", file, n.name, err)
	}
	return nil
}

// run runs a short command to its end; its output is in the error.
func run(program string, arguments ...string) error {
	output, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(append([]string{program}, arguments...), " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}

// runAll runs commands of which each is a line of words without quoting.
func runAll(lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if err := run(words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}
