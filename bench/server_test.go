package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/valyala/fasthttp"
)

// server sends one request with an Authorization header straight to a handler, and returns the status. It has no
// socket, reuses its request and its writer, and allocates nothing, so the benchmarks count the handler's work alone.
type server func(authorization string) (status int)

func newServer(handler any) server {
	switch handler := handler.(type) {
	case post:
		return httpServer(http.MethodPost, handler)
	case http.Handler:
		return httpServer(http.MethodGet, handler)
	case fasthttp.RequestHandler:
		return fastServer(handler)
	}
	panic(fmt.Sprintf("%T is not a handler", handler))
}

func httpServer(method string, handler http.Handler) server {
	values := []string{""}
	request := &http.Request{
		Method: method, URL: &url.URL{Path: path}, RequestURI: path, Host: "localhost", RemoteAddr: "127.0.0.1:50000",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Authorization": values, "Accept": {"*/*"}, "User-Agent": {"bench"}},
	}
	w := &writer{header: http.Header{}}
	return func(authorization string) int {
		values[0] = authorization
		request.Body = http.NoBody // the handler may have wrapped the last one
		w.status = 0
		clear(w.header)
		handler.ServeHTTP(w, request)
		return w.status
	}
}

// writer is an http.ResponseWriter that keeps only the status.
type writer struct {
	header http.Header
	status int
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

// WriteString is there because the writer of net/http has it too.
func (w *writer) WriteString(s string) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(s), nil
}

func fastServer(handler fasthttp.RequestHandler) server {
	ctx := new(fasthttp.RequestCtx)
	ctx.Init(&fasthttp.Request{}, nil, nil)
	ctx.Request.SetRequestURI(path)
	ctx.Request.Header.SetHost("localhost")
	return func(authorization string) int {
		ctx.Response.Reset()
		ctx.Request.Header.Set(fasthttp.HeaderAuthorization, authorization)
		handler(ctx)
		return ctx.Response.StatusCode()
	}
}
