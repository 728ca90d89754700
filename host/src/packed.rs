//! Values on their way to another process, by messages that have room for little.

use std::io;
use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sandbox::{read_sealed, sealed_file};

/// A value on its way to another process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Packed {
    Here(Vec<u8>),
    /// In a sealed file beside it: it is more than a message has room for.
    Beside,
}

/// The most that a message has room for beside what else is in it.
const HERE_MAX: usize = 64 << 10;

impl Packed {
    /// A value, and the file that has to go beside it.
    pub(crate) fn pack(value: &impl Serialize) -> io::Result<(Self, Option<OwnedFd>)> {
        let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
        match bytes.len() <= HERE_MAX {
            true => Ok((Self::Here(bytes), None)),
            false => Ok((Self::Beside, Some(sealed_file("state", &bytes)?))),
        }
    }

    /// The value, if it is no more than `max` bytes.
    pub(crate) fn unpack<T: DeserializeOwned>(self, file: Option<OwnedFd>, max: u64) -> io::Result<T> {
        let bytes = match (self, file) {
            (Self::Here(bytes), _) => bytes,
            (Self::Beside, Some(file)) => read_sealed(file, max)?,
            (Self::Beside, None) => return Err(io::Error::other("there is no file beside it")),
        };
        match postcard::take_from_bytes(&bytes).map_err(io::Error::other)? {
            (value, []) => Ok(value),
            _ => Err(io::Error::other("more than a value has come")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::{Answer, Operation, Outcome};

    #[test]
    fn what_is_packed_is_unpacked() {
        for length in [0, 100, HERE_MAX, HERE_MAX + 1, 1 << 20] {
            let asked = ("counts".to_owned(), Operation::Set("a".to_owned(), vec![7; length]));
            let (packed, file) = Packed::pack(&asked).unwrap();
            assert_eq!(file.is_some(), length >= HERE_MAX, "{length}");
            assert_eq!(packed.unpack::<(String, Operation)>(file, 2 << 20).unwrap(), asked);
        }
    }

    /// A child that was broken out of says what it likes.
    #[test]
    fn what_is_no_operation_is_refused() {
        let refused = |packed: Packed, file| packed.unpack::<(String, Operation)>(file, 1000).is_err();
        assert!(refused(Packed::Beside, None));
        assert!(refused(Packed::Here(Vec::new()), None));
        for byte in 0..=255 {
            // Lengths that nothing follows, and kinds that there are not.
            assert!(refused(Packed::Here(vec![byte; 3]), None), "{byte}");
        }
        // It says that it has 2^60 entries.
        let many = [&[1, b'a', 9][..], &[0xff; 8], &[0x0f]].concat();
        assert!(refused(Packed::Here(many), None));
        let large = sealed_file("large", &[0; 1001]).unwrap();
        assert!(refused(Packed::Beside, Some(large)));
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        assert!(refused(Packed::Beside, Some(pipe)));
    }

    #[test]
    fn an_answer_is_what_was_answered() {
        let outcome: Outcome = Ok(Answer::Value(Some(vec![1, 2, 3])));
        let (packed, file) = Packed::pack(&outcome).unwrap();
        assert_eq!(packed.unpack::<Outcome>(file, 100).unwrap(), outcome);
    }
}
