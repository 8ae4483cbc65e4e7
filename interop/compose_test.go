//go:build unix

package interop_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// loadCompose reads example/compose.yaml as docker compose does. These tests do not run Docker. They run the commands of the file on
// this machine instead, against the servers that are installed.
func loadCompose(t *testing.T, environment ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../example/compose.yaml"}, cli.WithEnv(environment))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

var composeSecrets = []string{
	"JWT_SECRET=0123456789abcdef0123456789abcdef", "REDIS_PASSWORD=redis-password", "POSTGRES_PASSWORD=postgres-password",
}

func mustLoadCompose(t *testing.T) *types.Project {
	t.Helper()
	project, err := loadCompose(t, composeSecrets...)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// No secret has a default, and only the two programs can be reached, from this machine.
func TestComposeIsClosed(t *testing.T) {
	for i, secret := range composeSecrets {
		if _, err := loadCompose(t, slices.Delete(slices.Clone(composeSecrets), i, i+1)...); err == nil {
			t.Errorf("without %s the file is accepted", secret)
		}
	}
	project := mustLoadCompose(t)
	if !project.Networks["private"].Internal {
		t.Error("the private network is not internal")
	}
	for name, service := range project.Services {
		isProgram := service.Build != nil
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" || !isProgram {
				t.Errorf("%s publishes %+v", name, port)
			}
		}
		if _, public := service.Networks["public"]; public != isProgram {
			t.Errorf("%s is in the networks %v", name, service.Networks)
		}
		if isProgram && (!service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) || len(service.SecurityOpt) != 1) {
			t.Errorf("%s is not confined: %+v", name, service)
		}
		if !isProgram && len(service.Volumes) != 1 {
			t.Errorf("the data of %s are lost with its container", name)
		}
	}
}

// The example finds nothing to complain about in the Redis of the file, and serves with it.
func TestComposeRedis(t *testing.T) {
	needTools(t, "redis-server")
	project := mustLoadCompose(t)
	port := freePort(t)
	redis := project.Services["redis"].Command
	start(t, "127.0.0.1:"+port, exec.Command(redis[0], append(redis[1:], "--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir())...))
	log := serve(t, project, "example", "@redis:6379", "@127.0.0.1:"+port, url.Values{"username": {"admin"}, "password": {"admin"}})
	if strings.Contains(log, "lose revocations") || strings.Contains(log, "advice") {
		t.Errorf("the example complains about Redis:\n%s", log)
	}

	// The settings are those that docs/stores.md asks of a single server.
	page, err := os.ReadFile("../docs/stores.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"maxmemory-policy noeviction", "appendonly yes", "appendfsync always"} {
		if !strings.Contains(strings.Join(redis, " "), "--"+setting) || !strings.Contains(string(page), "| `"+setting+"` |") {
			t.Errorf("%s is not both in compose.yaml and in docs/stores.md", setting)
		}
	}
}

// The quick start accepts the settings of the PostgreSQL of the file, and serves with it.
func TestComposePostgres(t *testing.T) {
	binaries, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	binary := func(name string) string { return filepath.Join(append(binaries, name)[max(0, len(binaries)-1):]...) }
	needTools(t, binary("postgres"))
	project := mustLoadCompose(t)
	postgres := project.Services["postgres"]

	data, err := os.MkdirTemp("", "ginrefresh-postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	password := filepath.Join(data, "password")
	if err := os.WriteFile(password, []byte(*postgres.Environment["POSTGRES_PASSWORD"]), 0o644); err != nil {
		t.Fatal(err)
	}
	directory := filepath.Join(data, "data")
	owner := ownedByPostgres(t, data)
	prepare := exec.Command(binary("initdb"), "-D", directory, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", password, "--no-sync")
	prepare.SysProcAttr = owner
	if out, err := prepare.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port := freePort(t)
	server := exec.Command(binary(postgres.Command[0]), append(postgres.Command[1:], "-D", directory, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")...)
	server.SysProcAttr = owner
	start(t, "127.0.0.1:"+port, server)
	serve(t, project, "sql", "@postgres:5432", "@127.0.0.1:"+port, url.Values{"user": {"ann"}, "password": {"secret"}})
}

// serve builds the program of a service, runs it with the service's arguments on this machine, and logs in and out. It returns the log.
func serve(t *testing.T, project *types.Project, name, host, local string, credentials url.Values) (log string) {
	t.Helper()
	service := project.Services[name]
	directory := "example" // the default of the Dockerfile
	if argument := service.Build.Args["PROGRAM"]; argument != nil {
		directory = *argument
	}
	program := filepath.Join(t.TempDir(), "server")
	if out, err := exec.Command("go", "build", "-C", filepath.Join("..", directory), "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(strings.Join(service.Command, " "), host) {
		t.Fatalf("the command does not name %s: %q", host, service.Command)
	}
	address := "127.0.0.1:" + freePort(t)
	var arguments []string
	for _, argument := range service.Command {
		if argument == ":"+strconv.Itoa(int(service.Ports[0].Target)) {
			argument = address
		}
		arguments = append(arguments, strings.Replace(argument, host, local, 1))
	}
	command := exec.Command(program, arguments...)
	command.Env = append(os.Environ(), "JWT_SECRET="+*service.Environment["JWT_SECRET"])
	output := start(t, address, command)

	answer, err := http.PostForm("http://"+address+"/login", credentials)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var tokens struct {
		Access string `json:"access_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&tokens); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("the login: %s, %v", answer.Status, err)
	}
	for _, step := range []struct {
		method, path string
		status       int
	}{{"GET", "/me", 200}, {"POST", "/logout", 204}, {"GET", "/me", 401}} {
		request, err := http.NewRequestWithContext(t.Context(), step.method, "http://"+address+step.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+tokens.Access)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != step.status {
			t.Errorf("%s: got %s, want %d", step.path, answer.Status, step.status)
		}
	}
	return output()
}

// start runs a server until the test ends, and waits until it accepts connections. The function returns what it has printed.
func start(t *testing.T, address string, command *exec.Cmd) (output func() string) {
	t.Helper()
	var printed lockedBuffer
	command.Stdout, command.Stderr = &printed, &printed
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-exited
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(30 * time.Second)
	for {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
			return printed.String
		}
		select {
		case <-tick.C:
		case err := <-exited:
			exited <- err
			t.Fatalf("%s: %v\n%s", command.Path, err, printed.String())
		case <-patience:
			t.Fatalf("%s does not listen: %v\n%s", command.Path, err, printed.String())
		}
	}
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
}

func needTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// ownedByPostgres gives a directory to the user postgres if the tests run as root, which PostgreSQL refuses to do.
func ownedByPostgres(t *testing.T, directory string) *syscall.SysProcAttr {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	if err := os.Chown(directory, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
