//! What the spans of one request are made of, as whoever serves it notes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Sampling, TraceContext, new_span};
use crate::error::Phase;

/// Shorter waits are not told of.
pub(crate) const WAIT_MIN: Duration = Duration::from_millis(1);

/// The waits that are told of one by one; the rest are counted.
pub(crate) const WAITS_MAX: usize = 32;

/// When something was, in nanoseconds since 1970, so that another process can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Self {
        Self(SystemTime::UNIX_EPOCH.elapsed().map_or(0, nanos))
    }

    pub(crate) fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0)
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// When a request came, and whose span it says that it belongs to.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) since: Instant,
    pub(crate) parent: Option<TraceContext>,
}

/// A request's place in its trace, sampled or not, and what is noted of it if it is.
#[derive(Debug)]
pub(crate) struct Trace {
    context: TraceContext,
    /// Until it is handed out.
    record: Option<Mutex<Option<Record>>>,
}

#[derive(Debug)]
struct Record {
    /// When it was made.
    at: Instant,
    /// Waits that have not ended yet and have room.
    under_way: usize,
    /// Calls that have begun and may wait, and those of them that have not ended.
    calls: u64,
    open: usize,
    recorded: Recorded,
}

/// What is noted of a sampled request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) context: TraceContext,
    pub(crate) parent: Option<u64>,
    pub(crate) came: Moment,
    /// It had its room.
    pub(crate) admitted: Moment,
    /// Somebody began to serve it.
    pub(crate) begun: Moment,
    pub(crate) ended: Moment,
    /// In their order.
    pub(crate) phases: Vec<(Phase, Moment, Duration)>,
    pub(crate) waits: Vec<Wait>,
    /// Waits for which there was no room.
    pub(crate) left_out: u64,
    /// If it is one of HTTP.
    pub(crate) exchange: Option<Exchange>,
}

/// A request of HTTP.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) scheme: String,
    /// Without what is asked of it.
    pub(crate) path: String,
    pub(crate) version: String,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    /// The answer's, if there was one.
    pub(crate) status: Option<u16>,
    /// How long the bodies were, as far as they went.
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// A call of the guest's that waited.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wait {
    pub(crate) call: Call,
    /// If others know it by this number.
    pub(crate) span: Option<u64>,
    pub(crate) since: Moment,
    pub(crate) time: Duration,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    Recv,
    Send,
    /// A handshake with the client, which the guest has asked for.
    StartTls,
    /// For one of several things.
    Poll,
    /// For the rest of a request's body, or of an answer's to the guest.
    Body,
    Lookup {
        name: String,
    },
    /// A handshake with a server that the guest has connected to.
    Tls {
        server: String,
    },
    Http {
        method: String,
        host: String,
        port: u16,
        status: Option<u16>,
    },
}

impl Trace {
    /// Of a request that gets its room now.
    pub(crate) fn begin(sampling: &Sampling, came: Came) -> Self {
        let context = sampling.begin(came.parent.as_ref());
        let parent = came.parent.map(|parent| parent.span);
        Self::with(context, parent, came.since)
    }

    /// Of one that another process has accepted.
    pub(crate) fn of_another(context: TraceContext) -> Self {
        Self::with(context, None, Instant::now())
    }

    fn with(context: TraceContext, parent: Option<u64>, came: Instant) -> Self {
        let record = context.is_sampled.then(|| {
            let (at, admitted) = (Instant::now(), Moment::now());
            let context = context.clone();
            let recorded = Recorded { context, parent, admitted, begun: admitted, ..Recorded::default() };
            let mut record = Record { at, under_way: 0, calls: 0, open: 0, recorded };
            record.recorded.came = record.moment(came);
            Mutex::new(Some(record))
        });
        Self { context, record }
    }

    pub(crate) fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Somebody began to serve it.
    pub(crate) fn note_begin(&self, at: Instant) {
        self.note(|record| record.recorded.begun = record.moment(at));
    }

    pub(crate) fn note_exchange(&self, exchange: impl FnOnce() -> Exchange) {
        self.note(|record| record.recorded.exchange = Some(exchange()));
    }

    /// More of its body has come.
    pub(crate) fn note_received(&self, bytes: u64) {
        self.note(|record| record.recorded.exchange.iter_mut().for_each(|it| it.received += bytes));
    }

