package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/ginrefresh/ginrefresh/bench/internal/contest"
	"github.com/ginrefresh/ginrefresh/bench/internal/redisserver"
	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
	"github.com/ginrefresh/ginrefresh/store/boltstore"
	"github.com/ginrefresh/ginrefresh/store/redisstore"
)

// The stores that ginrefresh is run with.
const (
	noStore    = ""
	memory     = "memory"
	bolt       = "bolt"
	redis      = "Redis"
	redisStale = "Redis, MaxStaleness 1 s"
)

// setup is what a server is told on its standard input.
type setup struct {
	Contestant string
	Store      string
	Algorithm  middleware.Algorithm
	Key        []byte
	Redis      string // its address
	Dir        string // for files
}

// background is how many records of other sessions the blacklist has.
const background = 10_000

// serve is the server process. It says its address and runs until its standard input ends, and so never
// longer than the process that started it.
func serve(in io.Reader, out io.Writer) error {
	var s setup
	stdin := json.NewDecoder(in)
	if err := stdin.Decode(&s); err != nil {
		return err
	}
	blacklist, err := s.open()
	if err != nil {
		return err
	}
	if err := contest.FillStore(blacklist, background); err != nil {
		return err
	}
	guarded := contest.Find(s.Contestant).Guarded(contest.UnmarshalKey(s.Algorithm, s.Key), blacklist)
	overHTTP, ok := guarded.(interface{ Handler() http.Handler })
	if !ok {
		return errors.New(s.Contestant + " has no http.Handler")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: overHTTP.Handler(), ReadHeaderTimeout: time.Minute}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(0)
	}()
	fmt.Fprintln(out, listener.Addr())
	return server.Serve(listener)
}

func (s setup) open() (middleware.Store, error) {
	switch s.Store {
	case bolt:
		return boltstore.Open(filepath.Join(s.Dir, fmt.Sprintf("%s.db", s.Algorithm)))
	case redis, redisStale:
		client, err := redisserver.Dial(s.Redis)
		if err != nil {
			return nil, err
		}
		options := redisstore.Options{}
		if s.Store == redisStale {
			options.MaxStaleness = time.Second
		}
		return redisstore.New(client, options)
	}
	return store.NewMemory(), nil
}
