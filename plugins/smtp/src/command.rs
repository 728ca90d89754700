//! The commands of a client (RFC 5321, 4.1.1).

use crate::path;
use crate::reply::Reply;

/// What a client wants.
#[derive(Debug, PartialEq)]
pub enum Command<'a> {
    /// HELO, or EHLO, which asks for what the server has besides.
    Hello {
        name: &'a str,
        extended: bool,
    },
    StartTls,
    /// Who sends a message; nobody, if it must not be answered. Says how long it will be, if the client knows.
    Mail {
        from: &'a str,
        size: Option<u64>,
    },
    Recipient(&'a str),
    Data,
    Reset,
    Noop,
    Verify,
    Help,
    Quit,
}

impl<'a> Command<'a> {
    /// An error is what the client is answered.
    pub fn parse(line: &'a str) -> Result<Self, Reply> {
        let line = line.trim_end();
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let alone = |command| match argument {
            "" => Ok(command),
            _ => Err(syntax("this command stands alone")),
        };
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => hello(argument, true),
            "HELO" => hello(argument, false),
            "STARTTLS" => alone(Command::StartTls),
            "MAIL" => mail(argument),
            "RCPT" => recipient(argument),
            "DATA" => alone(Command::Data),
            "RSET" => alone(Command::Reset),
            "QUIT" => alone(Command::Quit),
            "NOOP" => Ok(Command::Noop),
            "HELP" => Ok(Command::Help),
            "VRFY" if argument.is_empty() => Err(syntax("VRFY whom?")),
            "VRFY" => Ok(Command::Verify),
            "EXPN" => Err(Reply::new(502, "5.5.1 there are no lists here")),
            _ => Err(Reply::new(500, "5.5.1 there is no such command")),
        }
    }
}

/// Something is wrong with a command's argument.
fn syntax(what: &str) -> Reply {
    Reply::new(501, format!("5.5.4 {what}"))
}

fn hello(name: &str, extended: bool) -> Result<Command<'_>, Reply> {
    match path::is_domain(name) {
        true => Ok(Command::Hello { name, extended }),
        false => Err(syntax("say your name, or your address in brackets")),
    }
}

fn mail(argument: &str) -> Result<Command<'_>, Reply> {
    let (from, parameters) = after(argument, "FROM:")
        .and_then(path::read)
        .ok_or_else(|| Reply::new(501, "5.1.7 it is MAIL FROM:<ADDRESS>"))?;
    let mut size = None;
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.to_ascii_uppercase().as_str() {
            "SIZE" if !value.is_empty() && value.len() <= 20 && value.bytes().all(|c| c.is_ascii_digit()) => {
                // What no number holds is too long for any server.
                size = Some(value.parse().unwrap_or(u64::MAX));
            }
            "BODY" if ["7BIT", "8BITMIME"].iter().any(|body| value.eq_ignore_ascii_case(body)) => {}
            "SIZE" | "BODY" => return Err(syntax("the parameter has no such value")),
            _ => return Err(Reply::new(555, "5.5.4 there is no such parameter")),
        }
    }
    Ok(Command::Mail { from, size })
}

fn recipient(argument: &str) -> Result<Command<'_>, Reply> {
    let to = after(argument, "TO:").and_then(path::read).filter(|(to, _)| !to.is_empty());
    match to {
        Some((to, parameters)) if parameters.trim().is_empty() => Ok(Command::Recipient(to)),
        Some(_) => Err(Reply::new(555, "5.5.4 there is no such parameter")),
        None => Err(Reply::new(501, "5.1.3 it is RCPT TO:<ADDRESS>")),
    }
}

/// What follows a word, whatever its case.
fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then(|| rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_whatever_their_case() {
        for (line, command) in [
            ("EHLO a.example", Command::Hello { name: "a.example", extended: true }),
            ("helo [192.0.2.1]", Command::Hello { name: "[192.0.2.1]", extended: false }),
            ("MAIL FROM:<>", Command::Mail { from: "", size: None }),
            ("mail from: <a@b> body=8bitmime SIZE=12", Command::Mail { from: "a@b", size: Some(12) }),
            (
                "MAIL FROM:<a@b> SIZE=99999999999999999999",
                Command::Mail { from: "a@b", size: Some(u64::MAX) },
            ),
            ("RCPT TO:<a@b>", Command::Recipient("a@b")),
            ("DATA ", Command::Data),
            ("noop whatever", Command::Noop),
            ("StartTLS", Command::StartTls),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        for (line, code) in [
            ("", 500),
            ("GET / HTTP/1.1", 500),
            ("EHLO", 501),
            ("EHLO a b", 501),
            ("EHLO (comment)", 501),
            ("STARTTLS now", 501),
            ("MAIL FROM:a@b", 501),
            ("MAIL TO:<a@b>", 501),
            ("MAIL FROM:<a@b> SIZE=-1", 501),
            ("MAIL FROM:<a@b> BODY=BINARYMIME", 501),
            ("MAIL FROM:<a@b> RET=FULL", 555),
            ("RCPT TO:<>", 501),
            ("RCPT TO:<a@b> NOTIFY=NEVER", 555),
            ("VRFY", 501),
            ("EXPN list", 502),
        ] {
            assert_eq!(Command::parse(line).unwrap_err().code, code, "{line}");
        }
    }
}
