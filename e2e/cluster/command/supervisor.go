package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	healthLimit = 60 * time.Second
	stopLimit   = 20 * time.Second
	// An API server takes much longer to end by itself, as long as anyone watches.
	gracePeriod = 3 * time.Second
)

// A supervisor starts the components of a cluster, keeps them running and does as it is told by the control verbs.
type supervisor struct {
	cluster *cluster
	failed  chan error // a component ended before all were up

	mutex sync.Mutex
	parts []*part
	isUp  bool
}

// A part is a component with its process.
type part struct {
	component
	mutex   sync.Mutex
	changed *sync.Cond // wanted or process is another
	wanted  bool
	process *os.Process // nil while none runs
}

func newSupervisor(c *cluster) *supervisor {
	return &supervisor{cluster: c, failed: make(chan error, 32)}
}

// bringUp starts everything and returns when all of it is healthy.
func (s *supervisor) bringUp() error {
	stages, err := s.cluster.stages()
	if err != nil {
		return err
	}
	for _, stage := range stages {
		var begun []*part
		for _, one := range stage {
			begun = append(begun, s.begin(one))
		}
		for _, one := range begun {
			if err := s.await(one.name, one.name+" is not healthy", one.healthy); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish says that a component that ends from now on is to be started again.
func (s *supervisor) finish() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.isUp = true
}

// await tries until it succeeds. Where any component ends, that is the error; where the time is over, what was awaited and
// the last lines of the component that should have done it.
func (s *supervisor) await(component, failing string, attempt func() error) error {
	var failure error
	err := waitFor(healthLimit, func() error {
		select {
		case failure = <-s.failed:
			return nil
		default:
			return attempt()
		}
	})
	if failure != nil {
		return failure
	}
	if err != nil {
		return fmt.Errorf("%s: %w%s", failing, err, s.cluster.lastLines(component))
	}
	return nil
}

func (s *supervisor) begin(one component) *part {
	p := &part{component: one, wanted: true}
	p.changed = sync.NewCond(&p.mutex)
	s.mutex.Lock()
	s.parts = append(s.parts, p)
	s.mutex.Unlock()
	go s.keep(p)
	return p
}

// keep runs the component whenever it is wanted.
func (s *supervisor) keep(p *part) {
	runtime.LockOSThread() // the signal at the parent's death is tied to the thread that started the child
	for {
		p.mutex.Lock()
		for !p.wanted {
			p.changed.Wait()
		}
		p.mutex.Unlock()
		err := s.run(p)
		p.mutex.Lock()
		wanted := p.wanted
		p.mutex.Unlock()
		if !wanted {
			continue
		}
		s.mutex.Lock()
		isUp := s.isUp
		s.mutex.Unlock()
		if !isUp {
			s.failed <- fmt.Errorf("%s ended (%w)%s", p.name, err, s.cluster.lastLines(p.name))
			return
		}
		fmt.Fprintf(os.Stderr, "%s %s ended (%v); it is started again\n", time.Now().UTC().Format(time.RFC3339), p.name, err)
		time.Sleep(time.Second)
	}
}

// run starts the component's process and returns when it has ended, with how it did.
func (s *supervisor) run(p *part) error {
	log, err := os.OpenFile(s.cluster.logFile(p.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(p.command[0], p.command[1:]...)
	command.Dir = s.cluster.Folder
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := command.Start(); err != nil {
		return err
	}
	p.setProcess(command.Process)
	err = command.Wait()
	p.setProcess(nil)
	if err == nil {
		err = fmt.Errorf("exit status 0")
	}
	return err
}

func (p *part) setProcess(process *os.Process) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.process = process
	p.changed.Broadcast()
}

// setWanted gives the process there is, if any.
func (p *part) setWanted(wanted bool) *os.Process {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.wanted = wanted
	p.changed.Broadcast()
	return p.process
}

func (p *part) current() *os.Process {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.process
}

func (p *part) start() error {
	p.setWanted(true)
	return waitFor(healthLimit, func() error {
		if p.current() == nil {
			return fmt.Errorf("%s does not run", p.name)
		}
		return p.healthy()
	})
}

// stop ends the process, by force where it takes long, and returns when it is gone.
func (p *part) stop() error {
	process := p.setWanted(false)
	if process == nil {
		return nil
	}
	process.Signal(syscall.SIGTERM)
	process.Signal(syscall.SIGCONT) // it may have been paused
	isGone := func() error {
		if p.current() == process {
			return fmt.Errorf("%s does not end", p.name)
		}
		return nil
	}
	if waitFor(gracePeriod, isGone) == nil {
		return nil
	}
	process.Kill()
	return waitFor(stopLimit, isGone)
}

func (p *part) signal(name string) error {
	signals := map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT,
		"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT, "HUP": syscall.SIGHUP,
	}
	number, ok := signals[strings.TrimPrefix(strings.ToUpper(name), "SIG")]
	if !ok {
		return fmt.Errorf("there is no signal %q; TERM, KILL, INT, QUIT, STOP, CONT and HUP are known", name)
	}
	process := p.current()
	if process == nil {
		return fmt.Errorf("%s does not run", p.name)
	}
	return process.Signal(number)
}

// killAll ends every process at once.
func (s *supervisor) killAll() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, one := range slices.Backward(s.parts) {
		if process := one.setWanted(false); process != nil {
			process.Kill()
			waitFor(stopLimit, func() error {
				if one.current() == process {
					return fmt.Errorf("%s does not end", one.name)
				}
				return nil
			})
		}
	}
}

// serve answers the control verbs on a socket in the cluster's folder: a line with the verb and its arguments is answered
// by what is to be printed, or by a line that begins with "error: ".
func (s *supervisor) serve(listener net.Listener) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			line, _ := bufio.NewReader(connection).ReadString('\n')
			if answer, err := s.obey(strings.Fields(line)); err != nil {
				fmt.Fprintf(connection, "error: %v\n", err)
			} else {
				fmt.Fprint(connection, answer)
			}
		}()
	}
}

