package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// programArgs is an environment variable that makes the test binary run as the example, with these arguments. Some tests
// need a separate process: signals, exit codes, the environment.
const programArgs = "GINREFRESH_EXAMPLE_ARGS"

func TestMain(m *testing.M) {
	if args, set := os.LookupEnv(programArgs); set {
		os.Args = append(os.Args[:1], strings.Fields(args)...)
		main()
		return
	}
	// The tests choose their own environment. A test that reads the user's environment fails: this secret is too short.
	if err := os.Setenv("JWT_SECRET", "short"); err != nil {
		panic(err)
	}
	passwordCost = bcrypt.MinCost
	m.Run()
}

// patience is the time limit for operations that take milliseconds, on a busy machine.
const patience = 30 * time.Second

// noEnvironment is an environment without variables.
func noEnvironment(string) string { return "" }

// secret is an environment with a secret.
func secret(value string) func(string) string {
	return func(name string) string {
		if name == "JWT_SECRET" {
			return value
		}
		return ""
	}
}

// A server is a running example.
type server struct {
	t       *testing.T
	url     string
	printed string // before it listened
	client  *http.Client
	log     *lockedBuffer
	stop    func() error // stops the server and returns the result of run
}

// start runs the example on a free port, in an empty environment, and waits until it listens.
func start(t *testing.T, args ...string) server {
	t.Helper()
	return startIn(t, noEnvironment, args...)
}

func startIn(t *testing.T, getenv func(string) string, args ...string) server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stdout, printed := io.Pipe()
	var log lockedBuffer
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), getenv, printed, &log)
		_ = printed.Close()
		ended <- err
	}()
	stop := sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("run did not return")
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	url, before := address(t, stdout)
	return server{t, url, before, &http.Client{Transport: transport, Timeout: patience}, &log, stop}
}

