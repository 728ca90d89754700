//! `poll_oneoff`: waits for the connection together with clocks.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use wasmtime_wasi::p1::types::{
    Clockid, Errno, Event, EventFdReadwrite, Eventrwflags, Eventtype, Subclockflags, Subscription,
    SubscriptionClock, SubscriptionU,
};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1 as _;
use wiggle::{GuestMemory, GuestPtr};

use super::super::state::State;
use super::connection::Outcome;
use crate::request::Transport;
use crate::traces::Call;

/// What one subscription waits for.
#[derive(Clone, Copy)]
enum Wanted {
    /// Nothing: a file is always ready, and what cannot be waited for says so.
    Nothing(Errno),
    Clock(Option<Instant>),
    Input,
    Output,
}

/// What of the connection is ready.
struct Ready {
    input: bool,
    output: bool,
}

/// Waits until one of `count` subscriptions at `subscriptions` is ready, and writes an event for each that is.
pub(super) async fn poll_oneoff(
    state: &mut State,
    memory: &mut GuestMemory<'_>,
    subscriptions: GuestPtr<Subscription>,
    events: GuestPtr<Event>,
    count: u32,
) -> Outcome<u32> {
    // As many as it may have descriptors, as poll(2) has it.
    if count == 0 || count as usize > state.sandbox.limits().resources {
        return Err(Errno::Inval.into());
    }
    let mut wanted = Vec::with_capacity(count as usize);
    for subscription in subscriptions.as_array(count).iter() {
        let Subscription { userdata, u } = memory.read(subscription?)?;
        wanted.push((userdata, u.clone(), want(state, memory, &u).await?));
    }
    let ready = wait(state, wanted.iter().map(|(.., wanted)| *wanted)).await;
    let now = Instant::now();
    let mut written = 0;
    for (userdata, subscription, wanted) in wanted {
        let error = match wanted {
            Wanted::Nothing(error) => error,
            Wanted::Clock(at) if at.is_some_and(|at| at <= now) => Errno::Success,
            Wanted::Input if ready.input => Errno::Success,
            Wanted::Output if ready.output => Errno::Success,
            Wanted::Clock(_) | Wanted::Input | Wanted::Output => continue,
        };
        let type_ = match subscription {
            SubscriptionU::Clock(_) => Eventtype::Clock,
            SubscriptionU::FdRead(_) => Eventtype::FdRead,
            SubscriptionU::FdWrite(_) => Eventtype::FdWrite,
        };
        // How much there is to read is not known of a protected connection; at least that.
        let fd_readwrite = EventFdReadwrite { nbytes: 1, flags: Eventrwflags::empty() };
        memory.write(events.add(written)?, Event { userdata, error, type_, fd_readwrite })?;
        written += 1;
    }
    Ok(written)
}

async fn want(
    state: &mut State,
    memory: &mut GuestMemory<'_>,
    subscription: &SubscriptionU,
) -> Outcome<Wanted> {
    let (fd, wanted) = match subscription {
        SubscriptionU::Clock(clock) => return Ok(clock_end(state, memory, clock)),
        SubscriptionU::FdRead(read) => (read.file_descriptor, Wanted::Input),
        SubscriptionU::FdWrite(write) => (write.file_descriptor, Wanted::Output),
    };
    if state.preview1().is_connection(fd.into()) {
        return Ok(wanted);
    }
    Ok(Wanted::Nothing(match state.preview1().ctx.fd_fdstat_get(memory, fd).await {
        Ok(_) => Errno::Success,
        Err(error) => error.downcast().map_err(wasmtime_wasi::p1::types::Error::trap)?,
    }))
}

/// When a clock will have come so far, by the host's own.
fn clock_end(state: &mut State, memory: &mut GuestMemory<'_>, clock: &SubscriptionClock) -> Wanted {
    let is_absolute = clock.flags.contains(Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME);
    let passed = match clock.id {
        Clockid::ProcessCputimeId | Clockid::ThreadCputimeId => return Wanted::Nothing(Errno::Notsup),
        Clockid::Realtime | Clockid::Monotonic if !is_absolute => 0,
        id => match state.preview1().ctx.clock_time_get(memory, id, clock.precision) {
            Ok(now) => now,
            Err(_) => return Wanted::Nothing(Errno::Inval),
        },
    };
    let left = Duration::from_nanos(clock.timeout.saturating_sub(passed));
    Wanted::Clock(Instant::now().checked_add(left))
}

/// Waits for the first of them, and says what of the connection is ready by then.
async fn wait(state: &mut State, wanted: impl Iterator<Item = Wanted> + Clone) -> Ready {
    let is_wanted = |which: fn(&Wanted) -> bool| wanted.clone().any(|wanted| which(&wanted));
    let first_clock = wanted.clone().filter_map(|wanted| match wanted {
        Wanted::Clock(at) => at,
        Wanted::Nothing(_) | Wanted::Input | Wanted::Output => None,
    });
    let first_clock = first_clock.min();
    // What is ready already waits for nothing, but has the others looked at.
    let may_wait = !is_wanted(|wanted| matches!(wanted, Wanted::Nothing(_)))
        && first_clock.is_none_or(|at| at > Instant::now());
    let (deadline, has_peeked) = (state.deadlines.next(), state.preview1().has_peeked());
    let request = state.request.clone();
    let stream = match request.as_deref().map(|request| &request.transport) {
        Some(Transport::Stream(stream)) => Some(stream),
        // A packet is there, and a reply has room.
        Some(Transport::Datagram(_)) | None => None,
    };
    let input = async {
        match stream.filter(|_| !has_peeked) {
            Some(stream) => stream.readable(deadline).await,
            None => Ok(()),
        }
    };
    let output = async {
        match stream {
            Some(stream) => stream.writable(deadline).await,
            None => Ok(()),
        }
    };
    let _waiting = state.watch.waiting(|| Call::Poll);
    let mut input = is_wanted(|wanted| matches!(wanted, Wanted::Input)).then(|| Box::pin(input));
    let mut output = is_wanted(|wanted| matches!(wanted, Wanted::Output)).then(|| Box::pin(output));
    let mut timer = first_clock.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
    let (mut read, mut written) = (None, None);
    poll_fn(|context| {
        read = read.take().or_else(|| done(&mut input, context));
        written = written.take().or_else(|| done(&mut output, context));
        let is_ready =
            !may_wait || read.is_some() || written.is_some() || done(&mut timer, context).is_some();
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let ready = Ready { input: read.is_some(), output: written.is_some() };
    // The next operation says what the wait met with.
    state.preview1().failed = [read, written].into_iter().flatten().find_map(Result::err);
    ready
}

/// What has come of a future, if there is one, once it is ready.
fn done<F: Future>(future: &mut Option<Pin<Box<F>>>, context: &mut Context<'_>) -> Option<F::Output> {
    match future.as_mut()?.as_mut().poll(context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
