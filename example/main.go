// Command example is a server to try ginrefresh with: log in, watch a token expire, refresh it, log out.
//
//	go run ./example
//
// The wiring to copy is in app.go. This file has the flags and the life of the process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then lets the requests under way finish.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	settings, err := parseFlags(args, stderr)
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
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(stdout, "listening on http://%s\n", listener.Addr())

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(shutdown)
}

// settings are the flags.
type settings struct {
	addr, mode, alg, key, issuer, audience, store string

	ttl, refreshTTL, idleTTL, grace, leeway time.Duration

	cookies bool
}

func parseFlags(args []string, output io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("example", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&s.addr, "addr", "127.0.0.1:8080", "address to listen on; port 0 takes a free one")
	flags.StringVar(&s.mode, "mode", "single", "single: one token, used and refreshed; pair: an access and a refresh token")
	flags.StringVar(&s.alg, "alg", "HS256", "signing algorithm: HS256 to HS512, RS256 to RS512, PS256 to PS512, ES256 to ES512, EdDSA")
	flags.StringVar(&s.key, "key", "", "PEM file with the private key; default: one made at start. The secret of HS256 to HS512 comes from the environment, JWT_SECRET")
	flags.StringVar(&s.issuer, "issuer", "", "iss of the tokens")
	flags.StringVar(&s.audience, "audience", "", "aud of the tokens")
	flags.StringVar(&s.store, "store", "memory", "where the blacklist is: memory, bolt:FILE, or redis://HOST:PORT[/DB][?addr=HOST:PORT…]")
	flags.DurationVar(&s.ttl, "ttl", time.Minute, "how long a token is good for requests")
	flags.DurationVar(&s.refreshTTL, "refresh-ttl", 10*time.Minute, "how long after login a session can be refreshed")
	flags.DurationVar(&s.idleTTL, "idle-ttl", 0, "how long a session may go without a refresh; 0: no limit")
	flags.DurationVar(&s.grace, "grace", 10*time.Second, "how long a replaced token still passes; 0: not at all")
	flags.DurationVar(&s.leeway, "leeway", 0, "how far the servers' clocks may differ")
	flags.BoolVar(&s.cookies, "cookies", false, "put the tokens into cookies")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	if s.ttl == 0 || s.refreshTTL == 0 { // in Config 0 is the default
		return settings{}, errors.New("example: -ttl and -refresh-ttl must not be 0")
	}
	if flags.NArg() > 0 {
		return settings{}, fmt.Errorf("example: unexpected argument %q", flags.Arg(0))
	}
	return s, nil
}
