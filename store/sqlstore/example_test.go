package sqlstore_test

import (
	"context"
	"database/sql"
	"log"
	"time"

	"github.com/ginrefresh/ginrefresh/store/sqlstore"
)

// The application imports its driver: _ "github.com/jackc/pgx/v5/stdlib".
func Example() {
	db, err := sql.Open("pgx", "postgres://app@db/app")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(50) // less than the server's max_connections, divided by the number of processes
	db.SetMaxIdleConns(50)

	s, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := s.CreateTable(ctx); err != nil {
		log.Fatal(err)
	}
	if err := s.Check(ctx); err != nil {
		log.Fatal(err)
	}
	go func() {
		for range time.Tick(time.Hour) {
			if _, err := s.Sweep(ctx); err != nil {
				log.Print(err)
			}
		}
	}()
	// middleware.Config{Store: s, …}
}
