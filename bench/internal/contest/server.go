package contest

import (
	"io"
	"net/http"
	"net/url"

	"github.com/valyala/fasthttp"
)

// Server answers requests without a network, one at a time: what is measured is routing, middleware and
// handler, and neither sockets nor the parsing of HTTP.
type Server interface {
	// Serve sends one request with this Authorization header, "Bearer " included, and returns the status.
	Serve(authorization string) int
}

// overHTTP serves through an http.Handler. It uses one request and one writer again and again, and allocates
// nothing itself, so that what is counted is the contestant's.
type overHTTP struct {
	handler http.Handler
	request http.Request
	values  []string
	writer  writer
}

func newHTTP(handler http.Handler, method, path string) *overHTTP {
	s := &overHTTP{handler: handler, values: []string{""}, writer: writer{header: http.Header{}}}
	s.request = http.Request{
		Method: method, URL: &url.URL{Path: path}, RequestURI: path, Host: "localhost", RemoteAddr: "127.0.0.1:50000",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Authorization": s.values, "Accept": {"*/*"}, "User-Agent": {"bench"}},
	}
	return s
}

// Handler is for a server on a socket.
func (s *overHTTP) Handler() http.Handler { return s.handler }

func (s *overHTTP) Serve(authorization string) int {
	s.values[0] = authorization
	s.request.Body = http.NoBody // a handler may have wrapped it
	s.writer.reset()
	s.handler.ServeHTTP(&s.writer, &s.request)
	return s.writer.status
}

// writer is an http.ResponseWriter that keeps the status and drops the rest.
type writer struct {
	header http.Header
	status int
}

var _ io.StringWriter = (*writer)(nil) // as net/http's own has it

func (w *writer) reset() {
	clear(w.header)
	w.status = 0
}

func (w *writer) Header() http.Header { return w.header }

func (w *writer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *writer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(b), nil
}

func (w *writer) WriteString(s string) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(s), nil
}

// overFast serves through fasthttp, which Fiber is built on.
type overFast struct {
	handler fasthttp.RequestHandler
	ctx     fasthttp.RequestCtx
}

func newFast(handler fasthttp.RequestHandler, path string) *overFast {
	s := &overFast{handler: handler}
	s.ctx.Init(&fasthttp.Request{}, nil, nil)
	s.ctx.Request.Header.SetMethod(fasthttp.MethodGet)
	s.ctx.Request.SetRequestURI(path)
	s.ctx.Request.Header.SetHost("localhost")
	return s
}

func (s *overFast) Serve(authorization string) int {
	s.ctx.Response.Reset()
	s.ctx.Request.Header.Set(fasthttp.HeaderAuthorization, authorization)
	s.handler(&s.ctx)
	return s.ctx.Response.StatusCode()
}
