package client_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/ginrefresh/ginrefresh/client"
)

// A page loads the script with import { createClient } from '/client.js'.
func Example() {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.GET("/client.js", func(c *gin.Context) {
		c.Header("Content-Type", "text/javascript; charset=utf-8")
		http.ServeContent(c.Writer, c.Request, "client.js", time.Time{}, strings.NewReader(client.Script))
	})

	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/client.js", nil))
	fmt.Println(answer.Code, answer.Header().Get("Content-Type"))
	fmt.Println(strings.Contains(answer.Body.String(), "export function createClient("))
	// Output:
	// 200 text/javascript; charset=utf-8
	// true
}
