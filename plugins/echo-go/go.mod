module echo

go 1.24

require plugsock v0.0.0

replace plugsock => ./build/sdk
