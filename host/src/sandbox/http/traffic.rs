//! What goes on on a connection, and by when something has to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::request::Request;
use crate::server_info::ServerInfo;

/// How long a connection that is to end and has nothing under way waits for a request that may be on its way: HTTP/1 has
/// no means to say that none is awaited.
const LAST_CALL: Duration = Duration::from_secs(1);

/// How much of the room for a head a connection keeps from one to the next.
const HEAD_KEPT: usize = 1024;

pub(super) struct Traffic {
    server: Arc<ServerInfo>,
    /// How long the client may take nothing of what it is sent.
    write: Option<Duration>,
    begun: Instant,
    /// If there is a least that the client has to keep.
    paced: Option<Arc<Request>>,
    now: Mutex<Now>,
}

struct Now {
    is_http2: bool,
    /// Requests that were begun so far, and those of them that have not ended.
    requests: u64,
    open: usize,
    /// Since when none is open.
    idle_since: Instant,
    /// Since when the next head has begun.
    head_since: Option<Instant>,
    /// What has come since then.
    head: Vec<u8>,
    /// Since when the client has not taken what it is sent.
    unsent_since: Option<Instant>,
    /// Answers of HTTP/2 of which the client has not taken the part that it was given, and since when.
    untaken: HashMap<u64, Instant>,
    /// Bodies of requests that guests wait for.
    bodies: usize,
    /// Since when the client is awaited, as far as that is counted.
    awaited_since: Option<Instant>,
    /// Of whoever looks at what is due.
    waker: Option<Waker>,
    /// Since when no further requests are wanted.
    ending_since: Option<Instant>,
}

/// What is due if nothing happens before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// To take no further requests.
    End,
    /// To close what waits for one.
    Close,
    /// To give up on a client that sends its head too slowly.
    Head(Duration),
    /// To give up on one that takes nothing.
    Write(Duration),
    /// To give up on one that is slower than it must be.
    Rate,
}

/// A request that is open, until this is dropped.
pub(super) struct Place {
    traffic: Arc<Traffic>,
    number: u64,
}

impl Traffic {
    /// `write` is how long the client may take nothing.
    pub(super) fn new(
        server: &Arc<ServerInfo>,
        write: Option<Duration>,
        request: &Arc<Request>,
    ) -> Arc<Self> {
        let server = server.clone();
        let paced = request.waited(Duration::ZERO).map(|_| request.clone());
        let begun = Instant::now();
        let now = Mutex::new(Now {
            is_http2: false,
            requests: 0,
            open: 0,
            idle_since: begun,
            head_since: None,
            head: Vec::new(),
            unsent_since: None,
            untaken: HashMap::new(),
            bodies: 0,
            awaited_since: None,
            waker: None,
            ending_since: None,
        });
        Arc::new(Self { server, write, begun, paced, now })
    }

    pub(super) fn set_http2(&self) {
        let mut now = self.now();
        // It tells when a head has begun to none but itself.
        (now.is_http2, now.head_since, now.head) = (true, None, Vec::new());
    }

    /// Something has come.
    pub(super) fn note_read(&self, data: &[u8]) {
        let mut now = self.now();
        if now.open == 0 && !now.is_http2 && !data.is_empty() {
            now.head_since.get_or_insert_with(Instant::now);
            now.head.extend_from_slice(data);
        }
        self.count_wait(&mut now);
    }

