package main

import "golang.org/x/crypto/bcrypt"

// passwordCost is the bcrypt cost of the stored password hashes. Only the tests lower it.
var passwordCost = bcrypt.DefaultCost

// An account is a row of the user table that a real application has.
type account struct {
	passwordHash []byte
	role         string
}

// users is the user table. It also holds the hash that the passwords of unknown users are compared with.
type users struct {
	accounts map[string]account
	unknown  []byte
}

func newUsers() users {
	return users{
		accounts: map[string]account{
			"admin": {passwordHash: hashPassword("admin"), role: "admin"},
			"alice": {passwordHash: hashPassword("alice"), role: "user"},
		},
		unknown: hashPassword(""),
	}
}

func hashPassword(password string) []byte {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), passwordCost)
	if err != nil {
		panic(err) // only for a password longer than 72 bytes
	}
	return hash
}

// check returns the user's role if the password is right. An unknown user takes as long to reject as a wrong password,
// so that the response time does not reveal which names exist.
func (u users) check(name, password string) (role string, ok bool) {
	stored, known := u.accounts[name]
	if !known {
		stored.passwordHash = u.unknown
	}
	matches := bcrypt.CompareHashAndPassword(stored.passwordHash, []byte(password)) == nil
	return stored.role, known && matches
}
