//! What the settings of the engine's pools cost and save: `cargo bench -- sweep` prints a table.
//!
//! An instance is made, touches what a small handler touches, and is dropped, with wasmtime alone. The host's
//! settings are in `host/src/sandbox/engine.rs`.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use wasm_encoder::{
    CodeSection, ComponentBuilder, ComponentExportKind, ConstExpr, DataSection, ExportKind, ExportSection,
    Function, FunctionSection, MemArg, MemorySection, MemoryType, Module, ModuleArg, RefType, TableSection,
    TableType, TypeSection,
};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use crate::figure::Short;
use crate::machine::Machine;
use crate::plan::Scale;

/// Print a table of what instances cost with other settings of the pools
#[derive(Args, Debug)]
pub struct Sweep {}

const KIB: usize = 1024;

const MEMORY_KEEP_RESIDENT: [usize; 5] = [0, 32 * KIB, 64 * KIB, 128 * KIB, 1152 * KIB];
const DECOMMIT_BATCH_SIZE: [usize; 3] = [1, 8, 64];
const MAX_UNUSED_WARM_SLOTS: [u32; 3] = [0, 16, 100];
const TABLE_KEEP_RESIDENT: [usize; 2] = [0, 64 * KIB];

/// Places in the pools: those of a host with a thousand requests.
const REQUESTS: u32 = 1016;

/// What instances are made of, and by whom.
struct Case {
    name: &'static str,
    /// The stack lies first in memory, data and heap behind it.
    stack: usize,
    /// Components that take turns.
    handlers: usize,
    threads: usize,
}

const CASES: [Case; 5] = [
    Case { name: "32 KiB stack", stack: 32 * KIB, handlers: 1, threads: 1 },
    Case { name: "the same, two threads", stack: 32 * KIB, handlers: 1, threads: 2 },
    Case { name: "1 MiB stack", stack: 1024 * KIB, handlers: 1, threads: 1 },
    Case { name: "the same, two threads", stack: 1024 * KIB, handlers: 1, threads: 2 },
    Case { name: "32 KiB stack, 20 handlers in turn", stack: 32 * KIB, handlers: 20, threads: 1 },
];

impl Sweep {
    pub fn run(self, scale: &Scale) -> anyhow::Result<()> {
        println!("{}\n", Machine::this());
        println!("Microseconds of a thread for an instance, what it touches, and its drop.\n");
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        println!(
            "| `linear_memory_keep_resident`, KiB | `decommit_batch_size` | `max_unused_warm_slots` | \
             `table_keep_resident`, KiB | {} |",
            names.join(" | ")
        );
        println!("|{}", "---|".repeat(4 + CASES.len()));
        for memory in MEMORY_KEEP_RESIDENT {
            for batch in DECOMMIT_BATCH_SIZE {
                for warm in MAX_UNUSED_WARM_SLOTS {
                    for table in TABLE_KEEP_RESIDENT {
                        print!("| {} | {batch} | {warm} | {} |", memory / KIB, table / KIB);
                        let mut pool = PoolingAllocationConfig::new();
                        pool.linear_memory_keep_resident(memory)
                            .decommit_batch_size(batch)
                            .max_unused_warm_slots(warm)
                            .table_keep_resident(table);
                        for case in &CASES {
                            print!(" {} |", Short(case.microseconds(&pool, scale.window / 10)?));
                        }
                        println!();
                    }
                }
            }
        }
        Ok(())
    }
}

impl Case {
    fn microseconds(&self, pool: &PoolingAllocationConfig, window: Duration) -> anyhow::Result<f64> {
        let engine = engine(pool.clone())?;
        let linker = Linker::new(&engine);
        let handlers: Vec<InstancePre<()>> = (0..self.handlers)
            .map(|_| linker.instantiate_pre(&Component::new(&engine, handler(self.stack))?))
            .collect::<Result<_, _>>()?;
        let run = || {
            // A tenth beforehand, to warm up.
            repeat(&engine, &handlers, window / 10)?;
            repeat(&engine, &handlers, window)
        };
        let costs: Vec<f64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(run)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("it does not panic"))
                .collect::<anyhow::Result<_>>()
        })?;
        Ok(costs.iter().sum::<f64>() / costs.len() as f64)
    }
}

/// Like the host's.
fn engine(mut pool: PoolingAllocationConfig) -> anyhow::Result<Engine> {
    pool.total_component_instances(REQUESTS)
        .total_core_instances(REQUESTS)
        .total_memories(REQUESTS)
        .total_tables(REQUESTS)
        .total_stacks(REQUESTS)
        .max_memory_size(256 << 20)
        .table_elements(100_000)
        .pagemap_scan(Enabled::No);
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .native_unwind_info(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(Engine::new(&config)?)
}

fn repeat(engine: &Engine, handlers: &[InstancePre<()>], window: Duration) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let mut count = 0.0;
    for handler in handlers.iter().cycle() {
        let mut store = Store::new(engine, ());
        store.set_epoch_deadline(1);
        let instance = handler.instantiate(&mut store)?;
        instance.get_typed_func::<(), ()>(&mut store, RUN)?.call(&mut store, ())?;
        drop(store);
        count += 1.0;
        if begin.elapsed() > window {
            break;
        }
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / count)
}

const RUN: &str = "run";
const PAGE: usize = 64 * KIB;
const DATA: usize = 16 * KIB;
const HEAP: usize = 8 * KIB;

/// A component whose `run` touches two pages of its stack, two of its data and two of its heap.
fn handler(stack: usize) -> Vec<u8> {
    let mut component = ComponentBuilder::default();
    let module = component.core_module(None, &module(stack));
    let instance = component.core_instantiate(None, module, [] as [(&str, ModuleArg); 0]);
    let core_run = component.core_alias_export(None, instance, RUN, ExportKind::Func);
    let (of_run, mut encoder) = component.type_function(None);
    encoder.params([] as [(&str, wasm_encoder::ComponentValType); 0]).result(None);
    let run = component.lift_func(None, core_run, of_run, []);
    component.export(RUN, ComponentExportKind::Func, run, None);
    component.finish()
}

fn module(stack: usize) -> Module {
    let (mut types, mut functions, mut tables) =
        (TypeSection::new(), FunctionSection::new(), TableSection::new());
    types.ty().function([], []);
    functions.function(0);
    tables.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: 64,
        maximum: None,
        shared: false,
    });
    let (mut memories, mut exports, mut code) =
        (MemorySection::new(), ExportSection::new(), CodeSection::new());
    let minimum = (stack + DATA + HEAP).div_ceil(PAGE) as u64;
    memories.memory(MemoryType {
        minimum,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    exports.export(RUN, ExportKind::Func, 0);
    let heap = stack + DATA;
    let mut run = Function::new([]);
    for address in [stack - 8, stack - 4096 - 8, stack, stack + 8192, heap, heap + 4096] {
        let whole = MemArg { offset: 0, align: 3, memory_index: 0 };
        run.instructions().i32_const(address as i32).i64_const(-1).i64_store(whole);
    }
    run.instructions().end();
    code.function(&run);
    let mut segments = DataSection::new();
    segments.active(0, &ConstExpr::i32_const(stack as i32), [b'd'; DATA]);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&tables).section(&memories);
    module.section(&exports).section(&code).section(&segments);
    module
}
