//! Which parts of the second wall this kernel, and whoever started this process, allow.

use std::io;
use std::thread;

use seccompiler::apply_filter;

use super::{Filters, filters, restrict_files, restrict_reach, restrict_tcp};
use crate::sandbox::Grants;

/// What helpers give up, part by part: its name, and why it cannot be given up here.
pub type Walls = [(&'static str, io::Result<()>); 4];

/// Has a thread give up what helpers do, since what a thread has given up goes with it.
pub fn try_walls() -> io::Result<Walls> {
    let tried = thread::Builder::new().spawn(|| {
        rustix::thread::set_no_new_privs(true)?;
        let net = vec!["127.0.0.1:1".parse().expect("it is a grant")];
        Ok([
            ("landlock: files", restrict_files(&Grants::default())),
            ("landlock: ports", restrict_tcp(&Grants { net, ..Grants::default() })),
            ("landlock: signals", restrict_reach(false)),
            ("seccomp", apply_filters().map_err(io::Error::other)),
        ])
    });
    tried?.join().expect("it does not panic")
}

fn apply_filters() -> Result<(), seccompiler::Error> {
    let Filters { allowed, denied, .. } = filters(&Grants::default())?;
    [denied, allowed].iter().try_for_each(|filter| apply_filter(filter))
}
