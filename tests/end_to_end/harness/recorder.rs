//! Hooks that note what happens, so that a test can wait for it.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use plugsock::{Request, RequestError, ServerHooks};

use super::PATIENCE;

/// What happened in a server.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request failed.
    Failed(RequestError),
    /// A request was closed.
    Closed(u64),
    /// No request came in time.
    TimedOut,
}

/// Notes what happens.
#[derive(Clone, Default)]
pub struct Recorder(Arc<(Mutex<Vec<Event>>, Condvar)>);

impl Recorder {
    fn note(&self, event: Event) {
        self.0.0.lock().unwrap().push(event);
        self.0.1.notify_all();
    }

    /// All that happened, when enough did.
    pub fn wait_until(&self, is_enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let deadline = Instant::now() + PATIENCE;
        let mut events = self.0.0.lock().unwrap();
        while !is_enough(&events) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain; so far: {events:?}");
            events = self.0.1.wait_timeout(events, left).unwrap().0;
        }
        events.clone()
    }

    /// The failures, when as many requests as `count` have been closed.
    pub fn failures_when_closed(&self, count: usize) -> Vec<RequestError> {
        let is_closed = |event: &&Event| matches!(event, Event::Closed(_));
        let events = self.wait_until(|events| events.iter().filter(is_closed).count() >= count);
        assert_eq!(events.iter().filter(is_closed).count(), count, "{events:?}");
        let failure = |event| if let Event::Failed(error) = event { Some(error) } else { None };
        events.into_iter().filter_map(failure).collect()
    }
}

impl ServerHooks for Recorder {
    fn handle_error(&self, _: &Request, error: &RequestError) {
        self.note(Event::Failed(error.clone()));
    }

    fn handle_timeout(&self) {
        self.note(Event::TimedOut);
    }

    fn close_request(&self, request: &Request) {
        self.note(Event::Closed(request.id()));
    }
}
