// Runs a real Kubernetes without Docker: a whole cluster in namespaces of its own, or only the API for an ordinary user.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
)

const usage = `Runs a real Kubernetes without Docker.

  scripts/cluster [--name NAME] VERB

A whole cluster, as root:
  up [--nodes N]              start it, unless it is up, and print the path of its kubeconfig
  down                        end it and leave nothing
  status                      show its components and addresses
  env                         print the variables for a shell: eval "$(scripts/cluster env)"
  import FILE...              bring archives of images onto every node
  kubectl ARGUMENTS...        run kubectl on it
  helm ARGUMENTS...           run helm on it
  stop COMPONENT              end a component and keep it down
  start COMPONENT             start it again and wait until it is healthy
  restart COMPONENT           both
  signal COMPONENT SIGNAL     send a signal, such as KILL, STOP or CONT
  check                       run pods and say whether it does what tests need

Only the API, as anyone:
  api-only                    print KUBECONFIG=PATH and "ready"; run until the input ends
  api-only -- COMMAND...      run a command with KUBECONFIG set; end as it does

  build                       build the programs and do nothing else

NAME is "pintail" unless given. More in e2e/cluster/README.md.
`

// A mistake of the caller: its message is all that is to be said.
type usageError string

func (e usageError) Error() string { return string(e) }

// How much garbage a Go program lets gather before it collects it, in percent of what it holds.
const collection = "GOGC"

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

func main() {
	// Its components are Go programs, which by default take up to a third of their time to save memory that is there.
	if os.Getenv(collection) == "" {
		os.Setenv(collection, "400")
	}
	if err := command(os.Args[1:]); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "cluster:", err)
		if _, ok := errors.AsType[usageError](err); ok {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func command(arguments []string) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	programs := flags.String("programs", "", "")
	name := flags.String("name", "pintail", "")
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return usageError("see `scripts/cluster help`")
	}
	if !validName.MatchString(*name) {
		return usageError(fmt.Sprintf("the name %q is not usable: up to 32 small letters, digits and dashes", *name))
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return usageError("name a verb")
	}
	one := &cluster{Name: *name, Programs: *programs, Folder: filepath.Join(clustersFolder, *name)}
	return verb(one, flags.Arg(0), flags.Args()[1:])
}

func verb(one *cluster, name string, arguments []string) error {
	switch name {
	case "help":
		fmt.Print(usage)
		return nil
	case "up":
		return up(one, arguments)
	case "down":
		return down(one)
	case "api-only":
		return apiOnly(one, arguments)
	case initVerb:
		return runAsInit(one.Folder)
	case superviseVerb:
		return superviseCluster(one.Folder)
	case nodeVerb:
		return holdNode(arguments[0])
	}
	inside := verbOfRunning(one, name, arguments)
	if inside == nil {
		return usageError(fmt.Sprintf("there is no verb %q; see `scripts/cluster help`", name))
	}
	if err := one.load(); err != nil {
		return err
	}
	return inside()
}

// verbOfRunning is what a verb does that needs a cluster that is up, or nil where there is no such verb.
func verbOfRunning(one *cluster, name string, arguments []string) func() error {
	switch name {
	case "env":
		return func() error {
			fmt.Print(one.environment())
			return nil
		}
	case "kubectl", "helm":
		return func() error { return one.replaceBy(name, arguments) }
	case "import":
		return func() error { return one.importImages(arguments) }
	case "status", "stop", "start", "restart", "signal":
		return func() error { return one.control(append([]string{name}, arguments...)) }
	case "check":
		return func() error { return check(one) }
	}
	return nil
}

// replaceBy makes this process the program, so that its signals and its terminal are those of the caller.
func (c *cluster) replaceBy(program string, arguments []string) error {
	environment := append(os.Environ(), "KUBECONFIG="+c.kubeconfig())
	path := filepath.Join(c.Programs, program)
	return syscall.Exec(path, append([]string{path}, arguments...), environment)
}
