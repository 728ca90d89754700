//! `wasi:random/insecure-seed`. A program in Rust asks for it with its first `HashMap`, and often for nothing else of WASI,
//! whose context costs far more than a number.

use wasmtime::Result;
use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::p2::bindings::random::insecure_seed::{self, Host};

use super::state::State;

/// What one instance is told, each time.
#[derive(Default)]
pub(super) struct Seed(Option<u128>);

impl Seed {
    pub(super) fn is_drawn(&self) -> bool {
        self.0.is_some()
    }
}

/// Puts ours in the place of WASI's own.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    insecure_seed::add_to_linker::<State, Seeding>(linker, |state| &mut state.seed)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Seeding;

impl HasData for Seeding {
    type Data<'a> = &'a mut Seed;
}

impl Host for Seed {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        let seed = *self.0.get_or_insert_with(rand::random);
        Ok((seed as u64, (seed >> 64) as u64))
    }
}
