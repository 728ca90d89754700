//! `smtp`: mail that comes whole, and mail that must not.

use std::fs;

use tempfile::TempDir;

use super::{TCP, TLS, port, python, shell};
use crate::harness::{Authority, Host, for_each_strategy, is_installed, plugin};

const BEGIN: &str = "EHLO client.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n";

/// A server, and the directory that it writes mail to.
struct Mail {
    host: Host,
    directory: TempDir,
}

impl Mail {
    fn serve(address: &str, options: &[&str], args: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let grant = format!("{}::/mail:rw", directory.path().display());
        let plugin = plugin("smtp");
        let host = Host::serve(&[&[address, "--dir", &grant], options, &[&plugin, "--"], args].concat());
        Self { host, directory }
    }

    /// The messages that are there, with nothing under way.
    fn messages(&self) -> Vec<String> {
        let entries: Vec<_> = fs::read_dir(self.directory.path()).unwrap().map(Result::unwrap).collect();
        assert!(!entries.iter().any(|entry| entry.file_name().as_encoded_bytes()[0] == b'.'));
        entries.iter().map(|entry| fs::read_to_string(entry.path()).unwrap()).collect()
    }

    fn message(&self) -> String {
        let [message] = &self.messages()[..] else { panic!("{:?}", self.messages()) };
        message.clone()
    }

    /// The codes of all replies to a client that says all at once.
    fn codes(&self, said: impl AsRef<[u8]>) -> Vec<String> {
        let replies = String::from_utf8(self.host.ask(said.as_ref())).unwrap();
        let last_lines = replies.lines().filter(|line| line.as_bytes()[3] == b' ');
        last_lines.map(|line| line[..3].to_owned()).collect()
    }
}

#[test]
fn smtplib_sends_a_message() {
    if !is_installed("python3") {
        return;
    }
    let script = "import smtplib, sys\n\
         with smtplib.SMTP('127.0.0.1', int(sys.argv[1]), 'client.example') as smtp:\n\
        \x20   smtp.sendmail('ada@example.org', ['mary@example.net', 'carl@example.net'],\n\
        \x20                 'Subject: dots\\r\\n\\r\\n.one\\r\\n..two\\r\\n.\\r\\n\\xf6\\r\\n'.encode(), ['BODY=8BITMIME'])\n";
    for_each_strategy(|strategy| {
        let mail = Mail::serve(TCP, &["--concurrency", strategy], &["--name", "mx.example"]);
        python(script, &[&port(&mail.host)]);
        let message = mail.message();
        let (header, text) = message.split_once("Subject:").unwrap();
        assert!(header.starts_with(
            "Return-Path: <ada@example.org>\nDelivered-To: mary@example.net\nDelivered-To: carl@example.net\n\
             Received: from client.example ([127.0.0.1])\n\tby mx.example with ESMTP\n\tid "
        ));
        assert_eq!(text, " dots\n\n.one\n..two\n.\n\u{f6}\n");
    });
}

#[test]
fn swaks_sends_a_message() {
    if !is_installed("swaks") {
        return;
    }
    for options in ["", "--protocol SMTP", "--pipeline", "--body @/etc/services"] {
        let mail = Mail::serve(TCP, &[], &[]);
        let swaks = format!(
            "swaks --server 127.0.0.1:{} --from a@b.example --to c@d.example,e@f.example --helo g.example {options}",
            port(&mail.host)
        );
        let ended = shell(&swaks);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(mail.message().contains("Subject: test"), "{options}");
    }
}

#[test]
fn swaks_sends_a_message_by_tls() {
    if !is_installed("swaks") {
        return;
    }
    let authority = Authority::new();
    let identity = authority.server(&["localhost", "127.0.0.1"]).option("mx");
    for (address, option, version) in [
        (TCP, "--tls", "tlsv1_3"),
        (TCP, "--tls", "tlsv1_2"),
        (TLS, "--tls-on-connect", "tlsv1_3"),
        (TLS, "--tls-on-connect", "tlsv1_2"),
    ] {
        for_each_strategy(|strategy| {
            let mail = Mail::serve(address, &["--tls", &identity, "--concurrency", strategy], &[]);
            let swaks = format!(
                "swaks --server 127.0.0.1:{} --from a@b.example --to c@d.example --helo e.example \
                 {option} --tls-protocol {version} --tls-verify --tls-ca-path {}",
                port(&mail.host),
                authority.certificate
            );
            let ended = shell(&swaks);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let protocol = format!("with ESMTPS ({} TLS_", version.replace("tlsv1_", "TLSv1."));
            let message = mail.message();
            assert!(message.contains(&protocol), "{message}");
        });
    }
}

#[test]
fn all_is_forgotten_with_starttls() {
    if !is_installed("python3") {
        return;
    }
    let authority = Authority::new();
    let identity = authority.server(&["127.0.0.1"]).option("mx");
    let mail = Mail::serve(TCP, &["--tls", &identity], &[]);
    let script = "import smtplib, ssl, sys\n\
         smtp = smtplib.SMTP('127.0.0.1', int(sys.argv[1]))\n\
         smtp.ehlo(), smtp.mail('a@b.example'), smtp.rcpt('c@d.example')\n\
         print(smtp.has_extn('starttls'), smtp.docmd('STARTTLS')[0])\n\
         context = ssl.create_default_context(cafile=sys.argv[2])\n\
         smtp.sock = context.wrap_socket(smtp.sock, server_hostname='127.0.0.1')\n\
         smtp.file = None\n\
         print(smtp.docmd('DATA')[0], smtp.mail('a@b.example')[0])\n\
         print(smtp.ehlo()[0], smtp.has_extn('starttls'), smtp.docmd('STARTTLS')[0])\n\
         smtp.sendmail('a@b.example', 'c@d.example', 'Subject: x\\n\\nprotected\\n')\n\
         smtp.quit()\n";
    let printed = python(script, &[&port(&mail.host), &authority.certificate]);
    assert_eq!(printed, "True 220\n503 503\n250 False 503\n");
    assert!(mail.message().ends_with("protected\n"));
}

