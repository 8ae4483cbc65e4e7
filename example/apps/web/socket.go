package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// socket sends the time until the session ends. The guard has checked the token and the origin of the handshake. Before each
// message Alive checks the session: the token may expire or be replaced meanwhile.
func (a *app) socket(c *gin.Context) {
	claims := middleware.MustClaims(c)
	conn, err := websocket.Accept(c.Writer, c.Request, nil)
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	ctx := conn.CloseRead(c.Request.Context()) // ends when the browser closes the connection
	ticker := time.NewTicker(a.tick)
	defer ticker.Stop()
	for {
		if err := a.auth.Alive(ctx, claims); err != nil {
			_ = conn.Close(closeStatus(err))
			return
		}
		if err := conn.Write(ctx, websocket.MessageText, []byte(time.Now().Format(time.TimeOnly))); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// closeStatus tells the page whether the session is over, or only the store down.
func closeStatus(err error) (websocket.StatusCode, string) {
	if e := (*middleware.Error)(nil); errors.As(err, &e) && e.Status == http.StatusUnauthorized {
		return websocket.StatusPolicyViolation, string(e.Code)
	}
	return websocket.StatusTryAgainLater, ""
}
