//! Larger components: `echo` with a module beside it that has so much code, compiled and never called, and data in a
//! memory of its own, half and half.

use std::fs;
use std::slice;

use wasm_encoder::{
    BlockType, CodeSection, ComponentSection, ConstExpr, DataSection, Function, FunctionSection,
    InstanceSection, MemArg, MemorySection, MemoryType, Module, ModuleArg, ModuleSection, TypeSection,
    ValType,
};
use wasmparser::{Parser, Payload};

use super::{Column, Cost, Growth, row};
use crate::peers::{Running, serve};
use crate::plan::Scale;
use crate::swap::ECHO;
use crate::trial::{Failure, instantiate, start};
use crate::{cost, report};

pub fn growth(points: &'static [usize]) -> Growth {
    let columns = vec![
        Column::new("compile, ms", Cost::Total),
        Column::new("load from the cache, ms", Cost::Total),
        Column::new("instantiate, µs", Cost::Itself),
        Column::new("start to first answer, ms", Cost::Total),
    ];
    let measure = |points: &[usize], scale: &Scale| {
        points.iter().map(|kilobytes| row(costs(*kilobytes, scale))).collect()
    };
    Growth { name: "growth/size", of: "kilobytes beside `echo`", columns, points, measure }
}

const CACHE: &str = "growth/sizes";

fn costs(kilobytes: usize, scale: &Scale) -> Result<[f64; 4], Failure> {
    let directory = report::directory()?.join("growth");
    fs::create_dir_all(&directory)?;
    let file = directory.join(format!("{kilobytes}-kilobytes.wasm"));
    fs::write(&file, enlarged(ECHO, 1000 * kilobytes)?)?;
    let load = |cache| Ok::<_, Failure>(cost::load(cache, slice::from_ref(&file))?.microseconds / 1e3);
    let compile = load(None)?;
    // Once for the cache, then from it.
    load(Some(CACHE))?;
    let from_cache = load(Some(CACHE))?;
    let instantiate = instantiate(Some(&file), scale)?.value;
    let launch = || {
        let mut command = serve("tcp://127.0.0.1:0", "threading", CACHE)?;
        command.arg(&file);
        Running::start(command, format_args!("{kilobytes} kilobytes"))
    };
    Ok([compile, from_cache, instantiate, start(launch, scale.starts)?.value])
}

/// The component with another module, of about so many bytes, and its instance.
fn enlarged(component: &[u8], size: usize) -> anyhow::Result<Vec<u8>> {
    let mut larger = component.to_vec();
    ModuleSection(&ballast(size)).append_to_component(&mut larger);
    let mut instances = InstanceSection::new();
    instances.instantiate(modules(component)?, [] as [(&str, ModuleArg); 0]);
    instances.append_to_component(&mut larger);
    Ok(larger)
}

/// How many modules a component has itself, without those of components in it.
fn modules(component: &[u8]) -> anyhow::Result<u32> {
    let (mut modules, mut depth) = (0, 0);
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } => {
                modules += u32::from(depth == 0);
                depth += 1;
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            _ => {}
        }
    }
    Ok(modules)
}

const PAGE: usize = 64 * 1024;

/// About what a function is long.
const FUNCTION: usize = 950;
const STEPS: usize = 20;

fn ballast(size: usize) -> Module {
    let mut number = 0_u64;
    // Without a pattern, so that nothing is folded or left out.
    let mut noise = || {
        number += 1;
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    };
    let data: Vec<u8> = (0..size / 2).map(|_| (noise() >> 56) as u8).collect();
    let (mut types, mut functions, mut code) =
        (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([ValType::I64; 2], [ValType::I64]);
    for _ in 0..size / 2 / FUNCTION {
        functions.function(0);
        code.function(&function(&mut noise));
    }
    let (mut memories, mut segments) = (MemorySection::new(), DataSection::new());
    let pages = 1 + data.len().div_ceil(PAGE) as u64;
    memories.memory(MemoryType {
        minimum: pages,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    segments.active(0, &ConstExpr::i32_const(0), data);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&code).section(&segments);
    module
}

/// Arithmetic, branches, loads and stores.
fn function(noise: &mut impl FnMut() -> u64) -> Function {
    let at_first = MemArg { offset: 0, align: 3, memory_index: 0 };
    let mut function = Function::new([]);
    let mut code = function.instructions();
    for _ in 0..STEPS {
        code.local_get(0).i64_const(noise() as i64).i64_mul().local_get(1).i64_xor().local_set(0);
        code.local_get(0).i64_const(noise() as i64).i64_lt_u().if_(BlockType::Empty);
        code.local_get(0).i32_wrap_i64().i32_const(0xfff8).i32_and().i64_load(at_first).local_set(1);
        code.else_().i32_const(0).local_get(1).i64_store(at_first).end();
    }
    code.local_get(0).end();
    function
}
