//! Little-endian reading and writing of what comes from outside, without indexing.

use bytes::{Buf, Bytes};

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {why}")]
pub struct Malformed {
    /// What was read.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// A cursor over bytes that nobody has checked yet; what it takes shares their memory.
pub(crate) struct Input {
    what: &'static str,
    rest: Bytes,
}

impl Input {
    pub(crate) fn new(what: &'static str, bytes: Bytes) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn error(&self, why: impl Into<String>) -> Malformed {
        Malformed { what: self.what, why: why.into() }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if self.rest.len() < length {
            let left = self.rest.len();
            return Err(self.error(format!("{length} bytes expected, {left} are left")));
        }
        Ok(self.rest.split_to(length))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(&self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?.get_u8())
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(self.take(2)?.get_u16_le())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(self.take(4)?.get_u32_le())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(self.take(8)?.get_u64_le())
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(format!("{other} where 0 or 1 stands"))),
        }
    }

    pub(crate) fn rest(self) -> Bytes {
        self.rest
    }

    pub(crate) fn end(&self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.error(format!("{left} bytes left over"))),
        }
    }
}
