//! Every server type with every strategy, as `test_socketserver.py::run_server` does it.

use std::fmt;
use std::thread;

use plugsock::{Concurrency, ServerType};

pub const STRATEGIES: [&str; 5] = Concurrency::NAMES;

/// One server type with one strategy.
#[derive(Clone, Copy)]
pub struct Case {
    pub server_type: ServerType,
    pub strategy: &'static str,
}

impl Case {
    pub fn concurrency(&self) -> Concurrency {
        self.strategy.parse().unwrap()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.server_type.scheme(), self.strategy)
    }
}

/// Runs a scenario for every pair, and names the one that fails.
pub fn for_each_case(scenario: impl Fn(Case)) {
    for server_type in ServerType::ALL {
        for_each_strategy(|strategy| {
            let case = Case { server_type, strategy };
            let _named = Named(case.to_string());
            scenario(case);
        });
    }
}

/// Runs a scenario for every strategy, and names the one that fails.
pub fn for_each_strategy(scenario: impl Fn(&'static str)) {
    for strategy in STRATEGIES {
        let _named = Named(strategy.to_owned());
        scenario(strategy);
    }
}

struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("failed with {}", self.0);
        }
    }
}
