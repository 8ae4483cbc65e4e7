module github.com/ginrefresh/ginrefresh/client/test

go 1.25.0
