//! The keys of session tickets: what a client resumes a session by, on whichever process of this host it comes to, and with the
//! certificate that it was begun with alone.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

/// How long tickets are made with one key. With the one before it they are still taken, and then forgotten.
const ROTATION: Duration = Duration::from_secs(6 * 3600);

/// How long a ticket is good at least, as clients are told.
pub(super) const LIFETIME: Duration = ROTATION;

const ID_LENGTH: usize = 16;

/// The keys themselves, for a process that takes over.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TicketKeys {
    current: TicketKey,
    previous: Option<TicketKey>,
}

#[derive(Clone, Serialize, Deserialize)]
struct TicketKey {
    /// Stands before each ticket.
    id: [u8; ID_LENGTH],
    secret: [u8; 32],
    made: SystemTime,
}

/// Who made a session: what a process that runs guest code has made up is nothing to those that do not.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    Own,
    Childs,
}

/// The digest of the certificate that a session was begun with: whom its client has found it to be.
pub(super) type Certificate = [u8; 32];

impl TicketKeys {
    pub(super) fn new() -> Self {
        Self { current: TicketKey::new(), previous: None }
    }

    /// A new key when it is time for one.
    fn rotate(&mut self, now: SystemTime) {
        let age = |key: &TicketKey| now.duration_since(key.made).unwrap_or_default();
        if age(&self.current) >= ROTATION {
            let previous = std::mem::replace(&mut self.current, TicketKey { made: now, ..TicketKey::new() });
            self.previous = Some(previous);
        }
        self.previous.take_if(|previous| age(previous) >= 2 * ROTATION);
    }
}

impl TicketKey {
    fn new() -> Self {
        let (mut id, mut secret) = ([0; ID_LENGTH], [0; 32]);
        random(&mut id);
        random(&mut secret);
        Self { id, secret, made: SystemTime::now() }
    }

    fn bound_to(&self, whose: Whose, certificate: &Certificate) -> Aad<Vec<u8>> {
        Aad::from([&self.id[..], &[whose as u8], certificate].concat())
    }

    fn key(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.secret).expect("it is as long as it must be"))
    }

    fn seal(&self, whose: Whose, certificate: &Certificate, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce);
        let mut sealed = plain.to_vec();
        let bound = Nonce::assume_unique_for_key(nonce);
        self.key().seal_in_place_append_tag(bound, self.bound_to(whose, certificate), &mut sealed).ok()?;
        Some([&self.id[..], &nonce, &sealed].concat())
    }

    /// What the ticket `sealed`, without the key's id, was made of.
    fn open(&self, whose: Whose, certificate: &Certificate, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let length =
            self.key().open_in_place(nonce, self.bound_to(whose, certificate), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

fn random(bytes: &mut [u8]) {
    SystemRandom::new().fill(bytes).expect("the system gives random numbers");
}

/// Nothing prints a key.
impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

/// Makes tickets, and takes them.
#[derive(Debug)]
pub(super) struct Tickets(Mutex<TicketKeys>);

impl Tickets {
    pub(super) fn new(keys: TicketKeys) -> Self {
        Self(Mutex::new(keys))
    }

    pub(super) fn keys(&self) -> TicketKeys {
        self.current().clone()
    }

    pub(super) fn take_over(&self, keys: TicketKeys) {
        *self.current() = keys;
    }

    pub(super) fn seal(&self, whose: Whose, certificate: &Certificate, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.current().current.clone();
        key.seal(whose, certificate, plain)
    }

    pub(super) fn open(&self, whose: Whose, certificate: &Certificate, ticket: &[u8]) -> Option<Vec<u8>> {
        let (id, sealed) = ticket.split_at_checked(ID_LENGTH)?;
        let keys = self.keys();
        let key = [Some(keys.current), keys.previous].into_iter().flatten().find(|key| key.id == *id)?;
        key.open(whose, certificate, sealed)
    }

    fn current(&self) -> MutexGuard<'_, TicketKeys> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.rotate(SystemTime::now());
        keys
    }
}

/// Makes and takes those of one certificate.
#[derive(Debug)]
pub(super) struct TicketsOf {
    pub(super) tickets: Arc<Tickets>,
    pub(super) certificate: Certificate,
}

impl ProducesTickets for TicketsOf {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.seal(Whose::Own, &self.certificate, plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.tickets.open(Whose::Own, &self.certificate, cipher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Certificate = [1; 32];
    const OTHER: Certificate = [2; 32];

    fn of(certificate: Certificate) -> TicketsOf {
        TicketsOf { tickets: Arc::new(Tickets::new(TicketKeys::new())), certificate }
    }

    #[test]
    fn a_ticket_lives_as_long_as_its_key_and_the_next() {
        let tickets = of(ONE);
        let ticket = tickets.encrypt(b"a session").unwrap();
        assert_eq!(tickets.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        let age = |by: Duration| {
            let mut keys = tickets.tickets.0.lock().unwrap();
            keys.current.made -= by;
            if let Some(previous) = &mut keys.previous {
                previous.made -= by;
            }
        };
        age(ROTATION);
        assert_eq!(tickets.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        assert_ne!(tickets.encrypt(b"another").unwrap()[..ID_LENGTH], ticket[..ID_LENGTH]);
        age(ROTATION);
        assert_eq!(tickets.decrypt(&ticket), None);
    }

    #[test]
    fn what_is_no_ticket_is_none() {
        let tickets = of(ONE);
        let ticket = tickets.encrypt(b"a session").unwrap();
        for length in 0..ticket.len() {
            assert_eq!(tickets.decrypt(&ticket[..length]), None, "{length}");
        }
        for index in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[index] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "{index}");
        }
    }

    #[test]
    fn what_a_child_has_made_up_is_nothing_to_others() {
        let tickets = of(ONE);
        let ticket = tickets.tickets.seal(Whose::Childs, &ONE, b"a session").unwrap();
        assert_eq!(tickets.tickets.open(Whose::Childs, &ONE, &ticket).as_deref(), Some(&b"a session"[..]));
        assert_eq!(tickets.decrypt(&ticket), None);
    }

    #[test]
    fn a_session_goes_on_with_its_own_certificate_alone() {
        let one = of(ONE);
        let other = TicketsOf { tickets: one.tickets.clone(), certificate: OTHER };
        let ticket = one.encrypt(b"a session").unwrap();
        assert_eq!(one.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        assert_eq!(other.decrypt(&ticket), None);
    }

    #[test]
    fn another_process_resumes_with_the_keys_alone() {
        let (one, other) = (of(ONE), of(ONE));
        let ticket = one.encrypt(b"a session").unwrap();
        assert_eq!(other.decrypt(&ticket), None);
        other.tickets.take_over(one.tickets.keys());
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
    }
}
