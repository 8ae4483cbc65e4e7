//go:build linux

package sqltest

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A server is a database server on a free port of this machine, with its files in a temporary directory of the test.
type server struct {
	t        testing.TB
	kind     *kind
	dir      string
	port     int
	database string
	args     []string

	mu      sync.Mutex
	command *exec.Cmd
	done    chan struct{}
}

// A kind of server.
type kind struct {
	program string // its path, or its name in PATH
	user    string // runs the server if the tests run as root
	driver  string
	dsn     string // %d is the port, %s the database, and parameters can be appended
	prepare func(dir string) *exec.Cmd
	args    func(dir string, port int) []string

	database string // a new server has it

	mu        sync.Mutex // guards the fields below
	template  string     // a directory with the files of a server that was never started
	shared    *server    // for tests that do not harm the server
	databases int        // the number of its databases
}

var postgres = &kind{
	program:  newest("/usr/lib/postgresql/*/bin/postgres"),
	user:     "postgres",
	database: "postgres",
	driver:   "pgx",
	dsn:      "postgres://postgres@127.0.0.1:%d/%s?sslmode=disable&connect_timeout=5",
	prepare: func(dir string) *exec.Cmd {
		return exec.Command(filepath.Join(filepath.Dir(newest("/usr/lib/postgresql/*/bin/postgres")), "initdb"),
			"-D", dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync")
	},
	args: func(dir string, port int) []string {
		return []string{
			"-D", dir, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
			"-c", "max_connections=500", "-c", "shared_buffers=32MB",
		}
	},
}

var mariadb = &kind{
	program:  "mariadbd",
	user:     "mysql",
	database: "mysql",
	driver:   "mysql",
	dsn:      "root@tcp(127.0.0.1:%d)/%s?timeout=5s",
	prepare: func(dir string) *exec.Cmd {
		return exec.Command("mariadb-install-db", "--no-defaults", "--datadir="+dir, "--skip-test-db",
			"--auth-root-authentication-method=normal")
	},
	args: func(dir string, port int) []string {
		return []string{
			"--no-defaults", "--datadir=" + dir, "--port=" + strconv.Itoa(port), "--bind-address=127.0.0.1",
			"--socket=" + filepath.Join(dir, "socket"), "--pid-file=" + filepath.Join(dir, "pid"), "--skip-grant-tables",
			"--max-connections=500", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M",
		}
	},
}

// newest returns the last of the paths that match the pattern, or the pattern.
func newest(pattern string) string {
	paths, _ := filepath.Glob(pattern)
	if len(paths) == 0 {
		return pattern
	}
	return paths[len(paths)-1]
}

// TestMain kills the shared servers, and removes their files and the templates.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, k := range []*kind{postgres, mariadb} {
		if k.shared != nil {
			k.shared.remove()
		}
		os.RemoveAll(k.template)
	}
	os.Exit(code)
}

// startServer starts a server with further arguments. It is killed at the end of the test. If the server is not
// installed, the test is skipped, or fails if the environment variable CI is set.
func (k *kind) startServer(t testing.TB, args ...string) *server {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.start(t, args)
	t.Cleanup(s.remove)
	return s
}

// share returns a server with a new database. Tests that do not harm a server share one.
func (k *kind) share(t testing.TB) *server {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.shared == nil {
		k.shared = k.start(t, nil)
	}
	k.databases++
	name := "test" + strconv.Itoa(k.databases)
	db := k.shared.open(t, "")
	defer db.Close()
	if _, err := db.ExecContext(within(t, 20*time.Second), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return &server{t: t, kind: k, port: k.shared.port, database: name}
}

func (k *kind) start(t testing.TB, args []string) *server {
	t.Helper()
	if _, err := exec.LookPath(k.program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed, but CI requires it", k.program)
		}
		t.Skipf("%s is not installed", k.program)
	}
	if k.template == "" {
		template, err := k.makeTemplate()
		if err != nil {
			t.Fatal(err)
		}
		k.template = template
	}
	dir, err := newDir()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, kind: k, dir: dir, port: freePort(t), database: k.database, args: args}
	if out, err := exec.Command("cp", "-a", filepath.Join(k.template, "data"), s.data()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.restart()
	return s
}

