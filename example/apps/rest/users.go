package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"golang.org/x/crypto/bcrypt"
	"gorm.io/gorm"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// User is a row of the table users.
type User struct {
	ID       uint   `uri:"id" binding:"required"`
	Email    string `gorm:"uniqueIndex;not null"`
	Password []byte `gorm:"not null"` // bcrypt
	Role     string `gorm:"not null"`
}

// BeforeCreate makes the first user an admin. GORM calls it in the transaction of the INSERT.
func (u *User) BeforeCreate(tx *gorm.DB) error {
	var users int64
	err := tx.Model(&User{}).Count(&users).Error
	if u.Role = "user"; users == 0 {
		u.Role = "admin"
	}
	return err
}

// subject is the id, which never changes and, with AUTOINCREMENT, is never given to another user.
func (u User) subject() string { return strconv.FormatUint(uint64(u.ID), 10) }

func (u User) identity(c *gin.Context) middleware.Identity {
	return middleware.Identity{Subject: u.subject(), Claims: roleClaims{u.Role}, Label: c.Request.UserAgent()}
}

type roleClaims struct {
	Role string `json:"role" binding:"oneof=user admin"`
}

func isAdmin(_ *gin.Context, claims middleware.Claims) bool {
	var own roleClaims
	return claims.Decode(&own) == nil && own.Role == "admin"
}

// cost is the work factor of bcrypt. Only the tests lower it.
var cost = bcrypt.DefaultCost

// unknown is compared with if there is no such user, so that the time does not tell which users exist.
var unknown, _ = bcrypt.GenerateFromPassword([]byte(rand.Text()), cost)

func (u User) check(password string) error {
	hash := u.Password
	if u.ID == 0 {
		hash = unknown
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || u.ID == 0 {
		return middleware.ErrRefused
	}
	return nil
}

func hashPassword(password string) ([]byte, error) {
	if len(password) < 8 || len(password) > 72 { // bcrypt takes no more
		return nil, &middleware.Error{Code: "bad_password", Status: http.StatusBadRequest, Description: "a password has 8 to 72 bytes"}
	}
	return bcrypt.GenerateFromPassword([]byte(password), cost)
}

// find returns the first user that the condition selects, or User{}.
func (a *app) find(ctx context.Context, condition, value string) (user User, err error) {
	err = a.db.WithContext(ctx).Limit(1).Find(&user, condition, value).Error
	return user, err
}

func bind(c *gin.Context, body any) error {
	if err := c.ShouldBindJSON(body); err != nil {
		return errors.Join(middleware.ErrBadRequest, err)
	}
	return nil
}

type credentials struct {
	Email    string `json:"email" binding:"required,email,max=254"`
	Password string `json:"password" binding:"required"`
}

// authenticate checks the credentials of POST /login.
func (a *app) authenticate(c *gin.Context) (middleware.Identity, error) {
	var body credentials
	if err := bind(c, &body); err != nil {
		return middleware.Identity{}, err
	}
	user, err := a.find(c.Request.Context(), "email = ?", strings.ToLower(body.Email))
	if err != nil {
		return middleware.Identity{}, err
	}
	return user.identity(c), user.check(body.Password)
}

// reload reads the role again at each refresh, and ends the session of a user who was deleted.
func (a *app) reload(ctx context.Context, claims middleware.Claims) (any, error) {
	user, err := a.find(ctx, "id = ?", claims.Subject)
	if err == nil && user.ID == 0 {
		err = middleware.ErrRefused
	}
	return roleClaims{user.Role}, err
}

// register creates a user and logs in.
func (a *app) register(c *gin.Context) error {
	var body credentials
	if err := bind(c, &body); err != nil {
		return err
	}
	hash, err := hashPassword(body.Password)
	if err != nil {
		return err
	}
	user := User{Email: strings.ToLower(body.Email), Password: hash}
	err = a.db.WithContext(c.Request.Context()).Create(&user).Error
	if errors.Is(err, gorm.ErrDuplicatedKey) {
		return &middleware.Error{Code: "email_taken", Status: http.StatusConflict, Description: "another user has this address"}
	}
	if err != nil {
		return err
	}
	return a.logIn(c, user)
}

// logIn starts a session and answers like LoginHandler.
func (a *app) logIn(c *gin.Context, user User) error {
	tokens, err := a.auth.Issue(c.Request.Context(), user.identity(c))
	if err == nil {
		a.auth.Answer(c, tokens)
	}
	return err
}

// changePassword ends all sessions of the user, because whoever knew the old password may have one, and logs in again.
func (a *app) changePassword(c *gin.Context) error {
	var body struct {
		Old string `json:"old_password" binding:"required"`
		New string `json:"new_password" binding:"required"`
	}
	if err := bind(c, &body); err != nil {
		return err
	}
	ctx := c.Request.Context()
	user, err := a.find(ctx, "id = ?", middleware.MustClaims(c).Subject)
	if err != nil {
		return err
	}
	if err := user.check(body.Old); err != nil {
		return err
	}
	hash, err := hashPassword(body.New)
	if err != nil {
		return err
	}
	if err := a.db.WithContext(ctx).Model(&user).Update("password", hash).Error; err != nil {
		return err
	}
	// After the change: so a login that has just checked the old password does not succeed.
	if err := a.auth.RevokeSubject(ctx, user.subject()); err != nil {
		return err
	}
	return a.logIn(c, user)
}

// changeRole takes effect when the user's token is refreshed, within TTL.
func (a *app) changeRole(c *gin.Context) error {
	var user User
	var body roleClaims
	if err := errors.Join(c.ShouldBindUri(&user), c.ShouldBindJSON(&body)); err != nil {
		return errors.Join(middleware.ErrBadRequest, err)
	}
	if err := a.db.WithContext(c.Request.Context()).Model(&user).Update("role", body.Role).Error; err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
