//! `sync`: no mix-in. The accepting thread serves, and accepts again when it is done.

use crate::job::Job;

pub(super) fn process_request(job: Job) {
    job.run();
}
