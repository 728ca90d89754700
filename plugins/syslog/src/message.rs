//! Syslog messages, in the two formats that programs send.

use std::fmt;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// A message, or as much of it as could be read: a message in no format at all is its own text.
#[derive(Debug, Default, PartialEq)]
pub struct Message<'a> {
    /// Facility and severity.
    pub priority: Option<u8>,
    pub timestamp: Option<&'a str>,
    pub host: Option<&'a str>,
    pub app: Option<&'a str>,
    pub process: Option<&'a str>,
    pub structured_data: Option<&'a str>,
    pub text: &'a str,
}

impl<'a> Message<'a> {
    pub fn parse(packet: &'a str) -> Self {
        let packet = packet.trim_end_matches(['\n', '\0']);
        let Some((priority, rest)) = priority(packet) else {
            return Message { text: packet, ..Message::default() };
        };
        let message = match rest.strip_prefix("1 ") {
            Some(rest) => rfc5424(rest),
            None => rfc3164(rest),
        };
        let message = message.unwrap_or(Message { text: rest, ..Message::default() });
        Message { priority: Some(priority), ..message }
    }
}

/// `daemon.info 2026-11-23T05:18:00Z host app[7]: text`
impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(priority) = self.priority {
            let (facility, severity) = (priority / 8, priority % 8);
            write!(f, "{}.{} ", FACILITIES[facility as usize], SEVERITIES[severity as usize])?;
        }
        for part in [self.timestamp, self.host].into_iter().flatten() {
            write!(f, "{part} ")?;
        }
        match (self.app, self.process) {
            (Some(app), Some(process)) => write!(f, "{app}[{process}]: ")?,
            (Some(app), None) => write!(f, "{app}: ")?,
            (None, _) => {}
        }
        if let Some(data) = self.structured_data {
            write!(f, "{data} ")?;
        }
        f.write_str(self.text)
    }
}

/// `<30>`
fn priority(packet: &str) -> Option<(u8, &str)> {
    let (digits, rest) = packet.strip_prefix('<')?.split_once('>')?;
    let priority = digits.parse().ok().filter(|priority| *priority < 192)?;
    Some((priority, rest))
}

/// `TIMESTAMP HOST APP PROCID MSGID STRUCTURED-DATA TEXT`, where `-` is for what is not known.
fn rfc5424(rest: &str) -> Option<Message<'_>> {
    let known = |word| if word == "-" { None } else { Some(word) };
    let mut words = rest.splitn(6, ' ');
    let (timestamp, host, app) = (words.next()?, words.next()?, words.next()?);
    let (process, _message_id, rest) = (words.next()?, words.next()?, words.next()?);
    let (data, text) = rest.split_at(structured_data(rest)?);
    let text = text.strip_prefix(' ').unwrap_or(text);
    Some(Message {
        priority: None,
        timestamp: known(timestamp),
        host: known(host),
        app: known(app),
        process: known(process),
        structured_data: known(data),
        text: text.strip_prefix('\u{feff}').unwrap_or(text),
    })
}

/// How long the structured data are: `-`, or elements like `[id name="value"]`.
fn structured_data(rest: &str) -> Option<usize> {
    if rest.starts_with('-') {
        return Some(1);
    }
    let (mut quoted, mut escaped, mut open) = (false, false, false);
    for (index, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if open => quoted = !quoted,
            '[' if !open => open = true,
            ']' if open && !quoted => open = false,
            ' ' if !open && index > 0 => return Some(index),
            _ if !open => return None,
            _ => {}
        }
    }
    (!open).then_some(rest.len())
}

/// `Mmm dd hh:mm:ss HOST APP[PROCESS]: TEXT`. A program on this machine leaves the host out.
fn rfc3164(rest: &str) -> Option<Message<'_>> {
    let (timestamp, rest) = rest.split_at_checked(15)?;
    let shape = timestamp.bytes().map(|b| match b {
        b'0'..=b'9' | b' ' => b'0',
        b'A'..=b'Z' | b'a'..=b'z' => b'a',
        other => other,
    });
    if !shape.eq(*b"aaa000000:00:00") {
        return None;
    }
    let rest = rest.strip_prefix(' ')?;
    let (head, text) = rest.split_once(": ").or_else(|| Some((rest.strip_suffix(':')?, "")))?;
    let (host, tag) = match head.split_once(' ') {
        Some((host, tag)) => (Some(host), tag),
        None => (None, head),
    };
    if tag.is_empty() || tag.contains(' ') {
        return None;
    }
    let (app, process) = match tag.strip_suffix(']').and_then(|tag| tag.split_once('[')) {
        Some((app, process)) => (app, Some(process)),
        None => (tag, None),
    };
    let (timestamp, app) = (Some(timestamp), Some(app));
    Some(Message { timestamp, host, app, process, text, ..Message::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(packet: &str) -> String {
        Message::parse(packet).to_string()
    }

    #[test]
    fn both_formats_read_alike() {
        assert_eq!(
            read("<34>Oct 11 22:14:15 mymachine su[7]: 'su root' failed"),
            "auth.crit Oct 11 22:14:15 mymachine su[7]: 'su root' failed"
        );
        assert_eq!(read("<13>Nov  3 05:18:00 root: hello\n"), "user.notice Nov  3 05:18:00 root: hello");
        assert_eq!(
            read("<165>1 2003-10-11T22:14:15.003Z host app 7 ID47 - \u{feff}An event"),
            "local4.notice 2003-10-11T22:14:15.003Z host app[7]: An event"
        );
    }

    #[test]
    fn structured_data_end_where_their_brackets_do() {
        let message = Message::parse(r#"<165>1 - - - - - [a b="] \"x"][c d="e"] text"#);
        assert_eq!(message.structured_data, Some(r#"[a b="] \"x"][c d="e"]"#));
        assert_eq!(message.text, "text");
    }

    #[test]
    fn what_has_no_format_is_text() {
        for text in ["", "hello", "<", "<999>x", "<1", "<-1>x"] {
            assert_eq!(Message::parse(text), Message { text, ..Message::default() });
        }
        assert_eq!(read("<13>no time: here"), "user.notice no time: here");
        assert_eq!(read("<13>1 too short"), "user.notice 1 too short");
        assert_eq!(read("<13>Nov  3 05:18:0é x"), "user.notice Nov  3 05:18:0é x");
    }
}