// address reads the address from the line that the example prints, and what it prints before it.
func address(t *testing.T, stdout io.Reader) (url, printed string) {
	t.Helper()
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		url, found := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
		known := strings.HasPrefix(url, "http://127.0.0.1:") || strings.HasPrefix(url, "https://localhost:")
		switch {
		case err != nil || found && (!known || strings.HasSuffix(url, ":0")):
			t.Fatalf("the example printed %q, %v", printed+line, err)
		case found:
			return url, printed
		}
		printed += line
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type answer struct {
	status int
	body   string
}

func (a answer) member(name string) string {
	var members map[string]any
	_ = json.Unmarshal([]byte(a.body), &members)
	text, _ := members[name].(string)
	return text
}

func (s server) send(method, path, token, contentType, body string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return answer{}
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := s.client.Do(r)
	if err != nil {
		s.t.Error(err)
		return answer{}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Error(err)
	}
	return answer{response.StatusCode, string(text)}
}

func (s server) get(path, token string) answer  { return s.send("GET", path, token, "", "") }
func (s server) post(path, token string) answer { return s.send("POST", path, token, "", "") }

// is checks the status, and that the body contains the text.
func (s server) is(a answer, status int, text string) {
	s.t.Helper()
	if a.status != status || !strings.Contains(a.body, text) {
		s.t.Errorf("got %d %s, want %d %s", a.status, a.body, status, text)
	}
}

func (s server) token(a answer) string {
	s.t.Helper()
	s.is(a, http.StatusOK, `"access_token":"`)
	return a.member("access_token")
}

// login logs in as user, whose password is the same as the name.
func (s server) login(user string) string {
	s.t.Helper()
	return s.token(s.send("POST", "/login", "", "application/json", `{"username":"`+user+`","password":"`+user+`"}`))
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	s := start(t)
	if !strings.Contains(s.log.String(), "JWT_SECRET is not set") {
		t.Errorf("the log does not warn about the random key: %s", s.log)
	}
	s.is(s.get("/", ""), http.StatusOK, "")
	s.is(s.get("/healthz", ""), http.StatusOK, `"ok"`)
	s.is(s.get("/.well-known/jwks.json", ""), http.StatusOK, `{"keys":[]}`) // a secret is never published
	s.is(s.get("/nowhere", ""), http.StatusNotFound, "")

	admin, alice := s.login("admin"), s.login("alice")
	for _, route := range []struct{ method, path, admin, alice, guest string }{
		{"GET", "/protected", `{"msg":"Hello, admin!"}`, `{"msg":"Hello, alice!"}`, "token_missing"},
		{"GET", "/renewing", `{"msg":"Hello, admin!"}`, `{"msg":"Hello, alice!"}`, "token_missing"},
		{"POST", "/sensitive", `{"msg":"Hello, admin!"}`, `{"msg":"Hello, alice!"}`, "token_missing"},
		{"GET", "/optional", `{"msg":"Hello, admin!"}`, `{"msg":"Hello, alice!"}`, `{"msg":"Hello, guest!"}`},
		{"GET", "/me", `"role":"admin"`, `"sub":"alice"`, "token_missing"},
		{"GET", "/admin", `{"msg":"Hello, admin!"}`, `"code":"forbidden"`, "token_missing"},
		{"POST", "/refresh", `"token_type":"Bearer"`, `"access_token":"`, "token_missing"},
		{"POST", "/logout", "", "", "token_missing"},
		{"POST", "/logout/all", "token_revoked", "token_revoked", "token_missing"},
	} {
		for token, want := range map[string]string{admin: route.admin, alice: route.alice, "": route.guest, "a.b.c": "token_invalid"} {
			a := s.send(route.method, route.path, token, "", "")
			status := http.StatusOK
			switch want {
			case "token_missing", "token_invalid", "token_revoked":
				status = http.StatusUnauthorized
			case `"code":"forbidden"`:
				status = http.StatusForbidden
			case "":
				status = http.StatusNoContent
			}
			if a.status != status || !strings.Contains(a.body, want) {
				t.Errorf("%s %s: %d %s, want %d %s", route.method, route.path, a.status, a.body, status, want)
			}
		}
	}
	for _, token := range []string{admin, alice} {
		s.is(s.get("/protected", token), http.StatusUnauthorized, "token_revoked")
		if strings.Contains(s.log.String(), token) {
			t.Error("the log contains a token")
		}
	}
}

func TestLogoutEverywhere(t *testing.T) {
	t.Parallel()
	s := start(t)
	phone, laptop, admin := s.login("alice"), s.login("alice"), s.login("admin")
	s.is(s.post("/logout/all", phone), http.StatusNoContent, "")
	s.is(s.get("/protected", laptop), http.StatusUnauthorized, "token_revoked")
	s.is(s.get("/protected", admin), http.StatusOK, "Hello, admin!")
	s.is(s.get("/protected", s.login("alice")), http.StatusOK, "Hello, alice!")
}

func TestLogin(t *testing.T) {
	t.Parallel()
	s := start(t)
	const inForm, inJSON = "application/x-www-form-urlencoded", "application/json"
	for name, row := range map[string]struct {
		contentType, body string
		status            int
		want              string
	}{
		"JSON":             {inJSON, `{"username":"admin","password":"admin"}`, 200, `"expires_in":`},
		"form":             {inForm, `username=admin&password=admin`, 200, `"refresh_expires_in":`},
		"wrong password":   {inJSON, `{"username":"admin","password":"alice"}`, 401, "invalid_credentials"},
		"unknown user":     {inJSON, `{"username":"bob","password":"bob"}`, 401, "invalid_credentials"},
		"unknown user, 2":  {inJSON, `{"username":"nobody","password":" "}`, 401, "invalid_credentials"},
		"no password":      {inJSON, `{"username":"admin"}`, 400, "bad_request"},
		"empty password":   {inJSON, `{"username":"admin","password":""}`, 400, "bad_request"},
		"wrong type":       {inJSON, `{"username":"admin","password":["admin"]}`, 400, "bad_request"},
		"truncated":        {inJSON, `{"username":"admin"`, 400, "bad_request"},
		"empty":            {inJSON, ``, 400, "bad_request"},
		"null":             {inJSON, `null`, 400, "bad_request"},
		"form, no user":    {inForm, `password=admin`, 400, "bad_request"},
		"1 MiB":            {inJSON, `{"username":"` + strings.Repeat("x", 1<<20) + `"}`, 400, "bad_request"},
		"password of 1000": {inJSON, `{"username":"admin","password":"` + strings.Repeat("x", 1000) + `"}`, 401, "invalid_credentials"},
	} {
		a := s.send("POST", "/login", "", row.contentType, row.body)
		if a.status != row.status || !strings.Contains(a.body, row.want) {
			t.Errorf("%s: got %d %s, want %d %s", name, a.status, a.body, row.status, row.want)
		}
	}
}

// Only POST changes state.
func TestOnlyPost(t *testing.T) {
	t.Parallel()
	s := start(t)
	token := s.login("admin")
	for _, path := range []string{"/login", "/refresh", "/logout", "/logout/all", "/sensitive"} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			if a := s.send(method, path, token, "", ""); a.status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: got %d, want 405", method, path, a.status)
			}
		}
	}
	s.is(s.get("/protected", token), http.StatusOK, "Hello, admin!")
}

