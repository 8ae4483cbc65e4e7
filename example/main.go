// Command example is a server for trying ginrefresh: log in, watch a token expire, refresh it, log out.
//
//	go run ./example
//
// Copy the wiring from app.go. This file contains the flags, the startup and the shutdown.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx is done, then waits for the requests in progress.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	settings, err := parseSettings(args, getenv, stderr)
	if err != nil {
		return err
	}
	app, closeApp, err := newApp(settings, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeApp()) }()

	listener, err := net.Listen("tcp", settings.addr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           app,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
	}
	url, serve := "http://"+listener.Addr().String(), server.Serve
	if settings.tls {
		certificate, hash, err := newCertificate()
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		url = fmt.Sprintf("https://localhost:%d", listener.Addr().(*net.TCPAddr).Port)
		fmt.Fprintf(stdout, "for Chromium: --ignore-certificate-errors-spki-list=%s\n", hash)
	}
	served := make(chan error, 1)
	go func() { served <- serve(listener) }()
	fmt.Fprintf(stdout, "listening on %s\n", url)

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(shutdown)
}

// settings holds the flags and the environment.
type settings struct {
	addr, mode, alg, key, issuer, audience, store, bind string

	ttl, refreshTTL, idleTTL, grace, leeway, maxStaleness time.Duration

	maxSessions int

	cookies, tls bool

	secret string // JWT_SECRET: a flag would show the secret in the list of processes
}

func parseSettings(args []string, getenv func(string) string, output io.Writer) (settings, error) {
	s := settings{secret: getenv("JWT_SECRET")}
	flags := flag.NewFlagSet("example", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&s.addr, "addr", "127.0.0.1:8080", "address to listen on; port 0 selects a free port")
	flags.StringVar(&s.mode, "mode", "single", "single: one token, which is used and refreshed; pair: an access token and a refresh token")
	flags.StringVar(&s.alg, "alg", "HS256", "signing algorithm: HS256 to HS512, RS256 to RS512, PS256 to PS512, ES256 to ES512, EdDSA")
	flags.StringVar(&s.key, "key", "", "PEM `file` with the private key (default: a key generated at start). The HS algorithms read their secret from the environment variable JWT_SECRET instead")
	flags.StringVar(&s.issuer, "issuer", "", "iss claim of the tokens")
	flags.StringVar(&s.audience, "audience", "", "aud claim of the tokens")
	flags.StringVar(&s.store, "store", "memory", "store of the blacklist: memory, bolt:FILE, or redis://HOST:PORT[/DB][?addr=HOST:PORT…]")
	flags.DurationVar(&s.ttl, "ttl", time.Minute, "lifetime of a token used on requests")
	flags.DurationVar(&s.refreshTTL, "refresh-ttl", 10*time.Minute, "length of the refresh window, counted from the login")
	flags.DurationVar(&s.idleTTL, "idle-ttl", 0, "how long a session may go without a refresh; 0 means no limit")
	flags.DurationVar(&s.grace, "grace", 10*time.Second, "grace period: how long a replaced token is still accepted; 0 means not at all")
	flags.DurationVar(&s.leeway, "leeway", 0, "tolerated difference between the clocks of the servers")
	flags.DurationVar(&s.maxStaleness, "max-staleness", 0, "with Redis: check requests in this process's memory, which may miss a logout for so long at most; 0 asks Redis for each request")
	flags.IntVar(&s.maxSessions, "max-sessions", 5, "how many sessions a user can have: at the limit a login ends an older one; 0 means no limit and no list of sessions")
	flags.BoolVar(&s.cookies, "cookies", false, "send the tokens in cookies")
	flags.StringVar(&s.bind, "bind", "off", "bind sessions to a key of the client: off, offered or required; needs -mode pair. With -cookies and -tls, browsers with DBSC bind them by themselves")
	flags.BoolVar(&s.tls, "tls", false, "serve https for localhost, with a certificate that is made at start")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	if s.ttl == 0 || s.refreshTTL == 0 { // a zero field in Config selects the default
		return settings{}, errors.New("example: -ttl and -refresh-ttl must not be 0")
	}
	if s.maxStaleness != 0 && !strings.HasPrefix(s.store, "redis") {
		return settings{}, errors.New("example: -max-staleness needs a Redis: no other store answers from memory that others may have changed")
	}
	if flags.NArg() > 0 {
		return settings{}, fmt.Errorf("example: unexpected argument %q", flags.Arg(0))
	}
	return s, nil
}
