//! Where in its source code a guest has trapped, for components that carry debug information (DWARF).
//!
//! wasmtime would look that up by itself, in the host, once for each frame of each trap. But debug information comes
//! from whoever made the component, and a megabyte of it can make a reader take gigabytes of memory: each of
//! thousands of units may name the same thousands of ranges. So it is read in a process of its own, confined as a
//! compiler is, with a bound on its time and memory, and only if somebody looks: `plugsock call`, or a log that shows
//! backtraces. It reads what the component has, so compiled code is the same with debug information and without.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use addr2line::gimli::{self, Dwarf, EndianSlice, LittleEndian};
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use wasmparser::{Parser, Payload};

use super::handler::Handler;
use super::preview1;
use super::sealed_file::read_sealed;
use crate::error::{Cause, RequestError, one_line};
use crate::helper_process::{self, Channel, Role, confine};
use crate::wake::poll_until;

/// How long it may take to find the lines of one trap.
const TIME: Duration = Duration::from_secs(5);

/// How much memory that may take, beside twice the component's size.
const MEMORY: u64 = 512 << 20;

/// So many places of one handler are looked up in all: each lookup may cost as much as it may.
const KNOWN_MAX: usize = 1000;

/// No backtrace of wasmtime's has more frames.
const FRAMES_MAX: usize = 20;

/// So many functions that are inlined into each other are told of one frame.
const INLINED_MAX: usize = 8;

/// So much of the name of a file or a function is told, in bytes.
const NAME_MAX: usize = 250;

/// A line of source code, and the function that it is in.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    function: Option<String>,
    /// File, line and column.
    place: String,
}

/// For each frame its lines; of a function that is inlined first, and of the one that it is inlined into after that.
type Lines = Vec<Vec<Line>>;

/// What is known of the source of one handler.
#[derive(Default)]
pub(super) struct SourceLines {
    /// By places in the component.
    known: Mutex<HashMap<u64, Vec<Line>>>,
    /// There are no lines, or it takes too much to find them.
    is_given_up: AtomicBool,
    is_looking: AtomicBool,
}

impl SourceLines {
    fn known(&self) -> MutexGuard<'_, HashMap<u64, Vec<Line>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler {
    /// The backtrace of a request that trapped, with lines of source code if the component has debug information, in
    /// lines of text. That may take a while.
    pub fn backtrace(&self, error: &RequestError) -> Option<String> {
        let Cause::Trap { backtrace, offsets, .. } = &error.cause else { return None };
        if self.is_unknown(offsets) {
            self.look_up(offsets);
        }
        Some(self.with_known_lines(backtrace, offsets))
    }

    /// Says the same, for a log: at once, and again when its lines have been found, if they had to be looked for. So
    /// nobody waits for them, and nothing is lost if this process ends meanwhile.
    pub(crate) fn tell_backtrace(&self, error: &RequestError, tell: impl Fn(&str) + Send + 'static) {
        let Cause::Trap { backtrace, offsets, .. } = &error.cause else { return };
        let told = self.with_known_lines(backtrace, offsets);
        tell(&told);
        // One at a time: others go without.
        if !self.is_unknown(offsets) || self.0.source_lines.is_looking.swap(true, SeqCst) {
            return;
        }
        let (handler, backtrace, offsets) = (self.clone(), backtrace.clone(), offsets.clone());
        let look = move || {
            handler.look_up(&offsets);
            handler.0.source_lines.is_looking.store(false, SeqCst);
            let found = handler.with_known_lines(&backtrace, &offsets);
            if found != told {
                tell(&found);
            }
        };
        if let Err(error) = thread::Builder::new().name("source-lines".to_owned()).spawn(look) {
            self.0.source_lines.is_looking.store(false, SeqCst);
            tracing::debug!("source lines are not looked for: no thread for it: {error}");
        }
    }

    /// Whether a place may have lines that have not been looked for.
    fn is_unknown(&self, offsets: &[u64]) -> bool {
        let SourceLines { is_given_up, .. } = &self.0.source_lines;
        let known = self.0.source_lines.known();
        !is_given_up.load(SeqCst) && offsets.iter().any(|offset| !known.contains_key(offset))
    }

    fn look_up(&self, offsets: &[u64]) {
        let found = match self.component() {
            Some(component) => ask(&self.sandbox().host().compile.arguments, component, offsets),
            None => Ok(Vec::new()),
        };
        let found = found.unwrap_or_else(|reason| {
            tracing::debug!("source lines of {} are not looked for any more: {reason}", self.name());
            Vec::new()
        });
        let mut known = self.0.source_lines.known();
        if found.len() != offsets.len().min(FRAMES_MAX) || known.len() + found.len() > KNOWN_MAX {
            self.0.source_lines.is_given_up.store(true, SeqCst);
        }
        known.extend(offsets.iter().copied().zip(found));
    }

    /// Each frame has a line of its own, after the first, which is none.
    fn with_known_lines(&self, backtrace: &str, offsets: &[u64]) -> String {
        let known = self.0.source_lines.known();
        let mut text = String::new();
        for (number, frame) in backtrace.trim_end().lines().enumerate() {
            if number > 0 {
                text.push('\n');
            }
            text.push_str(frame);
            let offset = number.checked_sub(1).and_then(|number| offsets.get(number));
            let lines = offset.and_then(|offset| known.get(offset)).map(Vec::as_slice).unwrap_or_default();
            for Line { function, place } in lines {
                text.push_str("\n                 at ");
                text.push_str(&one_line(place));
                // The frame has the name of the only one.
                if let Some(function) = function.as_ref().filter(|_| lines.len() > 1) {
                    text.push_str(" in ");
                    text.push_str(&one_line(function));
                }
            }
        }
        text
    }
}

