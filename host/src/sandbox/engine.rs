//! The process's wasmtime engine: pools sized for the open requests, and the ticker that interrupts guests.

use std::panic::catch_unwind;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use super::limits::{Limits, STACK};

/// Memories and tables that a component may have in the pools. Those of all languages have one memory and two
/// tables.
pub(super) const MEMORIES_A_PLACE: u32 = 2;
pub(super) const TABLES_A_PLACE: u32 = 6;

/// Memories that a request may take in the pools: one more for what is collected.
const MEMORIES_A_REQUEST: u32 = MEMORIES_A_PLACE + 1;

/// What the host's own functions may need of a guest's stack.
const HOST_STACK: usize = 3 << 19;

/// Places beyond the open requests: for hooks and for trying out a handler before it serves. So many places that
/// another handler has used are left to it, too: were it more, each new version would have places of its own,
/// and memory would grow with every swap.
const SPARE: u32 = 16;

/// Versions of handlers that may have their instances ready at the same time: the one that serves, those before
/// and after it, and other servers'.
const WARM_HANDLERS: usize = 4;

/// What a linear memory reserves by default, guard included: so much that compiled code need not check bounds.
pub(crate) const RESERVATION: u64 = (4 << 30) + (32 << 20);

/// What all linear memories together may reserve of the 128 TiB that a process has.
const ADDRESS_SPACE: u64 = 96 << 40;

/// Kept mapped and cleared by hand between requests, which costs less than to unmap and fault it in again.
/// More is slower: clearing then costs more than the faults.
const KEEP_RESIDENT: usize = 64 * 1024;

/// An engine with pools: memory, tables and stacks are kept from one request to the next.
pub(super) fn pooling(limits: &Limits, dumps_core: bool) -> wasmtime::Result<Engine> {
    let requests = requests(limits);
    let instances = limits.instances.try_into().unwrap_or(u32::MAX);
    // There is as much of everything as all requests together may have: none can take what another needs.
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(requests)
        .total_core_instances(requests.saturating_mul(instances))
        .total_memories(requests.saturating_mul(MEMORIES_A_REQUEST))
        .total_tables(requests.saturating_mul(TABLES_A_PLACE))
        .total_gc_heaps(requests)
        .total_stacks(requests)
        .max_core_instances_per_component(instances)
        .max_memories_per_module(MEMORIES_A_PLACE)
        .max_tables_per_module(TABLES_A_PLACE)
        .max_memories_per_component(MEMORIES_A_PLACE)
        .max_tables_per_component(TABLES_A_PLACE)
        .max_memory_size(limits.memory)
        .table_elements(limits.table_elements)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .async_stack_keep_resident(KEEP_RESIDENT)
        .max_unused_warm_slots(SPARE)
        // To unmap several at once interrupts other cores less often, but what a guest has left, which may be all that
        // it was allowed, would stay until so many more have ended.
        .decommit_batch_size(1)
        // It skips pages that were swapped out, so the next instance could read them.
        .pagemap_scan(Enabled::No);
    let mut config = config(limits, dumps_core);
    Engine::new(config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)))
}

/// What to do where an engine has no room for its pools.
pub(super) fn hint(error: &wasmtime::Error) -> String {
    let is_full = error.root_cause().downcast_ref() == Some(&Errno::NOMEM);
    let limit = |resource| getrlimit(resource).current.filter(|_| is_full);
    if let Some(limit) = limit(Resource::As) {
        format!(
            "; this process may have {limit} bytes of address space, of which each of --max-requests reserves up to \
             {}: raise `ulimit -v`, or lower --max-requests",
            RESERVATION * u64::from(MEMORIES_A_REQUEST)
        )
    } else if let Some(limit) = limit(Resource::Data) {
        format!("; this process may have {limit} bytes of data: raise `ulimit -d`, or lower --max-requests")
    } else if is_full {
        "; the kernel may allow a process too few memory areas: raise `sysctl vm.max_map_count`, or lower --max-requests"
            .to_owned()
    } else {
        String::new()
    }
}

/// Makes what this thread needs once before it can run a guest: a stack for signals. The first guest would have it
/// made otherwise, and panic if there is no memory for it.
pub(crate) fn prepare_thread() -> Result<(), &'static str> {
    catch_unwind(Engine::tls_eager_initialize).map_err(|_| "no memory for its signals")
}

/// An engine without pools, for a process that forks: each mapping would be copied with each fork. It takes
/// what an engine with pools has compiled.
pub(super) fn on_demand(limits: &Limits, dumps_core: bool) -> wasmtime::Result<Engine> {
    Engine::new(config(limits, dumps_core).allocation_strategy(InstanceAllocationStrategy::OnDemand))
}

/// Places in the pools.
fn requests(limits: &Limits) -> u32 {
    let requests = limits.max_requests.saturating_add(warm(limits));
    u32::try_from(requests).unwrap_or(u32::MAX).saturating_add(SPARE)
}

/// Places for instances that wait for their requests.
pub(super) fn warm(limits: &Limits) -> usize {
    limits.warm.saturating_mul(WARM_HANDLERS)
}

/// What compiled code depends on, but for `dumps_core`: whether traps keep what a core dump is made of.
fn config(limits: &Limits, dumps_core: bool) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        // Backtraces come from frame pointers; registering unwind tables would only slow loading down.
        .native_unwind_info(false)
        .wasm_wide_arithmetic(true)
        // What reads source lines is a process of its own: `source_lines.rs` says why.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .coredump_on_trap(dumps_core)
        .max_wasm_stack(limits.stack)
        .async_stack_size(limits.stack.saturating_add(HOST_STACK))
        // What a deep recursion has left would stay for ever otherwise. The default is little enough to leave it.
        .async_stack_zeroing(limits.stack > STACK);
    if let Some(reservation) = small_reservation(limits) {
        config.memory_reservation(reservation);
    }
    config
}

/// With more requests than have room otherwise, each memory reserves no more than it may use; the code then checks bounds.
fn small_reservation(limits: &Limits) -> Option<u64> {
    let is_too_much = memories(limits).saturating_mul(RESERVATION) > ADDRESS_SPACE;
    is_too_much.then(|| limits.memory.next_multiple_of(64 << 10) as u64)
}

/// Memories in the pools.
fn memories(limits: &Limits) -> u64 {
    u64::from(requests(limits)) * u64::from(MEMORIES_A_REQUEST)
}

impl Limits {
    /// The address space that the pools for so many requests reserve: most of it for what their memories may grow to.
    pub fn address_space(&self) -> u64 {
        memories(self).saturating_mul(small_reservation(self).unwrap_or(RESERVATION))
    }
}

/// Advances the epoch so often as long as the engine lives, and every running guest is looked at.
pub(super) fn start_ticker(engine: &Engine, every: Duration) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("ticker".to_owned()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(every);
        }
    })?;
    Ok(())
}
