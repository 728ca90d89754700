//! What one handler has of stores: the only place where grants and limits are applied, and operations counted.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::grant::StateGrant;
use super::limits::StateLimits;
use super::operation::{Answer, Failure, Operation};
use super::registry::{self, Counts};
use super::{Backend, Outcome};
use crate::clients::Allowance;
use crate::error::SandboxError;

/// The stores that a handler may use, and how.
pub(crate) struct Access {
    granted: Vec<Granted>,
    limits: StateLimits,
    started: Instant,
    allowance: Mutex<Allowance>,
}

struct Granted {
    name: String,
    read_only: bool,
    store: Arc<dyn Backend>,
    counts: Arc<Counts>,
}

impl Access {
    /// Opens what is granted.
    pub(crate) fn open(grants: &[StateGrant], limits: &StateLimits) -> Result<Self, SandboxError> {
        let refused = |grant: &StateGrant, reason| SandboxError::State { grant: grant.to_string(), reason };
        for (number, grant) in grants.iter().enumerate() {
            if grants[..number].iter().any(|other| other.name == grant.name) {
                return Err(refused(grant, "its name stands for another store already".to_owned()));
            }
        }
        let granted = grants.iter().map(|grant| {
            let store = registry::open(grant).map_err(|reason| refused(grant, reason))?;
            let (name, read_only) = (grant.name.clone(), grant.read_only);
            let counts = Counts::of(&name);
            Ok(Granted { name, read_only, store, counts })
        });
        let granted = granted.collect::<Result<_, SandboxError>>()?;
        Ok(Self { granted, limits: limits.clone(), started: Instant::now(), allowance: Mutex::default() })
    }

    /// Runs an operation on the store of this name, in the time that it may take. Needs a runtime for that.
    pub(crate) async fn run(&self, store: &str, operation: Operation) -> Outcome {
        let granted = self.granted.iter().find(|granted| granted.name == store);
        let granted = granted.ok_or(Failure::NoSuchStore)?;
        let kind = operation.number();
        let outcome = self.run_checked(granted, operation).await;
        granted.counts.count(kind, &outcome);
        granted.counts.complain(&granted.name, &outcome);
        outcome
    }

    async fn run_checked(&self, granted: &Granted, operation: Operation) -> Outcome {
        if granted.read_only && operation.writes() {
            return Err(Failure::AccessDenied);
        }
        self.limits.check(&operation)?;
        self.take_allowance()?;
        if operation == Operation::Open {
            return Ok(Answer::Done);
        }
        let time = self.limits.time;
        match tokio::time::timeout(time, granted.store.run(operation, self.limits.quota())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::TimedOut(format!("the store has not answered within {time:?}"))),
        }
    }

    fn take_allowance(&self) -> Result<(), Failure> {
        let Some(rate) = self.limits.rate else { return Ok(()) };
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        allowance
            .take(rate, self.started.elapsed())
            .map_err(|_| Failure::Limit(format!("the handler may ask for state no more often than {rate}")))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.granted.iter().map(|granted| &granted.name)).finish()
    }
}
