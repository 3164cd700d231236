//! Big-endian structures as the TPM marshals them, read without copying.

use super::{TpmRefusal, malformed};

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// `what` names the structure in refusals.
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], TpmRefusal> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(self.fault())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TpmRefusal> {
        self.take(N)?.try_into().map_err(|_| self.fault())
    }

    pub(super) fn u8(&mut self) -> Result<u8, TpmRefusal> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, TpmRefusal> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, TpmRefusal> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, TpmRefusal> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A TPM2B: its size, then so many bytes; more than `max` is refused.
    pub(super) fn sized(&mut self, max: usize) -> Result<&'a [u8], TpmRefusal> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(self.fault());
        }
        self.take(length)
    }

    /// Nothing may follow.
    pub(super) fn finish(self) -> Result<(), TpmRefusal> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.fault())
        }
    }

    pub(super) fn fault(&self) -> TpmRefusal {
        malformed(self.what)
    }
}

/// A TPM2B. What is written is never longer than what was read or made here, far below 64 KiB.
pub(super) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes.iter().take(usize::from(length)));
}
