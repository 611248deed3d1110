package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cgroup is the path, in every hierarchy, of the control groups of a node's pods.
func (c *cluster) cgroup(n node) string {
	return "/pintail-" + c.Name + "/" + n.name
}

// makeCgroups makes the groups that kubelet expects to exist.
func (c *cluster) makeCgroups() error {
	for _, hierarchy := range hierarchies() {
		for _, one := range c.nodes() {
			path := filepath.Join(hierarchy, c.cgroup(one))
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			for _, group := range []string{filepath.Dir(path), path} {
				if err := equip(group); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// equip gives a group what its parent has. Version 1: a new cpuset is empty, and no process can be put into it.
// Version 2: a controller is there only where the parent hands it on.
func equip(group string) error {
	parent := filepath.Dir(group)
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(group, file), value, 0o644); err != nil {
			return err
		}
	}
	controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return nil // version 1
	}
	for _, controller := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("cannot hand on the controller %s: %w", controller, err)
		}
	}
	return nil
}

// removeCgroups removes the groups of all nodes; it waits for processes in them that are ending.
func (c *cluster) removeCgroups() error {
	for _, hierarchy := range hierarchies() {
		top := filepath.Join(hierarchy, "pintail-"+c.Name)
		if err := waitFor(stopLimit, func() error { return removeGroups(top) }); err != nil {
			return fmt.Errorf("cannot remove the control groups of the cluster: %w", err)
		}
	}
	return nil
}

// removeGroups removes a tree of groups from its leaves on: their files cannot be removed, and need not be.
func removeGroups(top string) error {
	var groups []string
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		return nil // a group that is gone meanwhile
	})
	if err != nil {
		return err
	}
	for _, group := range slices.Backward(groups) {
		if err := os.Remove(group); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// hierarchies are the folders where control groups are mounted: one with version 2, one for each controller with version 1.
func hierarchies() []string {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	var all []string
	for line := range strings.Lines(string(mounts)) {
		words := strings.Fields(line)
		if len(words) > 2 && (words[2] == "cgroup" || words[2] == "cgroup2") && !slices.Contains(all, words[1]) {
			all = append(all, words[1])
		}
	}
	return all
}
