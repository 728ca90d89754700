//! `wasi:io`, which needs nothing but a guest's resources: WASI's context is made with the first call of what has a use for it.

use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll::{self, Host, HostPollable};
use wasmtime_wasi::p2::bindings::io::{error, streams};

use super::state::State;
use super::watch::Watch;
use crate::traces::Call;

/// Puts ours in the place of WASI's own, which they are made of.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    error::add_to_linker::<State, Resources>(linker, |state| &mut state.table)?;
    streams::add_to_linker::<State, Resources>(linker, |state| &mut state.table)?;
    poll::add_to_linker::<State, Polling>(linker, |state| Polls {
        table: &mut state.table,
        watch: &state.watch,
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Resources;

impl HasData for Resources {
    type Data<'a> = &'a mut ResourceTable;
}

/// A component's waits for one of several things, told of where requests are traced.
struct Polling;

impl HasData for Polling {
    type Data<'a> = Polls<'a>;
}

struct Polls<'a> {
    table: &'a mut ResourceTable,
    watch: &'a Arc<Watch>,
}

impl Host for Polls<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> Result<Vec<u32>> {
        let _waiting = self.watch.waiting(|| Call::Poll);
        self.table.poll(pollables).await
    }
}

impl HostPollable for Polls<'_> {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        let _waiting = self.watch.waiting(|| Call::Poll);
        self.table.block(pollable).await
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> Result<bool> {
        self.table.ready(pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        HostPollable::drop(self.table, pollable)
    }
}