// data returns the directory with the server's files.
func (s *server) data() string { return filepath.Join(s.dir, "data") }

// remove kills the server and removes its files.
func (s *server) remove() {
	s.kill()
	os.RemoveAll(s.dir)
}

// newDir makes a directory that the user of a server can open, unlike that of t.TempDir.
func newDir() (string, error) {
	dir, err := os.MkdirTemp("", "sqltest")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// makeTemplate makes the files of a new server.
func (k *kind) makeTemplate() (dir string, err error) {
	dir, err = newDir()
	if err != nil {
		return dir, err
	}
	data := filepath.Join(dir, "data")
	if err := errors.Join(os.Mkdir(data, 0o700), k.own(data)); err != nil {
		return dir, err
	}
	command := k.prepare(data)
	k.runAs(command)
	if out, err := command.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%v: %w: %s", command, err, out)
	}
	return dir, nil
}

// ids returns the user and group that run the server, or false if the tests do not run as root.
func (k *kind) ids() (uid, gid int, ok bool) {
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	u, err := user.Lookup(k.user)
	if err != nil {
		return 0, 0, false
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid, true
}

func (k *kind) own(path string) error {
	if uid, gid, ok := k.ids(); ok {
		return os.Chown(path, uid, gid)
	}
	return nil
}

// runAs sets the user of a command.
func (k *kind) runAs(command *exec.Cmd) {
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the tests is not for the server
	if uid, gid, ok := k.ids(); ok {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
}

// taken are the ports that freePort has returned.
var taken sync.Map

// freePort returns a port below the range from which the system takes the ports of outgoing connections, which could
// otherwise use it before the server does.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 22000 + rand.IntN(10000)
		if _, used := taken.LoadOrStore(port, true); used {
			continue
		}
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port found")
	return 0
}

// dsn returns the data source name of the server, with further parameters.
func (s *server) dsn(parameters string) string {
	return fmt.Sprintf(s.kind.dsn, s.port, s.database) + parameters
}

// open returns a DB with a pool of 64 connections to the server.
func (s *server) open(t testing.TB, parameters string) *sql.DB {
	t.Helper()
	return openDB(t, s.kind.driver, s.dsn(parameters))
}

// openDB returns a DB with a pool of 64 connections, which is closed at the end of the test.
func openDB(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(64)
	db.SetMaxIdleConns(64)
	return db
}

// restart starts the server on its files, and waits until it answers.
func (s *server) restart() {
	s.t.Helper()
	command := exec.Command(s.kind.program, append(s.kind.args(s.data(), s.port), s.args...)...)
	s.kind.runAs(command)
	log := new(bytes.Buffer)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = command.Wait() // it was killed, or its log has the reason
	}()
	s.mu.Lock()
	s.command, s.done = command, done
	s.mu.Unlock()
	db, err := sql.Open(s.kind.driver, s.dsn(""))
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	until(s.t, "the server answers", func() bool {
		select {
		case <-done:
			s.t.Fatalf("%s has exited: %s", s.kind.program, log)
		default:
		}
		return db.Ping() == nil
	})
}

// until waits until ok returns true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not the case after 30 s", what)
		}
	}
}

// kill kills all processes of the server with SIGKILL, even if it is frozen.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.command == nil {
		return
	}
	s.signalAll(syscall.SIGSTOP) // so that it starts no further process
	pid := s.command.Process.Pid
	for _, child := range append(children(pid), pid) { // an orphan would stay stopped
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	<-s.done
	s.command = nil
}

// freeze suspends all processes of the server. Its connections stay open, but it does not answer.
func (s *server) freeze() { s.signal(syscall.SIGSTOP) }

// thaw resumes a frozen server.
func (s *server) thaw() { s.signal(syscall.SIGCONT) }

func (s *server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.command != nil {
		s.signalAll(sig)
	}
}

// signalAll signals the server and then its children: PostgreSQL has a process for each connection.
func (s *server) signalAll(sig syscall.Signal) {
	pid := s.command.Process.Pid
	_ = syscall.Kill(pid, sig)
	for _, child := range children(pid) {
		_ = syscall.Kill(child, sig)
	}
}

// children returns the children of a process.
func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(field)
			pids = append(pids, child)
		}
	}
	return pids
}
