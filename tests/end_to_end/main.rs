//! Plugsock from outside: real sockets, real processes, real components.

mod cache;
mod call;
mod cli;
mod clients;
mod compiling;
mod datagrams;
mod descriptors;
mod echo;
mod forking;
mod grants;
mod harness;
mod hooks;
mod limits;
mod log;
mod many_connections;
mod network;
mod phases;
mod plugins;
mod proxy_protocol;
mod shutdown;
mod socketserver;
mod streams;
mod trust;
mod unix_sockets;
mod upgrade;
