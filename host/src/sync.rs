//! What the count of open requests is synchronised with. A test of every interleaving puts others in their place.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize};
pub(crate) use std::sync::{Arc, Mutex};
