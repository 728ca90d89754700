//! Calls of WASI preview 1 as no compiler would make them: any function, with pointers to anywhere.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use plugsock::{Cause, DirGrant, Grants, Limits, Sandbox, SandboxOptions, ServerOptions};
use tempfile::TempDir;

use super::for_each_seed;
use super::random::Random;
use crate::harness::{Recorder, Running, for_each_case, sandbox_options, written};

/// How many functions there are.
const FUNCTIONS: usize = 46;

/// Where arguments are often at the edge of something: descriptors, pointers into the record, ends of memory.
const ARGUMENTS: [u64; 18] = [
    0,
    1,
    2,
    3,
    4,
    5,
    16,
    64,
    72,
    100,
    1024,
    65_535,
    65_536,
    0x7fff_ffff,
    0xffff_fff8,
    0xffff_ffff,
    u64::MAX,
    1 << 63,
];

#[test]
fn calls_of_preview_1_in_any_order_with_any_arguments() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "text").unwrap();
    let limits = Limits {
        request_time: Some(Duration::from_secs(2)),
        idle_time: Some(Duration::from_millis(100)),
        ..Limits::default()
    };
    let dirs = vec![DirGrant { host: folder.path().to_owned(), guest: "/".to_owned(), read_only: false }];
    let grants = Grants { dirs, ..Grants::default() };
    let sandbox = Sandbox::new(SandboxOptions { limits, grants, ..sandbox_options() }).unwrap();
    let handler = sandbox.load(written("calls_preview1")).unwrap();
    for_each_case(|case| {
        let recorder = Recorder::default();
        let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
        let server = Running::start_with(case, handler.clone(), options);
        let sent = for_each_seed(20, |random| {
            let calls: Vec<u8> = (0..=random.below(60)).flat_map(|_| call(random)).collect();
            let calls = &calls[..calls.len().min(8000)];
            let client = server.connect();
            client.send(calls);
            if !case.server_type.is_datagram() {
                client.half_close();
            }
        });
        let failures = recorder.failures_when_closed(sent);
        for failure in &failures {
            let is_host =
                matches!(&failure.cause, Cause::Host(why) if why != "its process was killed by signal 9");
            assert!(!is_host, "{failure}");
        }
    });
}

fn call(random: &mut Random) -> Vec<u8> {
    let mut record = vec![0; 80];
    record[0] = random.below(FUNCTIONS) as u8;
    for argument in record[8..].chunks_mut(8) {
        let value = match random.below(4) {
            0 => random.next(),
            _ => *random.pick(&ARGUMENTS),
        };
        argument.copy_from_slice(&value.to_le_bytes());
    }
    record
}