func TestFlags(t *testing.T) {
	t.Parallel()
	s := start(t, "-ttl", "7s", "-refresh-ttl", "70s", "-grace", "0", "-issuer", "https://we.example", "-audience", "api")
	token := s.login("admin")
	var claims struct {
		Iss, Aud   string
		Iat, Exp   int64
		RefreshExp int64 `json:"refresh_exp"`
		AuthTime   int64 `json:"auth_time"`
	}
	if err := json.Unmarshal([]byte(s.get("/me", token).body), &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Iss != "https://we.example" || claims.Aud != "api" || claims.Exp-claims.Iat != 7 || claims.RefreshExp-claims.AuthTime != 70 {
		t.Errorf("got the claims %+v", claims)
	}
	next := s.token(s.post("/refresh", token))
	s.is(s.get("/protected", next), http.StatusOK, "Hello, admin!")
	s.is(s.get("/protected", token), http.StatusUnauthorized, "token_revoked") // -grace 0: no grace period
	s.is(s.post("/refresh", token), http.StatusUnauthorized, "token_reused")
}

// Servers with the same secret accept each other's tokens. A server with a random key rejects them.
func TestSecretFromTheEnvironment(t *testing.T) {
	t.Parallel()
	shared := secret(strings.Repeat("s", 32))
	first, second := startIn(t, shared), startIn(t, shared)
	if strings.Contains(first.log.String(), "random") || strings.Contains(first.log.String(), "ssss") {
		t.Errorf("the log warns about a random key or contains the secret: %s", first.log)
	}
	token := first.login("admin")
	second.is(second.get("/protected", token), http.StatusOK, "Hello, admin!")

	third := start(t)
	third.is(third.get("/protected", token), http.StatusUnauthorized, "token_invalid")
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	for args, word := range map[string]string{
		"-bind always -mode pair": `"always"`,
		"-bind offered":           "Pair",
		"-mode double":            `"double"`,
		"-alg none":               `"none"`,
		"-alg hs256":              `"hs256"`,
		"-store file":             `"file"`,
		"-ttl soon":               "soon",
		"-ttl 1ms":                "TTL",
		"-ttl 1m -refresh-ttl 1m": "RefreshTTL",
		"-ttl -1s":                "TTL",
		"-ttl 0":                  "must not be 0",
		"-refresh-ttl 0s":         "must not be 0",
		"-idle-ttl 1s":            "IdleTTL",
		"-grace 6m":               "Grace",
		"-leeway -1s":             "Leeway",
		"-max-staleness 1s":       "Redis",
		"-max-sessions -1":        "MaxSessions",
		"-max-sessions 51":        "MaxSessions",
		"-addr nowhere":           "nowhere",
		"-unknown":                "unknown",
		"serve":                   `"serve"`,
		"-ttl 2m -leeway -1s -grace 1h -refresh-ttl 1m": "Grace",
	} {
		err := failing(t, noEnvironment, strings.Fields(args)...)
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: the error %q does not contain %s", args, err, word)
		}
	}
	if err := failing(t, noEnvironment, "-h"); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	for _, short := range []string{"short", strings.Repeat("s", 31)} {
		if err := failing(t, secret(short)); !strings.Contains(err.Error(), "32 bytes") || strings.Contains(err.Error(), short) {
			t.Errorf("a secret of %d bytes: %v", len(short), err)
		}
	}
}

// failing runs the example with settings that it must reject before it listens, and returns the error.
func failing(t *testing.T, getenv func(string) string, args ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), getenv, &stdout, &stderr)
	if err == nil || ctx.Err() != nil || stdout.Len() > 0 {
		t.Fatalf("%q: got the error %v and the output %q", args, err, &stdout)
	}
	return err
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	s := start(t)
	if err := failing(t, noEnvironment, "-addr", strings.TrimPrefix(s.url, "http://")); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want EADDRINUSE", err)
	}
}

