//! The languages that have an SDK and templates, and the kinds of handlers.

use std::fmt;
use std::str::FromStr;

/// A language that handlers are written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Language {
    /// Rust
    Rust,
    /// C
    C,
    /// Zig
    Zig,
    /// AssemblyScript
    AssemblyScript,
    /// Go
    Go,
    /// Python
    Python,
    /// JavaScript
    JavaScript,
    /// TypeScript
    TypeScript,
}

impl Language {
    /// All of them.
    pub const ALL: [Language; 8] = [
        Language::Rust,
        Language::C,
        Language::Zig,
        Language::AssemblyScript,
        Language::Go,
        Language::Python,
        Language::JavaScript,
        Language::TypeScript,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::C => "c",
            Language::Zig => "zig",
            Language::AssemblyScript => "assemblyscript",
            Language::Go => "go",
            Language::Python => "python",
            Language::JavaScript => "js",
            Language::TypeScript => "ts",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|language| language.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Language::name).join(", ");
            format!("there is no template for {text:?}; choose one of {names}")
        })
    }
}

/// What a handler is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It serves connections, and packets as well.
    Stream,
    /// It serves packets.
    Datagram,
    /// It is an ordinary program, whose standard input and output are the connection.
    Command,
    /// It answers HTTP.
    Http,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Stream, Kind::Datagram, Kind::Command, Kind::Http];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Stream => "stream",
            Kind::Datagram => "datagram",
            Kind::Command => "command",
            Kind::Http => "http",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| {
            format!("there is no kind {text:?}; choose one of stream, datagram, command, http")
        })
    }
}