#[test]
fn what_follows_starttls_in_the_clear_is_not_obeyed() {
    let authority = Authority::new();
    let identity = authority.server(&["127.0.0.1"]).option("mx");
    for_each_strategy(|strategy| {
        let mail = Mail::serve(TCP, &["--tls", &identity, "--concurrency", strategy], &[]);
        let said = format!("{BEGIN}STARTTLS\r\nRCPT TO:<e@f.example>\r\nQUIT\r\n");
        assert_eq!(mail.codes(said), ["220", "250", "250", "250", "220"]);
        mail.host.log.wait_for("in the clear");
    });
}

#[test]
fn a_server_without_certificate_says_so() {
    let mail = Mail::serve(TCP, &[], &["--no-starttls"]);
    assert_eq!(mail.codes("EHLO a\r\nSTARTTLS\r\nQUIT\r\n"), ["220", "250", "454", "221"]);
    assert!(!String::from_utf8(mail.host.ask(b"EHLO a\r\n")).unwrap().contains("STARTTLS"));
    // One that was not told to leave it out has to end the connection.
    let mail = Mail::serve(TCP, &[], &[]);
    let client = mail.host.connect();
    client.send(b"STARTTLS\r\n");
    let replies = String::from_utf8(client.recv_all()).unwrap();
    assert!(replies.contains("\r\n220 ") && replies.contains("\r\n454 "), "{replies}");
}

#[test]
fn commands_that_come_together_are_answered_together() {
    let mail = Mail::serve(TCP, &[], &[]);
    let message = "DATA\r\nSubject: x\r\n\r\none\r\n.\r\n";
    let codes =
        mail.codes(format!("{BEGIN}{message}MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\n{message}QUIT\r\n"));
    assert_eq!(codes, ["220", "250", "250", "250", "354", "250", "250", "250", "354", "250", "221"]);
    assert_eq!(mail.messages().len(), 2);
}

#[test]
fn no_message_is_smuggled_within_another() {
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\n\0.\r\n"] {
        let mail = Mail::serve(TCP, &[], &[]);
        let hidden = "MAIL FROM:<e@f.example>\r\nRCPT TO:<g@h.example>\r\nDATA\r\nhidden\r\n.\r\n";
        let codes = mail.codes(format!("{BEGIN}DATA\r\none{end}{hidden}QUIT\r\n"));
        let kept = end.contains('\0');
        assert_eq!(codes[4..], ["354", if kept { "250" } else { "550" }, "221"], "{end:?}");
        assert_eq!(mail.messages().len(), usize::from(kept), "{end:?}");
    }
}

#[test]
fn a_message_that_breaks_off_leaves_nothing() {
    for_each_strategy(|strategy| {
        let mail = Mail::serve(TCP, &["--concurrency", strategy], &[]);
        for rest in ["", "Subject: x\r\n\r\n", "half\r\n.", "half\r\n.\r"] {
            assert_eq!(mail.codes(format!("{BEGIN}DATA\r\n{rest}"))[4..], ["354"]);
            assert_eq!(mail.messages(), [""; 0]);
        }
    });
}

#[test]
fn what_is_too_much_is_refused_and_the_session_goes_on() {
    let mail = Mail::serve(TCP, &[], &["--max-size", "100000"]);
    let long = "x".repeat(100_001);
    let codes = mail.codes(format!(
        "{}{BEGIN}DATA\r\n{long}\r\n.\r\nNOOP {long}\r\n{BEGIN}DATA\r\n{}\r\n.\r\nQUIT\r\n",
        "EHLO a\r\nMAIL FROM:<a@b> SIZE=100001\r\n",
        &long[..99_998],
    ));
    let expected = "220 250 552 250 250 250 354 552 500 250 250 250 354 250 221";
    assert_eq!(codes.join(" "), expected);
    assert_eq!(mail.messages().len(), 1);
}

#[test]
fn a_client_that_makes_no_sense_is_left() {
    let mail = Mail::serve(TCP, &[], &[]);
    let codes = mail.codes("GET / HTTP/1.1\r\n".repeat(100));
    assert_eq!((codes.len(), codes.last().unwrap().as_str()), (22, "421"));
}

#[test]
fn a_directory_that_cannot_be_written_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let grant = format!("{}::/mail", directory.path().display());
    let host = Host::serve(&[TCP, "--dir", &grant, &plugin("smtp")]);
    let replies =
        String::from_utf8(host.ask(format!("{BEGIN}DATA\r\none\r\n.\r\nQUIT\r\n").as_bytes())).unwrap();
    assert!(replies.contains("\r\n451 ") && replies.contains("\r\n221 "), "{replies}");
    host.log.wait_for("could not be written");
}