func (s *supervisor) obey(words []string) (string, error) {
	if len(words) == 1 && words[0] == "status" {
		return s.status(), nil
	}
	expected := map[string]int{"stop": 2, "start": 2, "restart": 2, "signal": 3}
	if len(words) == 0 || len(words) != expected[words[0]] {
		return "", fmt.Errorf("expected stop, start or restart with a COMPONENT, or signal with a COMPONENT and a SIGNAL")
	}
	one, err := s.find(words[1])
	if err != nil {
		return "", err
	}
	switch words[0] {
	case "stop":
		return "", one.stop()
	case "start":
		return "", one.start()
	case "restart":
		if err := one.stop(); err != nil {
			return "", err
		}
		return "", one.start()
	default:
		return "", one.signal(words[2])
	}
}

func (s *supervisor) find(name string) (*part, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var names []string
	for _, one := range s.parts {
		if one.name == name {
			return one, nil
		}
		names = append(names, one.name)
	}
	return nil, fmt.Errorf("there is no component %q; there are %s", name, strings.Join(names, ", "))
}

func (s *supervisor) status() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var text strings.Builder
	for _, one := range s.parts {
		state := "healthy"
		if one.current() == nil {
			state = "down"
		} else if one.healthy() != nil {
			state = "not healthy"
		}
		fmt.Fprintf(&text, "%-24s %-12s %s\n", one.name, state, s.cluster.logFile(one.name))
	}
	return text.String()
}

func (c *cluster) logFile(component string) string { return c.path("logs", component+".log") }

// lastLines are the last lines of a component's log, to be put behind an error.
func (c *cluster) lastLines(component string) string {
	content, err := os.ReadFile(c.logFile(component))
	if err != nil || len(content) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	if len(lines) > 15 {
		lines = lines[len(lines)-15:]
	}
	return "; its last lines:\n  " + strings.Join(lines, "\n  ")
}
