//! `pool`: a fixed set of worker threads behind a bounded queue.

use std::io;
use std::thread;

use crossbeam::channel::{Sender, bounded};

use crate::job::Job;

#[derive(Debug)]
pub(crate) struct Pool {
    queue: Sender<Job>,
}

impl Pool {
    /// The workers end when the pool is dropped and the queue is empty.
    pub(super) fn start(workers: usize, queue: usize) -> io::Result<Self> {
        // Admission keeps what is served and what waits below `workers + queue`; a worker may be on its way
        // back to the queue, so there must be room for all of it here.
        let (sender, receiver) = bounded::<Job>(workers + queue);
        for number in 1..=workers {
            let receiver = receiver.clone();
            thread::Builder::new().name(format!("pool-{number}")).spawn(move || {
                Job::prepare_thread();
                receiver.into_iter().for_each(Job::run);
            })?;
        }
        Ok(Self { queue: sender })
    }

    pub(super) fn process_request(&self, job: Job) {
        // The receivers live as long as this sender, so that a request is never sent in vain.
        let _ = self.queue.send(job);
    }
}
