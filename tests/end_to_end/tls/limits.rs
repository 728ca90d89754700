//! Times and rates hold for what a client says, and not for what TLS makes of it.

use std::io::Write;
use std::time::{Duration, Instant};

use super::client::{Close, End, TlsClient, rest};
use super::{Protected, Way};
use crate::harness::for_each_strategy;

/// A record of the client's that is on its way.
fn record(client: &mut TlsClient, data: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    client.connection.writer().write_all(data).unwrap();
    while client.connection.wants_write() {
        client.connection.write_tls(&mut record).unwrap();
    }
    record
}

/// The handler has been told so.
fn timed_out(protected: &Protected, env: &[&str]) {
    let said = if env.is_empty() { "saw Error::TimedOut" } else { "saw timed out" };
    protected.host.log.wait_for(said);
}

fn greeted(protected: &Protected) -> TlsClient {
    let mut client = Way::Listener.connect(&protected.host, &protected.settings(1));
    client.send(b"a");
    assert_eq!(client.recv_exact(1), b"a");
    client.socket.set_tcp_nodelay(true).unwrap();
    client
}

#[test]
fn a_client_that_stalls_inside_a_record_is_ended() {
    for env in [&[][..], &["--env", "STREAMS=yes"]] {
        for_each_strategy(|strategy| {
            let args = ["--concurrency", strategy, "--idle-timeout", "300ms"];
            let protected = Protected::serve(Way::Listener, &[&args, env].concat());
            let mut client = greeted(&protected);
            let record = record(&mut client, &[7; 1000]);
            (&client.socket).write_all(&record[..500]).unwrap();
            rest(&client.socket);
            timed_out(&protected, env);
            protected.serves_on(Way::Listener);
        });
    }
}

/// A byte now and then is no sign of life: none of it can be read before the last.
#[test]
fn a_client_that_trickles_a_record_is_ended() {
    for limit in [["--idle-timeout", "300ms"], ["--min-rate", "1KiB/s:300ms"]] {
        for env in [&[][..], &["--env", "STREAMS=yes"]] {
            for_each_strategy(|strategy| {
                let protected = Protected::serve(
                    Way::Listener,
                    &[&["--concurrency", strategy], &limit[..], env].concat(),
                );
                let mut client = greeted(&protected);
                let record = record(&mut client, &[7; 10_000]);
                let begun = Instant::now();
                let sent = record.iter().take_while(|byte| {
                    std::thread::sleep(Duration::from_millis(2));
                    (&client.socket).write_all(&[**byte]).is_ok()
                });
                let sent = sent.count();
                assert!(
                    sent < record.len() / 2,
                    "{strategy} {limit:?}: {sent} bytes in {:?}",
                    begun.elapsed()
                );
                timed_out(&protected, env);
                protected.serves_on(Way::Listener);
            });
        }
    }
}

/// A client that is too slow is waited for no longer; nor does anybody look for it without end.
#[test]
fn a_silent_client_costs_no_processor_time() {
    for env in [&[][..], &["--env", "STREAMS=yes"]] {
        for_each_strategy(|strategy| {
            let args = ["--concurrency", strategy, "--min-rate", "1KiB/s:300ms"];
            let protected = Protected::serve(Way::Listener, &[&args, env].concat());
            let client = greeted(&protected);
            let before = protected.host.processor_time();
            rest(&client.socket);
            timed_out(&protected, env);
            let spent = protected.host.processor_time().saturating_sub(before);
            assert!(spent < Duration::from_millis(150), "{strategy} {env:?}: {spent:?}");
        });
    }
}

/// Nor does a client that reads nothing.
#[test]
fn a_client_that_does_not_read_is_ended() {
    for_each_strategy(|strategy| {
        let args = ["--concurrency", strategy, "--idle-timeout", "300ms", "--env", "SEND=50000000"];
        let protected = Protected::serve(Way::Listener, &args);
        let _silent = Way::Listener.connect(&protected.host, &protected.settings(1)).shaken();
        protected.host.log.wait_for("client dropped: idle time limit of 300ms reached");
        let mut client = Way::Listener.connect(&protected.host, &protected.settings(1));
        let (received, end) = client.exchange(b"", Close::Waits);
        assert_eq!((received.len(), end), (50_000_000, End::Said));
    });
}

/// The header of a load balancer comes first, in the clear.
#[test]
fn the_header_of_the_proxy_protocol_goes_before_tls() {
    for_each_strategy(|strategy| {
        let args = ["--concurrency", strategy, "--proxy-protocol", "127.0.0.1", "--log-level", "debug"];
        let protected = Protected::serve(Way::Listener, &args);
        for (number, header) in [
            crate::proxy_protocol::LINE.to_vec(),
            crate::proxy_protocol::binary(1, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0, 80]),
        ]
        .iter()
        .enumerate()
        {
            let mut client = Way::Listener.connect(&protected.host, &protected.settings(1));
            (&client.socket).write_all(header).unwrap();
            assert_eq!(client.exchange(b"hello", Close::Says), (b"hello".to_vec(), End::Said));
            let lines = protected.host.log.wait_for_count("served", number + 1);
            assert!(lines.iter().all(|line| line.contains("client=192.0.2.1:12345")), "{lines:?}");
        }
        // Without it, or with it inside.
        let mut client = Way::Listener.connect(&protected.host, &protected.settings(1));
        assert!(client.shake().is_err());
    });
}