    pub(crate) fn note_answer(&self, status: Option<u16>, sent: u64) {
        self.note(|record| {
            record.recorded.exchange.iter_mut().for_each(|it| (it.status, it.sent) = (status, sent));
        });
    }

    /// A call of its guest's begins that may wait; it ends when what this returns is dropped. `None` if nobody wants to know.
    pub(crate) fn wait(self: &Arc<Self>, call: impl FnOnce() -> Call) -> Option<Waiting> {
        self.record.as_ref()?;
        let mut number = None;
        self.note(|record| {
            number = (record.open == 0).then_some(record.calls);
            record.calls += 1;
            record.open += 1;
        });
        let (trace, since) = (self.clone(), Instant::now());
        Some(Waiting { trace, call: Some(call()), span: None, since, alone: number })
    }

    /// All that was noted, once. `phases` has them with when they began, counted from `since`, and how long they took.
    pub(crate) fn hand_out(
        &self,
        since: Instant,
        phases: impl IntoIterator<Item = (Phase, Duration, Duration)>,
    ) -> Option<Recorded> {
        let mut record = self.record()?.take()?;
        record.recorded.ended = record.moment(Instant::now());
        let start = record.moment(since);
        let phases = phases.into_iter().filter(|(.., time)| !time.is_zero());
        let phases = phases.map(|(phase, begun, time)| (phase, start.after(begun), time));
        record.recorded.phases = phases.collect();
        record.recorded.phases.sort_by_key(|(_, begun, _)| *begun);
        Some(record.recorded)
    }

    fn note(&self, note: impl FnOnce(&mut Record)) {
        if let Some(mut record) = self.record()
            && let Some(record) = &mut *record
        {
            note(record);
        }
    }

    fn record(&self) -> Option<MutexGuard<'_, Option<Record>>> {
        Some(self.record.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Recorded {
    /// With what another process has noted that served it; its word on whose request it was does not count.
    #[must_use]
    pub(crate) fn served_by(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        let Self { context, parent, came, admitted, ended, .. } = self;
        let begun = other.admitted.clamp(admitted, ended);
        Self { context, parent, came, admitted, begun, ended, ..other }.bounded()
    }

    /// Without what it would not have been given itself.
    #[must_use]
    pub(crate) fn bounded(mut self) -> Self {
        self.phases.truncate(Phase::ALL.len());
        self.waits.truncate(WAITS_MAX);
        self
    }
}

impl Record {
    /// By one clock for all of a request, whatever is done to the system's meanwhile.
    fn moment(&self, at: Instant) -> Moment {
        let admitted = self.recorded.admitted;
        match at.checked_duration_since(self.at) {
            Some(later) => admitted.after(later),
            None => admitted.before(self.at.saturating_duration_since(at)),
        }
    }

    fn has_room(&self) -> bool {
        self.recorded.waits.len() + self.under_way < WAITS_MAX
    }
}

/// A call that may wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    trace: Arc<Trace>,
    call: Option<Call>,
    span: Option<u64>,
    since: Instant,
    /// Its number, if no other call waited when it began.
    alone: Option<u64>,
}

impl Waiting {
    /// Its span, for others to refer to; it is then told of, however short it is. `None` if there is no room for it.
    pub(crate) fn context(&mut self) -> Option<TraceContext> {
        let mut record = self.trace.record()?;
        let record = record.as_mut().filter(|record| record.has_room())?;
        record.under_way += 1;
        let span = *self.span.insert(new_span());
        Some(self.trace.context.with_span(span))
    }

    /// It was answered with this status.
    pub(crate) fn note_status(&mut self, answered: u16) {
        if let Some(Call::Http { status, .. }) = &mut self.call {
            *status = Some(answered);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let (Some(call), time) = (self.call.take(), self.since.elapsed()) else { return };
        let Some(mut record) = self.trace.record() else { return };
        let Some(record) = &mut *record else { return };
        record.open -= 1;
        // What is polled may be a call that is told of by its own name.
        let is_anothers =
            matches!(call, Call::Poll) && self.alone.is_none_or(|number| number + 1 != record.calls);
        if self.span.is_none() && (time < WAIT_MIN || is_anothers) {
            return;
        }
        record.under_way -= usize::from(self.span.is_some());
        if !record.has_room() {
            record.recorded.left_out += 1;
            return;
        }
        let since = record.moment(self.since);
        record.recorded.waits.push(Wait { call, span: self.span, since, time });
    }
}
