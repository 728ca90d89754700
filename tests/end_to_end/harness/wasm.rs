//! Parts of WebAssembly's binary format.

use std::ops::Range;

/// The section of a component that is a core module, and the one that makes instances of them.
pub const CORE_MODULE: u8 = 1;
const CORE_INSTANCES: u8 = 2;

/// A section of a module or a component.
pub fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], sized(content)].concat()
}

/// After its length.
pub fn sized(content: &[u8]) -> Vec<u8> {
    [unsigned(content.len()), content.to_vec()].concat()
}

/// A number in LEB128.
pub fn unsigned(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The sections of a module or a component: what each is, where it lies as a whole, and where its content lies.
pub fn sections(bytes: &[u8]) -> Vec<(u8, Range<usize>, Range<usize>)> {
    const HEADER_LEN: usize = 8;
    let (mut sections, mut at) = (Vec::new(), HEADER_LEN);
    while at < bytes.len() {
        let start = at;
        let mut length = 0;
        for shift in (0..).step_by(7) {
            at += 1;
            length |= usize::from(bytes[at] & 0x7f) << shift;
            if bytes[at] & 0x80 == 0 {
                break;
            }
        }
        let content = at + 1..at + 1 + length;
        at = content.end;
        sections.push((bytes[start], start..at, content));
    }
    sections
}

/// A component that does the same and has so many more core instances, of a module with nothing in it.
pub fn with_instances(component: Vec<u8>, count: usize) -> Vec<u8> {
    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";
    let modules = sections(&component).iter().filter(|(id, ..)| *id == CORE_MODULE).count();
    let instance = [&[0], &unsigned(modules)[..], &[0]].concat();
    let instances = [unsigned(count), instance.repeat(count)].concat();
    [component, section(CORE_MODULE, EMPTY), section(CORE_INSTANCES, &instances)].concat()
}
