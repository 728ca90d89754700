//! What the core modules in a file are made of: how much memory and stack they begin with, and what they import
//! without a use. In one pass over bytes that have been compiled, which bounds how many there are of each.

use std::collections::BTreeSet;

use wasmparser::{
    BinaryReaderError, ConstExpr, DataKind, ElementItems, ElementKind, Encoding, ExternalKind, FunctionBody,
    GlobalSectionReader, KnownCustom, Name, Operator, Parser, Payload, TableInit, TypeRef,
};

/// Components lie within components no deeper in what is looked at: each level costs memory.
const MAX_DEPTH: usize = 100;

/// What linkers call the global that says where the stack ends.
const STACK_POINTER: &str = "__stack_pointer";

/// What the core modules in a file are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anatomy {
    /// The memories of all modules.
    pub memories: Vec<Extent>,
    /// For each module that has a memory of its own the size of its stack there in bytes, where the module shows it.
    pub stacks: Vec<Option<u64>>,
    /// The tables of all modules.
    pub tables: Vec<Extent>,
    /// The functions that a module imports from the host and never uses: no code calls them, no table or export has them.
    pub unused: BTreeSet<String>,
}

/// How large something is at first, and how large it may grow: memories in bytes, tables in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// At first.
    pub initial: u64,
    /// At most, if the module says so.
    pub maximum: Option<u64>,
}

impl Anatomy {
    /// Of a component or a core module; `None` if it is neither, or not whole.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut anatomy = Self::default();
        // What has begun and not ended yet.
        let mut open = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.ok()? {
                Payload::Version { .. } if open.len() == MAX_DEPTH => return None,
                Payload::Version { encoding: Encoding::Module, .. } => open.push(Some(Module::default())),
                Payload::Version { encoding: Encoding::Component, .. } => open.push(None),
                Payload::End(_) => {
                    if let Some(module) = open.pop()? {
                        anatomy.add(module, !open.is_empty());
                    }
                }
                payload => {
                    if let Some(module) = open.last_mut()? {
                        module.read(payload).ok()?;
                    }
                }
            }
        }
        open.is_empty().then_some(anatomy)
    }

    fn add(&mut self, module: Module, is_in_component: bool) {
        if !module.memories.is_empty() {
            self.stacks.push(module.stack());
        }
        self.memories.extend(module.memories);
        self.tables.extend(module.tables);
        // A component's modules import from one another, too; what has the name of an interface is the component's import.
        let is_of_host = |function: &Function| {
            !is_in_component || function.name.split(' ').next().is_some_and(|module| module.contains(':'))
        };
        let unused =
            module.functions.into_iter().filter(|function| !function.is_used && is_of_host(function));
        self.unused.extend(unused.map(|function| function.name));
    }
}

/// A core module, as far as it has been read.
#[derive(Default)]
struct Module {
    memories: Vec<Extent>,
    tables: Vec<Extent>,
    /// Those that it imports.
    functions: Vec<Function>,
    imported_globals: u32,
    /// The initial value of each global of its own, if it is a number that code changes.
    globals: Vec<Option<u64>>,
    /// The global that has the stack pointer's name.
    named: Option<u32>,
    /// The first global that a function takes its frame from.
    framed: Option<u32>,
    /// Where data begins, if any has a fixed place.
    data: Option<u64>,
}

struct Function {
    name: String,
    is_used: bool,
}

type Read = Result<(), BinaryReaderError>;

