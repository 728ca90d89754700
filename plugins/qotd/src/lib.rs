//! Sends a quotation: the quote of the day protocol (RFC 865), on streams and datagrams.

use std::hash::{BuildHasher, RandomState};

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Qotd;

impl RequestHandler for Qotd {
    fn handle(&mut self, request: &Request) -> Result {
        let quotes: Vec<&str> = quotes().collect();
        let chosen = RandomState::new().hash_one(()) as usize % quotes.len();
        Ok(request.send(quotes[chosen].as_bytes())?)
    }
}

export!(Qotd: RequestHandler);

/// In the format of `fortune`: a line with a per cent sign separates them.
fn quotes() -> impl Iterator<Item = &'static str> {
    include_str!("quotes.txt").split("%\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn quotes_are_as_short_as_the_rfc_asks() {
        assert!(super::quotes().all(|quote| quote.is_ascii() && (1..512).contains(&quote.len())));
    }
}