/// What a process is asked; beside it the component.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    offsets: Vec<u64>,
}

/// Nothing if the component has no debug information at all.
type Answer = Result<Lines, String>;

/// Has a process find the lines of these places.
fn ask(
    arguments: &[std::ffi::OsString],
    component: BorrowedFd<'_>,
    offsets: &[u64],
) -> Result<Lines, String> {
    if !helper_process::can_be_started() {
        return Err("this program becomes no helper process".to_owned());
    }
    let answer = || -> io::Result<Option<(Answer, _)>> {
        let (channel, mut process) = helper_process::start(Role::SourceLines, arguments)?;
        let asked = || {
            let offsets = offsets.iter().copied().take(FRAMES_MAX).collect();
            channel.send(&Order { offsets }, &[component])?;
            match poll_until(&mut [PollFd::new(&channel, PollFlags::IN)], Some(Instant::now() + TIME))? {
                true => channel.recv::<Answer>(),
                false => Err(io::Error::other(format!("it takes longer than {TIME:?}"))),
            }
        };
        let answer = asked();
        process.kill();
        process.wait();
        answer
    };
    match answer() {
        Ok(Some((answer, _))) => answer,
        Ok(None) => Err(format!("the process died that was to read them with {MEMORY} bytes of memory")),
        Err(error) => Err(error.to_string()),
    }
}

/// Finds lines for the host that started this process.
pub(crate) fn run(channel: Channel) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let (order, fds) = channel.recv::<Order>()?.ok_or_else(|| io::Error::other("the host has gone"))?;
    let component = fds.into_iter().next().ok_or_else(|| io::Error::other("there is no component"))?;
    let null = File::options().write(true).open("/dev/null")?;
    let component = read_sealed(component, u64::MAX)?;
    confine::confine_compiler(MEMORY + 2 * component.len() as u64);
    // What it says when it dies concerns nobody.
    rustix::stdio::dup2_stderr(null.as_fd())?;
    let found = catch_unwind(|| find(&component, &order.offsets));
    let answer = found.unwrap_or_else(|_| Err("their reader panicked".to_owned()));
    channel.send(&answer, &[])
}

/// A core module, as far as debug information is about it.
#[derive(Default)]
struct Module<'a> {
    code: Range<usize>,
    sections: HashMap<&'a str, &'a [u8]>,
}

fn find(bytes: &[u8], offsets: &[u64]) -> Answer {
    // The places are those of what was compiled.
    let encoded = if preview1::is_core_module(bytes) { preview1::to_component(bytes)? } else { None };
    let modules = modules(encoded.as_deref().unwrap_or(bytes)).map_err(|error| error.to_string())?;
    if modules.iter().all(|module| module.sections.is_empty()) {
        return Ok(Vec::new());
    }
    let mut lines = vec![Vec::new(); offsets.len()];
    for module in modules.iter().filter(|module| !module.sections.is_empty()) {
        let inside = |offset: u64| usize::try_from(offset).is_ok_and(|offset| module.code.contains(&offset));
        let mut frames = offsets.iter().zip(&mut lines).filter(|(offset, _)| inside(**offset)).peekable();
        if frames.peek().is_none() {
            continue;
        }
        // What is malformed has no lines.
        let Ok(context) = context(module) else { continue };
        for (offset, lines) in frames {
            *lines = lines_of(&context, offset - module.code.start as u64);
        }
    }
    Ok(lines)
}

/// The modules of a component, or the one that the bytes are.
fn modules(bytes: &[u8]) -> wasmparser::Result<Vec<Module<'_>>> {
    let (mut open, mut done) = (Vec::<Module>::new(), Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        match (payload?, open.last_mut()) {
            (Payload::Version { .. }, _) => open.push(Module::default()),
            (Payload::CodeSectionStart { range, .. }, Some(module)) => module.code = range,
            (Payload::CustomSection(section), Some(module)) if section.name().starts_with(".debug_") => {
                module.sections.insert(section.name(), section.data());
            }
            (Payload::End(_), _) => done.extend(open.pop()),
            _ => {}
        }
    }
    Ok(done)
}

type Context<'a> = addr2line::Context<EndianSlice<'a, LittleEndian>>;

fn context<'a>(module: &Module<'a>) -> Result<Context<'a>, gimli::Error> {
    let section = |id: gimli::SectionId| {
        let section = module.sections.get(id.name()).copied().unwrap_or_default();
        Ok::<_, gimli::Error>(EndianSlice::new(section, LittleEndian))
    };
    Context::from_dwarf(Dwarf::load(section)?)
}

/// The lines at an address, which counts from the beginning of the module's code.
fn lines_of(context: &Context<'_>, address: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    let Ok(mut frames) = context.find_frames(address).skip_all_loads() else { return lines };
    while let Ok(Some(frame)) = frames.next()
        && lines.len() < INLINED_MAX
    {
        let Some(location) = frame.location else { continue };
        let Some(file) = location.file else { continue };
        let mut place = shortened(file);
        for number in [location.line, location.column].into_iter().map_while(|number| number) {
            place += &format!(":{number}");
        }
        let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let function = name.map(|name| shortened(&format!("{:#}", rustc_demangle::demangle(&name))));
        lines.push(Line { function, place });
    }
    lines
}

fn shortened(name: &str) -> String {
    name[..name.floor_char_boundary(NAME_MAX)].to_owned()
}
