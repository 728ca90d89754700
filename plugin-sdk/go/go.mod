module plugsock

go 1.24
