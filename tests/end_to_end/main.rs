//! Plugsock from outside: real sockets, real processes, real components.

mod cache;
mod cli;
mod echo;
mod grants;
mod harness;
mod limits;
mod log;
mod phases;
mod shutdown;
