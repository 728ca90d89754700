//! What a client has said so far, and what may follow.

use std::net::SocketAddr;

use plugsock_sdk::TlsInfo;

use crate::command::Command;
use crate::line::Line;
use crate::options::Options;
use crate::reply::Reply;
use crate::trace::Trace;

/// So many a server has to take (RFC 5321, 4.5.3.1.8).
const MOST_RECIPIENTS: usize = 100;

/// A client that makes more mistakes is none of ours.
const MOST_FAULTS: usize = 20;

/// One client, since it came or since its connection was protected.
pub struct Session<'a> {
    options: &'a Options,
    tls: Option<TlsInfo>,
    hello: Option<Hello>,
    /// What MAIL began.
    envelope: Option<Envelope>,
    faults: usize,
}

struct Hello {
    name: String,
    extended: bool,
}

/// From whom and to whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope {
    pub from: String,
    pub to: Vec<String>,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub enum Step {
    Answer(Reply),
    /// Answers, and closes the connection.
    End(Reply),
    /// Asks for the message.
    Receive(Envelope),
    /// Asks for TLS.
    StartTls,
}

/// TLS is not to be had.
pub fn no_tls() -> Reply {
    Reply::new(454, "4.7.0 TLS is not to be had here")
}

impl<'a> Session<'a> {
    pub fn new(options: &'a Options, tls: Option<TlsInfo>) -> Self {
        Session { options, tls, hello: None, envelope: None, faults: 0 }
    }

    pub fn step(&mut self, line: &Line) -> Step {
        let step = match line {
            Line::Command(line) => Command::parse(line).and_then(|command| self.obey(command)),
            Line::TooLong => Err(Reply::new(500, "5.5.6 the line is too long")),
            Line::BareEnd => Err(Reply::new(500, "5.5.2 a line ends with CR and LF")),
            Line::NotText => Err(Reply::new(500, "5.5.2 a command is of printable ASCII")),
        };
        match step.unwrap_or_else(Step::Answer) {
            Step::Answer(reply) if reply.is_failure() => {
                self.faults += 1;
                if self.faults > MOST_FAULTS {
                    return Step::End(Reply::new(421, "4.7.0 too many mistakes"));
                }
                Step::Answer(reply)
            }
            step => step,
        }
    }

    /// How the message is noted to have come.
    pub fn trace(&self, client: Option<SocketAddr>) -> Trace<'_> {
        let (name, extended) = match &self.hello {
            Some(hello) => (hello.name.as_str(), hello.extended),
            None => ("", false),
        };
        Trace { name, extended, client, server: &self.options.name, tls: self.tls.as_ref() }
    }

    fn obey(&mut self, command: Command<'_>) -> Result<Step, Reply> {
        let out_of_order = |what: &str| Reply::new(503, format!("5.5.1 {what}"));
        Ok(Step::Answer(match command {
            Command::Hello { name, extended } => {
                self.hello = Some(Hello { name: name.to_owned(), extended });
                self.envelope = None;
                self.welcome()
            }
            Command::StartTls if self.tls.is_some() => return Err(out_of_order("it is protected already")),
            Command::StartTls if !self.options.starttls => no_tls(),
            Command::StartTls => return Ok(Step::StartTls),
            Command::Mail { .. } if self.hello.is_none() => return Err(out_of_order("say EHLO first")),
            Command::Mail { .. } if self.envelope.is_some() => {
                return Err(out_of_order("one message at a time"));
            }
            Command::Mail { size: Some(size), .. } if size > self.options.max_size => {
                let most = self.options.max_size;
                return Err(Reply::new(552, format!("5.3.4 no message may be longer than {most} bytes")));
            }
            Command::Mail { from, .. } => {
                self.envelope = Some(Envelope { from: from.to_owned(), to: Vec::new() });
                Reply::new(250, "2.1.0 whom is it for?")
            }
            Command::Recipient(to) => match &mut self.envelope {
                None => return Err(out_of_order("say MAIL first")),
                Some(envelope) if envelope.to.len() == MOST_RECIPIENTS => {
                    Reply::new(452, "4.5.3 these are all whom a message may have")
                }
                Some(envelope) => {
                    envelope.to.push(to.to_owned());
                    Reply::new(250, "2.1.5 it shall be kept")
                }
            },
            Command::Data => match self.envelope.take() {
                None => return Err(out_of_order("say MAIL first")),
                Some(envelope) if envelope.to.is_empty() => {
                    self.envelope = Some(envelope);
                    return Err(Reply::new(554, "5.5.1 the message is for nobody"));
                }
                Some(envelope) => return Ok(Step::Receive(envelope)),
            },
            Command::Reset => {
                self.envelope = None;
                Reply::new(250, "2.0.0 forgotten")
            }
            Command::Noop => Reply::new(250, "2.0.0 done"),
            Command::Verify => Reply::new(252, "2.5.0 send a message, it will be kept"),
            Command::Help => Reply::new(
                214,
                "2.0.0 this server keeps all mail that it gets, and sends none on\n\
                 2.0.0 EHLO HELO STARTTLS MAIL RCPT DATA RSET NOOP VRFY HELP QUIT",
            ),
            Command::Quit => return Ok(Step::End(Reply::new(221, "2.0.0 goodbye"))),
        }))
    }

    fn welcome(&self) -> Reply {
        let Options { name, max_size, starttls } = self.options;
        let mut text = name.clone();
        if self.hello.as_ref().is_some_and(|hello| hello.extended) {
            text += &format!("\nPIPELINING\nSIZE {max_size}\n8BITMIME\nENHANCEDSTATUSCODES\nHELP");
            if *starttls && self.tls.is_none() {
                text += "\nSTARTTLS";
            }
        }
        Reply::new(250, text)
    }
}

#[cfg(test)]
mod tests;
