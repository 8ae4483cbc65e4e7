package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var h histogram
	for i := 1; i <= 1000; i++ {
		h.record(time.Duration(i) * time.Microsecond)
	}
	for _, test := range []struct {
		share float64
		want  time.Duration
	}{{0.5, 500 * time.Microsecond}, {0.99, 990 * time.Microsecond}, {0, time.Microsecond}} {
		got := h.quantile(test.share)
		if off := (got - test.want).Abs(); float64(off) > 0.04*float64(test.want) {
			t.Errorf("quantile %v is %v, want about %v", test.share, got, test.want)
		}
	}
}

func TestClassesAreInOrder(t *testing.T) {
	for n := uint64(0); n < 1<<14; n++ {
		c := class(n)
		if n < least(c) || n >= least(c+1) {
			t.Fatalf("%d is in class %d, which has %d to %d", n, c, least(c), least(c+1)-1)
		}
	}
}

func TestDriveEndsByItself(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ok" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	request := func(path string) [][]byte { return [][]byte{[]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")} }

	drivenOver := func(n int, path string, limit bounds) (leg, error) {
		t.Helper()
		connections, err := connect(context.Background(), address, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, connection := range connections {
			defer connection.Close()
		}
		return drive(context.Background(), connections, request(path), limit)
	}

	got, err := drivenOver(4, "/ok", bounds{duration: time.Minute, requests: 100})
	if err != nil || got.latencies.count != 100 {
		t.Errorf("%d requests, %v; want 100", got.latencies.count, err)
	}
	if _, err := drivenOver(2, "/ok", bounds{duration: 50 * time.Millisecond, requests: 1 << 30}); err != nil {
		t.Error(err)
	}
	_, err = drivenOver(1, "/other", bounds{duration: time.Minute, requests: 1})
	if err == nil || !strings.Contains(err.Error(), "418") {
		t.Errorf("an answer that is no 200 gave %v", err)
	}
}

func TestReadWrk(t *testing.T) {
	const report = "  110306 requests in 2.00s, 12.41MB read\n%sRequests/sec:  55143.07\nTransfer/sec:      6.21MB\n"
	if got, err := readWrk(fmt.Sprintf(report, "")); got != 55143.07 || err != nil {
		t.Errorf("%v, %v, want 55143.07", got, err)
	}
	for _, trouble := range []string{"  Socket errors: connect 0, read 3, write 0, timeout 0\n", "  Non-2xx or 3xx responses: 7\n"} {
		if got, err := readWrk(fmt.Sprintf(report, trouble)); err == nil {
			t.Errorf("with %q the rate is %v", trouble, got)
		}
	}
	if _, err := readWrk("unable to connect to 127.0.0.1:1 Connection refused"); err == nil {
		t.Error("a rate of nothing")
	}
}
