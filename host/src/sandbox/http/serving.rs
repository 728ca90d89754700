//! What is done for one request, apart from its answer's way to the client.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Waker};

use tokio_util::task::TaskTracker;

use super::answer::Answering;

/// It is to end whatever becomes of the connection. A small answer takes no task of its own for that, and nobody who would have
/// to be woken: its guest is run by whoever drives the connection, who also does what is left when the answer is sent.
pub(super) struct Serving {
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    answering: Answering,
    tasks: TaskTracker,
}

impl Serving {
    /// `future` ends when its guest has, and the answer is sent.
    pub(super) fn new(
        future: impl Future<Output = ()> + Send + 'static,
        answering: &Answering,
        tasks: &TaskTracker,
    ) -> Self {
        Self { future: Some(Box::pin(future)), answering: answering.clone(), tasks: tasks.clone() }
    }

    /// Runs the guest until it has given the head of its answer; then, if it has not ended, it goes on as a task.
    pub(super) async fn head<F: Future + Unpin>(mut self, mut head: F) -> (F::Output, Option<Self>) {
        let head = poll_fn(|context| {
            self.poll(context);
            Pin::new(&mut head).poll(context)
        })
        .await;
        (head, self.answering.is_guests_end().then_some(self))
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        // One that panics is not polled again.
        if let Some(mut future) = self.future.take()
            && future.as_mut().poll(context).is_pending()
        {
            self.future = Some(future);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.answering.is_guests_end() {
            self.poll(&mut Context::from_waker(Waker::noop()));
        }
        self.future.take().map(|future| self.tasks.spawn(future));
    }
}
