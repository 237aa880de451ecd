//! Bytes of commands and responses: writing without surprises, reading within bounds.

use super::TpmError;

/// Most bytes of a response, and of a command.
pub const RESPONSE_MAX: usize = 4_096;
/// Bytes before the handles.
pub const HEADER_LEN: usize = 10;

const TAG_NO_SESSIONS: u16 = 0x8001;
const TAG_SESSIONS: u16 = 0x8002;
/// TPM_RS_PW: the session in which the password itself is sent.
const PASSWORD_SESSION: u32 = 0x4000_0009;

/// Writes a command's fields.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One byte.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Two bytes.
    #[must_use]
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Four bytes.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A TPM2B: length, then bytes. Longer ones than 65,535 bytes are not written by this program.
    #[must_use]
    pub fn sized(self, bytes: &[u8]) -> Self {
        assert!(bytes.len() <= RESPONSE_MAX, "sized fields of a command are short");
        self.u16(bytes.len() as u16).raw(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A command: its code, handles, whether the first of them is authorised, parameters.
#[must_use]
pub fn command(code: u32, handles: &[u32], authorised: bool, parameters: &[u8]) -> Vec<u8> {
    let mut body = Writer::new();
    for handle in handles {
        body = body.u32(*handle);
    }
    if authorised {
        // handle, no nonce, no attributes, empty password
        body = body.u32(9).u32(PASSWORD_SESSION).u16(0).u8(0).u16(0);
    }
    let body = body.raw(parameters).into_bytes();
    let tag = if authorised { TAG_SESSIONS } else { TAG_NO_SESSIONS };
    let size = HEADER_LEN + body.len();
    assert!(size <= RESPONSE_MAX, "commands of this program are short");
    Writer::new().u16(tag).u32(size as u32).u32(code).raw(&body).into_bytes()
}

/// The size that a response's first ten bytes announce.
///
/// # Errors
/// When it is below the header or above [`RESPONSE_MAX`].
pub fn announced(header: &[u8; HEADER_LEN]) -> Result<usize, TpmError> {
    let mut reader = Reader::new(header);
    reader.u16()?;
    let size = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    if (HEADER_LEN..=RESPONSE_MAX).contains(&size) {
        Ok(size)
    } else {
        Err(TpmError::Malformed("its size is out of bounds"))
    }
}

/// A response, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    /// TPM_RC; 0 is success.
    pub code: u32,
    /// The handle, when the command makes one.
    pub handle: Option<u32>,
    /// Parameters.
    pub parameters: &'a [u8],
}

/// Takes a response apart. `makes_handle`: the command answers with a handle.
///
/// # Errors
/// [`TpmError::Malformed`].
pub fn response(bytes: &[u8], makes_handle: bool) -> Result<Response<'_>, TpmError> {
    let mut reader = Reader::new(bytes);
    let tag = reader.u16()?;
    if usize::try_from(reader.u32()?).ok() != Some(bytes.len()) {
        return Err(TpmError::Malformed("its size is not what it says"));
    }
    let code = reader.u32()?;
    if code != 0 {
        return Ok(Response { code, handle: None, parameters: &[] });
    }
    let handle = if makes_handle { Some(reader.u32()?) } else { None };
    let parameters = match tag {
        TAG_NO_SESSIONS => reader.rest(),
        TAG_SESSIONS => {
            let size = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
            reader.take(size)?
        }
        _ => return Err(TpmError::Malformed("an unknown tag")),
    };
    Ok(Response { code, handle, parameters })
}

/// Reads fields within bounds.
#[derive(Debug, Clone)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When there are fewer; so for all that follow.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], TpmError> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(TpmError::Malformed("it is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TpmError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| TpmError::Malformed("it is cut short"))
    }

    /// One byte.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn u8(&mut self) -> Result<u8, TpmError> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn u16(&mut self) -> Result<u16, TpmError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn u32(&mut self) -> Result<u32, TpmError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn u64(&mut self) -> Result<u64, TpmError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A TPM2B.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn sized(&mut self) -> Result<&'a [u8], TpmError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// When something is.
    pub fn end(&self) -> Result<(), TpmError> {
        if self.0.is_empty() { Ok(()) } else { Err(TpmError::Malformed("something follows it")) }
    }
}
