package main

import (
	"net/http"
	"net/http/httputil"
	"net/url"
)

// newProxy returns the only server that clients reach. It does not publish the keys: the services fetch them directly.
func newProxy(auth, orders string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/auth/", forward(auth))
	mux.Handle("/orders", forward(orders))
	return mux
}

// forward passes requests on with the client's address and the Host that the client has sent. It drops the X-Forwarded-For
// of the client. For nginx: proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header Host $host;
func forward(target string) http.Handler {
	u, err := url.Parse(target)
	if err != nil {
		panic(err) // a mistake in this program
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.SetXForwarded()
		r.Out.Host = r.In.Host
	}}
}