    /// A guest waits for more of its request's body, or no longer.
    pub(super) fn await_body(&self, is_awaited: bool) {
        let mut now = self.now();
        match is_awaited {
            true => now.bodies += 1,
            false => now.bodies -= 1,
        }
        self.count_wait(&mut now);
        let waker = now.waker.take().filter(|_| is_awaited && self.paced.is_some());
        drop(now);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Counts how long the client was awaited until now, where it is not to be slow.
    fn count_wait(&self, now: &mut Now) -> Option<Duration> {
        let request = self.paced.as_ref()?;
        let waited = now.awaited_since.map_or(Duration::ZERO, |since| since.elapsed());
        let is_awaited = now.head_since.is_some() || now.unsent_since.is_some() || now.bodies > 0;
        now.awaited_since = is_awaited.then(Instant::now);
        request.waited(waited).filter(|_| is_awaited)
    }

    /// What has come since no request was open. If nothing had come before, it is the next request from its beginning.
    pub(super) fn head(&self) -> Vec<u8> {
        std::mem::take(&mut self.now().head)
    }

    /// Notes whether the client takes what it is sent.
    pub(super) fn note_write<T>(&self, written: Poll<T>) -> Poll<T> {
        let mut now = self.now();
        match written {
            Poll::Ready(_) => now.unsent_since = None,
            Poll::Pending => {
                now.unsent_since.get_or_insert_with(Instant::now);
            }
        }
        self.count_wait(&mut now);
        written
    }

    /// A request begins.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let mut now = self.now();
        now.open += 1;
        now.requests += 1;
        now.head_since = None;
        now.head.clear();
        self.count_wait(&mut now);
        if now.requests >= self.server.http.requests {
            now.ending_since.get_or_insert_with(Instant::now);
        }
        Place { traffic: self.clone(), number: now.requests }
    }

    /// The connection is to end as soon as that loses nothing.
    pub(super) fn end(&self) {
        self.now().ending_since = Some(Instant::now());
    }

    /// Whether it loses nothing to say so now. What is idle may have a request on its way to it.
    pub(super) fn may_end(&self) -> bool {
        let now = self.now();
        now.ending_since.is_some() && (now.open > 0 || now.is_http2)
    }

    /// Whether nothing is open or unsent, so that whoever goes on with the connection needs no more than what was read of it.
    pub(super) fn is_quiet(&self) -> bool {
        let now = self.now();
        now.open == 0 && now.unsent_since.is_none()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.now().ending_since.is_some()
    }

    /// What is due first, and when; wakes the task when that may have become sooner.
    pub(super) fn due(&self, context: &Context<'_>) -> Option<(Instant, Due)> {
        let mut now = self.now();
        let rate = self.count_wait(&mut now).zip(now.awaited_since);
        now.waker = (self.paced.is_some() || now.is_http2).then(|| context.waker().clone());
        let options = &self.server.http;
        let after = |since: Instant, time: Duration, due| Some((since.checked_add(time)?, due));
        let untaken = now.untaken.values().min().copied();
        let write = [now.unsent_since, untaken].into_iter().flatten().min().zip(self.write);
        let head = now.head_since.zip(options.head_time);
        let keep_alive = match now.ending_since {
            Some(since) => Some((since.max(now.idle_since), LAST_CALL)),
            None => options.keep_alive.map(|time| (now.idle_since, time)),
        };
        let close = keep_alive.filter(|_| now.open == 0 && now.head_since.is_none());
        let end = options.connection_time.filter(|_| now.ending_since.is_none());
        [
            rate.and_then(|(time, since)| after(since, time, Due::Rate)),
            write.and_then(|(since, time)| after(since, time, Due::Write(time))),
            head.and_then(|(since, time)| after(since, time, Due::Head(time))),
            close.and_then(|(since, time)| after(since, time, Due::Close)),
            end.and_then(|time| after(self.begun, time, Due::End)),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Notes whether a part of the answer is there that the client has yet to take. By HTTP/1 whatever is not taken is not sent,
    /// either; by HTTP/2 others may be.
    pub(super) fn note_part(&self, is_there: bool) {
        let mut now = self.traffic.now();
        if !now.is_http2 {
            return;
        }
        if !is_there {
            now.untaken.remove(&self.number);
            return;
        }
        now.untaken.insert(self.number, Instant::now());
        // It is by another task that the part is given.
        let waker = now.waker.take();
        drop(now);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut now = self.traffic.now();
        now.open -= 1;
        now.untaken.remove(&self.number);
        if now.open == 0 {
            now.idle_since = Instant::now();
            // What waits holds no more than it needs.
            now.head.shrink_to(HEAD_KEPT);
        }
    }
}
