use super::*;
use crate::trace::tests::protected;

fn options() -> Options {
    Options { name: "mx.example".to_owned(), max_size: 1000, starttls: true }
}

fn say(session: &mut Session, line: &str) -> Step {
    session.step(&Line::Command(line.to_owned()))
}

/// The codes that lines are answered with, one after the other.
fn codes(session: &mut Session, lines: &[&str]) -> Vec<u16> {
    let code = |step| match step {
        Step::Answer(reply) | Step::End(reply) => reply.code,
        Step::Receive(_) => 354,
        Step::StartTls => 220,
    };
    lines.iter().map(|line| code(say(session, line))).collect()
}

#[test]
fn a_message_has_an_order() {
    let options = options();
    let mut session = Session::new(&options, None);
    let lines =
        ["MAIL FROM:<a@b>", "EHLO c", "RCPT TO:<a@b>", "DATA", "MAIL FROM:<>", "DATA", "MAIL FROM:<a@b>"];
    assert_eq!(codes(&mut session, &lines), [503, 250, 503, 503, 250, 554, 503]);
    assert_eq!(codes(&mut session, &["RCPT TO:<a@b>", "RSET", "DATA"]), [250, 250, 503]);
    assert_eq!(codes(&mut session, &["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "RCPT TO:<e@f>"]), [250; 3]);
    let envelope = Envelope { from: "a@b".into(), to: vec!["c@d".into(), "e@f".into()] };
    assert_eq!(say(&mut session, "DATA"), Step::Receive(envelope));
    assert_eq!(codes(&mut session, &["DATA", "QUIT"]), [503, 221]);
}

#[test]
fn starttls_is_offered_while_there_is_something_to_protect() {
    let mut options = options();
    let tls = protected();
    let offers = |session: &mut Session| match say(session, "EHLO a") {
        Step::Answer(reply) => reply.to_string().contains("STARTTLS"),
        step => panic!("{step:?}"),
    };
    let mut session = Session::new(&options, None);
    assert!(offers(&mut session));
    assert_eq!(say(&mut session, "STARTTLS"), Step::StartTls);
    let mut session = Session::new(&options, Some(tls));
    assert!(!offers(&mut session));
    assert_eq!(codes(&mut session, &["STARTTLS"]), [503]);
    options.starttls = false;
    let mut session = Session::new(&options, None);
    assert!(!offers(&mut session));
    assert_eq!(codes(&mut session, &["STARTTLS", "NOOP"]), [454, 250]);
}

#[test]
fn a_message_that_says_it_is_too_long_is_not_asked_for() {
    let options = options();
    let mut session = Session::new(&options, None);
    let lines = ["EHLO a", "MAIL FROM:<a@b> SIZE=1001", "MAIL FROM:<a@b> SIZE=1000"];
    assert_eq!(codes(&mut session, &lines), [250, 552, 250]);
}

#[test]
fn recipients_and_mistakes_have_an_end() {
    let options = options();
    let mut session = Session::new(&options, None);
    codes(&mut session, &["EHLO a", "MAIL FROM:<a@b>"]);
    assert_eq!(codes(&mut session, &["RCPT TO:<c@d>"; MOST_RECIPIENTS]), [250; MOST_RECIPIENTS]);
    assert_eq!(codes(&mut session, &["RCPT TO:<c@d>"]), [452]);
    assert_eq!(codes(&mut session, &["BAD"; MOST_FAULTS]), [500; MOST_FAULTS]);
    assert!(matches!(say(&mut session, "BAD"), Step::End(_)));
}