// A shutdown answers the requests in progress. Nothing listens afterwards.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.client.Transport.(*http.Transport).ExpectContinueTimeout = patience
	reading, body := make(chan struct{}), `{"username":"admin","password":"admin"}`
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: func() { close(reading) }})
	fromClient, typing := io.Pipe()
	request, err := http.NewRequestWithContext(ctx, "POST", s.url+"/login", fromClient)
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = int64(len(body))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Expect", "100-continue") // the server answers 100 when the handler starts to read
	status := make(chan int, 1)
	go func() {
		response, err := s.client.Do(request)
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		response.Body.Close()
		status <- response.StatusCode
	}()
	<-reading

	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	for tick := time.Tick(5 * time.Millisecond); s.listens(); {
		<-tick
	}
	go func() { _, _ = io.WriteString(typing, body) }()
	if got := <-status; got != http.StatusOK {
		t.Errorf("the login in progress got %d, want 200", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("run returned %v", err)
	}
}

func (s server) listens() bool {
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		return false
	}
	_ = connection.Close()
	return true
}

// Service managers send SIGTERM, terminals send SIGINT.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			command := program(t, "", "-addr 127.0.0.1:0")
			stdout, err := command.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			url, _ := address(t, stdout)
			response, err := http.Get(url + "/healthz")
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if err := command.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if err := command.Wait(); err != nil {
				t.Errorf("the example exited with %v", err)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]int{"-h": 0, "-store file": 1, "-unknown": 1} {
		command := program(t, "", args)
		output, _ := command.CombinedOutput()
		if got := command.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: exit code %d, want %d: %s", args, got, want, output)
		}
	}
}

// The program reads the secret from the environment of its process.
func TestProgramReadsItsEnvironment(t *testing.T) {
	t.Parallel()
	output, err := program(t, "short", "-addr 127.0.0.1:0").CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !strings.Contains(string(output), "32 bytes") {
		t.Errorf("with a short secret: %v, %s", err, output)
	}
}

// program returns a command that runs the example in a separate process, with this secret in its environment.
func program(t *testing.T, secret, args string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), programArgs+"="+args, "JWT_SECRET="+secret)
	return command
}

var shippedCost = passwordCost // before TestMain lowers it

// The tests hash passwords at the lowest cost, the program never does.
func TestPasswordCost(t *testing.T) {
	t.Parallel()
	if shippedCost < bcrypt.DefaultCost {
		t.Errorf("the program hashes passwords at cost %d, want at least %d", shippedCost, bcrypt.DefaultCost)
	}
	all := newUsers()
	hashes := map[string][]byte{"an unknown user": all.unknown}
	for name, account := range all.accounts {
		hashes[name] = account.passwordHash
	}
	for name, hash := range hashes {
		if cost, err := bcrypt.Cost(hash); err != nil || cost != passwordCost {
			t.Errorf("the hash of %s has cost %d, want %d: %v", name, cost, passwordCost, err)
		}
	}
}

// 64 tabs refresh the same token: all get the same successor. After a logout, every token of the session is revoked.
func TestParallelRefreshes(t *testing.T) {
	t.Parallel()
	rounds := 20
	if os.Getenv("GINREFRESH_FULL") != "" {
		rounds = 200
	}
	s := start(t)
	for range rounds {
		token := s.login("alice")
		next := make([]answer, 64)
		var tabs sync.WaitGroup
		for i := range next {
			tabs.Go(func() { next[i] = s.post("/refresh", token) })
		}
		tabs.Wait()

		ids, tokens := map[string]bool{}, map[string]bool{token: true}
		for _, a := range next {
			ids[jti(s.token(a))], tokens[s.token(a)] = true, true
		}
		if len(ids) != 1 || ids[jti(token)] || ids[""] {
			t.Fatalf("64 refreshes of %s returned %v, want one successor", jti(token), ids)
		}
		s.is(s.get("/protected", s.token(next[0])), http.StatusOK, "Hello, alice!")
		s.is(s.post("/logout", s.token(next[0])), http.StatusNoContent, "")
		for token := range tokens {
			s.is(s.get("/protected", token), http.StatusUnauthorized, "token_revoked")
		}
	}
}

func jti(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	object, _ := base64.RawURLEncoding.DecodeString(payload)
	return answer{body: string(object)}.member("jti")
}
