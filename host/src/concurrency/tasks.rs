//! `async`: a tokio task for each request, many to a thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::runtime::{Builder, Runtime};

use crate::job::Job;

#[derive(Debug)]
pub(crate) struct Tasks {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Tasks {
    pub(super) fn start(workers: usize) -> io::Result<Self> {
        let last_number = Arc::new(AtomicUsize::new(0));
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name_fn(move || format!("async-{}", last_number.fetch_add(1, Relaxed) + 1))
            .on_thread_start(Job::prepare_thread)
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    pub(super) fn process_request(&self, job: Job) {
        let runtime = self.runtime.as_ref().expect("it is not being dropped");
        runtime.spawn(job.serve());
    }
}

impl Drop for Tasks {
    /// Does not wait for a task that is still served, so that it may be dropped anywhere.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
