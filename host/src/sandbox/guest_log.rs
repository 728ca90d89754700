//! What handlers print: lines of the host's log, so many as a request may have.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::streams::room_after;
use crate::error::one_line;
use crate::helper_process::log_filter;
use crate::traces::TraceContext;

/// The most of a line that is held back until it ends.
const LINE_MAX: usize = 8 * 1024;

/// So many seconds' worth of lines may come at once.
const BURST: u32 = 10;

/// Writes what a guest prints to the host's log, a line at a time.
#[derive(Clone)]
pub(super) struct GuestLog(Arc<Shared>);

struct Shared {
    source: Mutex<Source>,
    /// Lines a second.
    rate: u32,
    allowance: Mutex<Allowance>,
    /// What all guests of the sandbox together have lost.
    all_dropped: Arc<AtomicU64>,
}

/// What the guest serves now.
#[derive(Clone, Default)]
pub(super) struct Source {
    /// `None` in a hook.
    pub(super) request: Option<u64>,
    /// If the request is sampled.
    pub(super) span: Option<TraceContext>,
}

impl Source {
    fn trace_id(&self) -> Option<String> {
        self.span.as_ref().map(|span| span.trace_id().to_string())
    }

    fn span_id(&self) -> Option<String> {
        self.span.as_ref().map(|span| span.span_id().to_string())
    }
}

/// What its streams together may still log.
struct Allowance {
    lines: f64,
    /// When that was counted.
    at: Instant,
    dropped: u64,
}

impl Allowance {
    fn new(rate: u32) -> Self {
        Self { lines: f64::from(rate) * f64::from(BURST), at: Instant::now(), dropped: 0 }
    }
}

impl GuestLog {
    pub(super) fn new(source: Source, rate: u32, all_dropped: &Arc<AtomicU64>) -> Self {
        let (source, all_dropped) = (Mutex::new(source), all_dropped.clone());
        Self(Arc::new(Shared { source, rate, allowance: Mutex::new(Allowance::new(rate)), all_dropped }))
    }

    /// From now on the guest serves this request, which may log as much as any.
    pub(super) fn set_source(&self, source: Source) {
        self.0.say_what_was_dropped(&mut self.0.allowance());
        *self.0.allowance() = Allowance::new(self.0.rate);
        *self.0.source.lock().unwrap_or_else(PoisonError::into_inner) = source;
    }

    pub(super) fn stream(&self, name: &'static str) -> LogStream {
        let lines = Lines { log: self.0.clone(), name, partial: Vec::new() };
        LogStream { lines: Arc::new(Mutex::new(lines)), room: 0 }
    }
}

impl Shared {
    fn source(&self) -> Source {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn allowance(&self) -> MutexGuard<'_, Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more line may be logged.
    fn allows_line(&self) -> bool {
        let mut allowance = self.allowance();
        let now = Instant::now();
        let rate = f64::from(self.rate);
        let regained = rate * now.duration_since(allowance.at).as_secs_f64();
        allowance.lines = (allowance.lines + regained).min(rate * f64::from(BURST));
        allowance.at = now;
        // Who has had too much waits until a whole second's worth has come together: what was dropped is then
        // said once a second at most.
        let needed = if allowance.dropped > 0 { rate.max(1.0) } else { 1.0 };
        if allowance.lines < needed {
            allowance.dropped += 1;
            self.all_dropped.fetch_add(1, Relaxed);
            return false;
        }
        allowance.lines -= 1.0;
        self.say_what_was_dropped(&mut allowance);
        true
    }

    fn say_what_was_dropped(&self, allowance: &mut Allowance) {
        let (dropped, rate) = (std::mem::take(&mut allowance.dropped), self.rate);
        if dropped > 0 {
            let request = self.source().request;
            tracing::warn!(target: "guest", request, dropped, "dropped lines beyond {rate} a second");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.say_what_was_dropped(&mut self.allowance());
    }
}

/// Standard output or standard error of one guest.
#[derive(Clone)]
pub(super) struct LogStream {
    lines: Arc<Mutex<Lines>>,
    /// What `write` may take until the guest asks again. It logs at once, and meanwhile no one else's guest runs
    /// on its thread.
    room: usize,
}

struct Lines {
    log: Arc<Shared>,
    name: &'static str,
    partial: Vec<u8>,
}

impl Lines {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in piece.chunks(LINE_MAX) {
                self.partial.extend_from_slice(piece);
                if piece.ends_with(b"\n") || self.partial.len() >= LINE_MAX {
                    self.emit();
                }
            }
        }
    }

    fn emit(&mut self) {
        // Taken first: whatever goes wrong with it, it is not tried again.
        let partial = std::mem::take(&mut self.partial);
        log_filter::look();
        if self.log.allows_line() {
            let text = String::from_utf8_lossy(&partial);
            let line = one_line(text.trim_end_matches(['\r', '\n']));
            let (source, stream) = (self.log.source(), self.name);
            let (request, trace_id, span_id) = (source.request, source.trace_id(), source.span_id());
            tracing::info!(target: "guest", request, stream, trace_id, span_id, "{line}");
        }
    }
}

/// A guest that ends in the middle of a line has said that much.
impl Drop for Lines {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.emit();
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    /// WASI 0.3 alone would use it, and this host has none.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.room = room_after(self.room, &bytes)?;
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.room = LINE_MAX;
        Ok(self.room)
    }
}
