//! Parts of WebAssembly's binary format.

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
