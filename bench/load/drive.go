package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"strconv"
	"sync"
	"time"
)

// leg is what one server did in one round.
type leg struct {
	took      time.Duration
	processor time.Duration // of the server
	latencies histogram
}

func (l *leg) add(other leg) {
	l.took += other.took
	l.processor += other.processor
	l.latencies.add(&other.latencies)
}

func (l leg) perSecond() float64 { return float64(l.latencies.count) / l.took.Seconds() }

// bounds end a leg, whichever is first.
type bounds struct {
	duration time.Duration
	requests int
}

// connect opens n connections.
func connect(ctx context.Context, address string, n int) (connections []net.Conn, err error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	for range n {
		connection, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return connections, err
		}
		connections = append(connections, connection)
	}
	return connections, nil
}

// drive sends the requests over all connections, on each one at a time. So the server is as busy as it can be, and the
// latencies are those of a server at its limit.
func drive(ctx context.Context, connections []net.Conn, requests [][]byte, limit bounds) (leg, error) {
	n := len(connections)
	results := make([]result, n)
	start := time.Now()
	ends := start.Add(limit.duration)
	var wg sync.WaitGroup
	for i, connection := range connections {
		wg.Go(func() {
			results[i] = converse(ctx, connection, requests, i*len(requests)/n, limit.requests/n, ends)
		})
	}
	wg.Wait()
	total := leg{took: time.Since(start)}
	var failed error
	for i := range results {
		failed = errors.Join(failed, results[i].err)
		total.latencies.add(&results[i].latencies)
	}
	return total, failed
}

// result is what one connection has seen.
type result struct {
	latencies histogram
	err       error
}

// converse uses one connection until it is time.
func converse(ctx context.Context, conn net.Conn, requests [][]byte, first, most int, ends time.Time) (r result) {
	_ = conn.SetDeadline(ends.Add(5 * time.Second))
	buffer := make([]byte, 4096)
	sent := time.Now()
	for i := 0; i < most && sent.Before(ends) && ctx.Err() == nil; i++ {
		if _, r.err = conn.Write(requests[(first+i)%len(requests)]); r.err != nil {
			return r
		}
		if r.err = readAnswer(conn, buffer); r.err != nil {
			return r
		}
		now := time.Now()
		r.latencies.record(now.Sub(sent))
		sent = now
	}
	return r
}

var (
	okLine   = []byte("HTTP/1.1 200 ")
	blank    = []byte("\r\n\r\n")
	lengthIs = []byte("\r\nContent-Length: ")
)

// readAnswer reads one answer, which must be a 200 with a known length.
func readAnswer(conn net.Conn, buffer []byte) error {
	have := 0
	for {
		n, err := conn.Read(buffer[have:])
		if err != nil {
			return err
		}
		have += n
		whole, err := answerLength(buffer[:have])
		if err != nil {
			return err
		}
		if whole == have {
			return nil
		}
		if have == len(buffer) || whole > 0 && have > whole {
			return errors.New("the answer is longer than it says")
		}
	}
}

// answerLength is the length of the answer with its header, 0 if that is not there yet.
func answerLength(answer []byte) (int, error) {
	head, _, found := bytes.Cut(answer, blank)
	if !found {
		return 0, nil
	}
	if !bytes.HasPrefix(head, okLine) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return 0, fmt.Errorf("the answer was %q", line)
	}
	_, length, _ := bytes.Cut(head, lengthIs)
	length, _, _ = bytes.Cut(length, []byte("\r\n"))
	n, err := strconv.Atoi(string(length))
	if err != nil {
		return 0, errors.New("the answer has no length")
	}
	return len(head) + len(blank) + n, nil
}

// histogram counts latencies in classes of about 3 %.
type histogram struct {
	classes [64 * classesPerOctave]uint32
	count   int
}

const (
	octaveBits       = 5
	classesPerOctave = 1 << octaveBits
)

func (h *histogram) record(d time.Duration) {
	h.classes[class(uint64(max(0, d)))]++
	h.count++
}

// class keeps the topmost bits of n, and how many there are below.
func class(n uint64) int {
	if n < classesPerOctave {
		return int(n)
	}
	shift := bits.Len64(n) - octaveBits - 1
	return shift<<octaveBits + int(n>>shift)
}

// least is the least value of a class.
func least(class int) uint64 {
	if class < 2*classesPerOctave {
		return uint64(class)
	}
	shift := class>>octaveBits - 1
	return uint64(class-shift<<octaveBits) << shift
}

func (h *histogram) add(other *histogram) {
	for i, n := range other.classes {
		h.classes[i] += n
	}
	h.count += other.count
}

// quantile is the latency that a share of the requests did not exceed.
func (h *histogram) quantile(share float64) time.Duration {
	wanted, seen := int(share*float64(h.count)), 0
	for i, n := range h.classes {
		if seen += int(n); n > 0 && seen > wanted {
			return time.Duration((least(i) + least(i+1)) / 2)
		}
	}
	return 0
}
