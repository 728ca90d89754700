//! `--watch` of a tag in a registry, which has to be asked what the tag stands for.

use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use plugsock::{HandlerError, SwapError};

use super::{Look, Seen};
use crate::cli::registry::{OciReference, Registry, jittered};

/// The longest pause while a registry does not answer, unless it is asked more seldom anyway.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// Runs `swap` whenever the tag stands for another manifest than was seen, as long as
/// somebody else has `seen`.
pub fn watch(
    registry: Registry,
    reference: OciReference,
    poll: Duration,
    seen: &Seen,
    swap: impl Fn() -> Result<(), SwapError> + Send + 'static,
) -> anyhow::Result<()> {
    let seen = Arc::downgrade(seen);
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        // In a row, and the last one's reason.
        let (mut failures, mut last) = (0, None);
        loop {
            thread::sleep(jittered(pause(poll, failures)));
            let Some(seen) = seen.upgrade() else { return };
            match look(&registry, &reference, &seen, &swap) {
                Ok(()) if failures > 0 => {
                    tracing::info!("{reference} can be had again");
                    (failures, last) = (0, None);
                }
                Ok(()) => {}
                Err(reason) => {
                    failures += 1;
                    if last.as_ref() != Some(&reason) {
                        tracing::warn!("{reason}: what was loaded before serves on, and it is tried again");
                    }
                    last = Some(reason);
                }
            }
        }
    })?;
    Ok(())
}

/// Looks once, and swaps if there is something else; why that is to be tried again.
fn look(
    registry: &Registry,
    reference: &OciReference,
    seen: &Seen,
    swap: impl Fn() -> Result<(), SwapError>,
) -> Result<(), String> {
    let digest = registry.resolve(reference).map_err(|error| format!("{reference} is not known: {error}"))?;
    let now = Some(Look::at_tag(digest));
    if *seen.lock().unwrap_or_else(PoisonError::into_inner) == now {
        return Ok(());
    }
    match swap() {
        // It may come yet, as may a signature of it.
        Err(SwapError::Handler(error @ (HandlerError::Fetch { .. } | HandlerError::Untrusted { .. }))) => {
            return Err(error.to_string());
        }
        Err(error) => tracing::error!("not swapped to {reference}: {error}"),
        Ok(()) => {}
    }
    *seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
    Ok(())
}

/// Twice as long for each failure.
fn pause(poll: Duration, failures: u32) -> Duration {
    poll.saturating_mul(1 << failures.min(16)).min(poll.max(PAUSE_MAX))
}
