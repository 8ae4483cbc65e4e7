// Command services runs an auth service, a service that only verifies tokens, and a reverse proxy in front of both. Each has
// a file of its own, and would be a process of its own.
//
//	go run ./services
//	TOKEN=$(curl -s 127.0.0.1:8080/auth/login -d user=ann -d 'password=open sesame' | jq -r .access_token)
//	curl 127.0.0.1:8080/orders -H "Authorization: Bearer $TOKEN"
//
// Without -keys, tokens are signed with a random key. With -keys DIR, the first *.pem file of the directory signs and the
// others verify. SIGHUP reads the directory again, to rotate keys.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ginrefresh/ginrefresh/middleware"
	"github.com/ginrefresh/ginrefresh/store"
)

const (
	proxyAddr  = "127.0.0.1:8080"
	authAddr   = "127.0.0.1:8081"
	ordersAddr = "127.0.0.1:8082"
)

func main() {
	dir := flag.String("keys", "", "directory with private keys: openssl genpkey -algorithm ed25519 -out DIR/1.pem")
	flag.Parse()
	blacklist := store.NewMemory() // in processes of their own: redisstore or sqlstore, the same for both services
	keys, err := loadKeys(*dir)
	if err != nil {
		log.Fatal(err)
	}
	auth, err := newAuth(blacklist, keys)
	if err != nil {
		log.Fatal(err)
	}
	orders, err := newOrders(blacklist, &middleware.JWKS{URL: "http://" + authAddr + "/.well-known/jwks.json"})
	if err != nil {
		log.Fatal(err)
	}
	if *dir != "" {
		go followKeys(auth, *dir)
	}
	go serve(authAddr, authRoutes(auth))
	go serve(ordersAddr, orders)
	serve(proxyAddr, newProxy("http://"+authAddr, "http://"+ordersAddr))
}

// followKeys reads the keys again at each SIGHUP.
func followKeys(auth *middleware.Auth, dir string) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	for range hangup {
		log.Printf("keys read again, error: %v", reloadKeys(auth, dir))
	}
}

func serve(addr string, handler http.Handler) {
	log.Printf("listening on http://%s", addr)
	server := http.Server{Addr: addr, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
