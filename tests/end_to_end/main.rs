//! Plugsock from outside: real sockets, real processes, real components.

mod echo;
mod harness;
mod limits;
mod phases;
