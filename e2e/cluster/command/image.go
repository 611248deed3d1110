package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

const (
	busybox    = "/bin/busybox" // of Debian's busybox-static: needs no library
	pauseImage = "localhost/pintail-cluster/pause:1"
	toolsImage = "localhost/pintail-cluster/tools:1"
)

// writeToolsArchive writes the archive, as `docker save` makes it, of busybox under two names: the image of a pod's
// sandbox, which only waits, and an image of small tools for tests.
func writeToolsArchive(path string) error {
	layer, err := busyboxLayer()
	if err != nil {
		return err
	}
	identity := fmt.Sprintf("sha256:%x", sha256.Sum256(layer))
	// The root file system is that of the user nobody: a pod under the restricted profile needs no user of its own.
	tools, err := imageConfiguration(identity, map[string]any{"Cmd": []string{"sh"}, "User": "65534:65534", "Env": []string{"PATH=/bin"}})
	if err != nil {
		return err
	}
	wait := []string{"/bin/sh", "-c", `trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done`}
	pause, err := imageConfiguration(identity, map[string]any{"Entrypoint": wait, "User": "65534:65534", "Env": []string{"PATH=/bin"}})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{
		{"Config": "pause.json", "RepoTags": []string{pauseImage}, "Layers": []string{"layer.tar"}},
		{"Config": "tools.json", "RepoTags": []string{toolsImage}, "Layers": []string{"layer.tar"}},
	})
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for _, file := range []struct {
		name    string
		content []byte
	}{{"manifest.json", manifest}, {"pause.json", pause}, {"tools.json", tools}, {"layer.tar", layer}} {
		header := &tar.Header{Name: file.name, Mode: 0o644, Size: int64(len(file.content)), Typeflag: tar.TypeReg}
		if err := addFile(writer, header, file.content); err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, archive.Bytes(), 0o644)
}

func imageConfiguration(layer string, options map[string]any) ([]byte, error) {
	return json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": options,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layer}},
	})
}

// busyboxLayer is a root file system of busybox, a link for each of its tools, users and a /tmp.
func busyboxLayer() ([]byte, error) {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	writer := tar.NewWriter(&layer)
	passwd := []byte("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n")
	entries := []tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
	}
	for _, tool := range strings.Fields(string(list)) {
		if tool != "busybox" {
			entries = append(entries, tar.Header{Name: "bin/" + tool, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777})
		}
	}
	for _, entry := range entries {
		if err := addFile(writer, &entry, nil); err != nil {
			return nil, err
		}
	}
	header := &tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg}
	if err := addFile(writer, header, program); err != nil {
		return nil, err
	}
	header = &tar.Header{Name: "etc/passwd", Mode: 0o644, Size: int64(len(passwd)), Typeflag: tar.TypeReg}
	if err := addFile(writer, header, passwd); err != nil {
		return nil, err
	}
	err = writer.Close()
	return layer.Bytes(), err
}

func addFile(writer *tar.Writer, header *tar.Header, content []byte) error {
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err := writer.Write(content)
	return err
}