impl Module {
    fn read(&mut self, payload: Payload<'_>) -> Read {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    match import.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                            let name = format!("{} {}", import.module, import.name);
                            self.functions.push(Function { name, is_used: false });
                        }
                        TypeRef::Global(_) => self.imported_globals += 1,
                        _ => {}
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory?;
                    let page = memory.page_size_log2.unwrap_or(16);
                    let bytes = |pages: u64| pages.saturating_mul(1u64.checked_shl(page).unwrap_or(u64::MAX));
                    let (initial, maximum) = (bytes(memory.initial), memory.maximum.map(bytes));
                    self.memories.push(Extent { initial, maximum });
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    let table = table?;
                    if let TableInit::Expr(expression) = &table.init {
                        self.use_in(expression)?;
                    }
                    self.tables.push(Extent { initial: table.ty.initial, maximum: table.ty.maximum });
                }
            }
            Payload::GlobalSection(globals) => self.read_globals(globals)?,
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => self.use_function(export.index),
                        ExternalKind::Global if export.name == STACK_POINTER => {
                            self.named = Some(export.index)
                        }
                        _ => {}
                    }
                }
            }
            Payload::StartSection { func, .. } => self.use_function(func),
            Payload::ElementSection(elements) => {
                for element in elements {
                    let element = element?;
                    match element.items {
                        // They only say that code may refer to them.
                        ElementItems::Functions(_) if matches!(element.kind, ElementKind::Declared) => {}
                        ElementItems::Functions(functions) => {
                            for function in functions {
                                self.use_function(function?);
                            }
                        }
                        ElementItems::Expressions(_, expressions) => {
                            for expression in expressions {
                                self.use_in(&expression?)?;
                            }
                        }
                    }
                }
            }
            Payload::CodeSectionEntry(body) => self.read_code(&body)?,
            Payload::DataSection(data) => {
                for data in data {
                    if let DataKind::Active { memory_index: 0, offset_expr } = data?.kind {
                        // What is placed when it is instantiated may be anywhere.
                        let place = number(&offset_expr).unwrap_or(0);
                        self.data = Some(self.data.map_or(place, |first| first.min(place)));
                    }
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    // A damaged name is no error of the module.
                    for name in names.into_iter().map_while(Result::ok) {
                        let Name::Global(names) = name else { continue };
                        let mut names = names.into_iter().map_while(Result::ok);
                        self.named = self
                            .named
                            .or(names.find(|name| name.name == STACK_POINTER).map(|name| name.index));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read_globals(&mut self, globals: GlobalSectionReader<'_>) -> Read {
        for global in globals {
            let global = global?;
            self.use_in(&global.init_expr)?;
            self.globals.push(if global.ty.mutable { number(&global.init_expr) } else { None });
        }
        Ok(())
    }

    fn read_code(&mut self, body: &FunctionBody<'_>) -> Read {
        let mut frame = Frame::default();
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            match operator {
                Operator::Call { function_index }
                | Operator::ReturnCall { function_index }
                | Operator::RefFunc { function_index } => self.use_function(function_index),
                _ => {}
            }
            if self.framed.is_none() {
                self.framed = frame.taken_by(&operator);
            }
        }
        Ok(())
    }

    fn use_function(&mut self, index: u32) {
        if let Some(function) = self.functions.get_mut(index as usize) {
            function.is_used = true;
        }
    }

    fn use_in(&mut self, expression: &ConstExpr<'_>) -> Read {
        for operator in expression.get_operators_reader() {
            if let Operator::RefFunc { function_index } = operator? {
                self.use_function(function_index);
            }
        }
        Ok(())
    }

    /// Where the linker puts the stack below all data, it grows down from its size to zero.
    fn stack(&self) -> Option<u64> {
        let pointer = self.named.or(self.framed)?.checked_sub(self.imported_globals)?;
        let end = (*self.globals.get(pointer as usize)?).filter(|end| *end > 0)?;
        let is_within = self.memories.first().is_some_and(|memory| end <= memory.initial);
        (is_within && self.data.is_none_or(|data| data >= end)).then_some(end)
    }
}

/// How far a function has come in taking its frame of the stack, as LLVM has it: the stack pointer less a number, kept in a
/// local and put back.
#[derive(Clone, Copy, Default)]
enum Frame {
    #[default]
    None,
    Pointer(u32),
    Length(u32),
    Less(u32),
    Kept(u32),
}

impl Frame {
    /// The global that is the stack pointer, if this operator is the last of them.
    fn taken_by(&mut self, operator: &Operator<'_>) -> Option<u32> {
        *self = match (*self, operator) {
            (_, Operator::GlobalGet { global_index }) => Self::Pointer(*global_index),
            (Self::Pointer(global), Operator::I32Const { .. } | Operator::I64Const { .. }) => {
                Self::Length(global)
            }
            (
                Self::Length(global),
                Operator::I32Sub | Operator::I64Sub | Operator::I32Add | Operator::I64Add,
            ) => Self::Less(global),
            (Self::Less(global), Operator::LocalTee { .. }) => Self::Kept(global),
            (Self::Kept(global), Operator::GlobalSet { global_index }) if *global_index == global => {
                *self = Self::None;
                return Some(global);
            }
            _ => Self::None,
        };
        None
    }
}

/// The value of an expression that is one number.
fn number(expression: &ConstExpr<'_>) -> Option<u64> {
    let mut operators = expression.get_operators_reader().into_iter();
    let value = match operators.next()?.ok()? {
        Operator::I32Const { value } => u64::from(value as u32),
        Operator::I64Const { value } => value as u64,
        _ => return None,
    };
    matches!(operators.next()?.ok()?, Operator::End).then_some(value)
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{Component, NestedComponentSection};

    use super::*;

    const ECHO: &[u8] = include_bytes!(env!("PLUGSOCK_ECHO"));

    #[test]
    fn what_is_not_whole_has_none() {
        let whole = Anatomy::of(ECHO).unwrap();
        assert_eq!((whole.memories.len(), &whole.stacks[..]), (1, &[Some(32 << 10)][..]));
        for bytes in [&b""[..], b"#!/bin/sh", &ECHO[..7], &ECHO[..ECHO.len() - 1]] {
            assert_eq!(Anatomy::of(bytes), None);
        }
    }

    #[test]
    fn damage_is_no_panic() {
        let mut bytes = ECHO.to_vec();
        for place in (0..bytes.len()).step_by(61) {
            for damage in [0x01, 0x80, 0xff] {
                bytes[place] ^= damage;
                Anatomy::of(&bytes);
                bytes[place] ^= damage;
            }
            Anatomy::of(&bytes[..place]);
        }
        assert_eq!(bytes, ECHO);
    }

    #[test]
    fn components_within_components_are_looked_at_to_a_depth() {
        let mut component = Component::new();
        for _ in 1..MAX_DEPTH {
            component = nested(&component);
        }
        assert!(Anatomy::of(component.as_slice()).is_some());
        assert!(Anatomy::of(nested(&component).as_slice()).is_none());
    }

    fn nested(inner: &Component) -> Component {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(inner));
        outer
    }
}
