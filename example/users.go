package main

import "golang.org/x/crypto/bcrypt"

// user is a row of what would be a database.
type user struct {
	hash []byte
	role string
}

var users = map[string]user{
	"admin": {hash: hash("admin"), role: "admin"},
	"alice": {hash: hash("alice"), role: "user"},
}

// nobody takes as long to refuse as anybody else, so that the time does not tell which names exist.
var nobody = user{hash: hash("")}

func hash(password string) []byte {
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		panic(err)
	}
	return h
}

func checkPassword(name, password string) (role string, ok bool) {
	u, known := users[name]
	if !known {
		u = nobody
	}
	matches := bcrypt.CompareHashAndPassword(u.hash, []byte(password)) == nil
	return u.role, known && matches
}
