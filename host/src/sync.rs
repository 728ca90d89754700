//! What is synchronised by hand: a test of every interleaving puts others in the place of these.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
