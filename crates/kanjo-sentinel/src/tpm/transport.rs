//! How bytes get to a TPM: over the socket of a simulator (swtpm), or through a device file.

use super::TpmError;
use super::wire::{HEADER_LEN, RESPONSE_MAX, announced};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Longest wait for a TPM. Making a key takes a real one seconds.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// swtpm's control command that powers the TPM on.
const CONTROL_INIT: u32 = 2;

/// Sends a command, brings its response.
pub trait Transport: Send {
    /// One command, one response.
    ///
    /// # Errors
    /// When the connection breaks or the response announces a wrong size.
    fn transact(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError>;

    /// Powers the TPM on, where that is possible. True when it was done.
    ///
    /// # Errors
    /// When that fails.
    fn power_on(&mut self) -> Result<bool, TpmError> {
        Ok(false)
    }
}

/// Where a TPM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// swtpm in socket mode.
    Swtpm {
        /// Host and port of the data connection.
        data: String,
        /// Host and port of the control connection, to power the TPM on.
        control: Option<String>,
    },
    /// A device file. Take the resource manager's, `/dev/tpmrm0`, so that others can use the TPM,
    /// too. Not tested on a chip.
    Device(PathBuf),
}

impl FromStr for Address {
    type Err = TpmError;

    /// `swtpm:HOST:PORT`, `swtpm:HOST:PORT:CONTROL_PORT`, `device:PATH`.
    fn from_str(text: &str) -> Result<Self, TpmError> {
        let refused = || TpmError::Address(text.chars().take(200).collect());
        match text.split_once(':') {
            Some(("device", path)) if !path.is_empty() => Ok(Self::Device(path.into())),
            Some(("swtpm", rest)) => {
                let parts: Vec<&str> = rest.split(':').collect();
                let is_port = |port: &&str| port.parse::<u16>().is_ok();
                match parts.as_slice() {
                    [host, port] if is_port(port) => {
                        Ok(Self::Swtpm { data: format!("{host}:{port}"), control: None })
                    }
                    [host, port, control] if is_port(port) && is_port(control) => {
                        let control = Some(format!("{host}:{control}"));
                        Ok(Self::Swtpm { data: format!("{host}:{port}"), control })
                    }
                    _ => Err(refused()),
                }
            }
            _ => Err(refused()),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(path) => write!(formatter, "device:{}", path.display()),
            Self::Swtpm { data, control } => {
                let port = control.as_deref().and_then(|control| control.rsplit_once(':'));
                let port = port.map_or_else(String::new, |(_, port)| format!(":{port}"));
                write!(formatter, "swtpm:{data}{port}")
            }
        }
    }
}

impl Address {
    /// Connects.
    ///
    /// # Errors
    /// [`TpmError::Unreachable`].
    pub fn connect(&self) -> Result<Box<dyn Transport>, TpmError> {
        let unreachable = |source| TpmError::Unreachable { address: self.to_string(), source };
        match self {
            Self::Swtpm { data, control } => {
                let data = connect(data).map_err(unreachable)?;
                Ok(Box::new(Swtpm { data, control: control.clone() }))
            }
            Self::Device(path) => {
                let file = OpenOptions::new().read(true).write(true).open(path);
                Ok(Box::new(Device { file: file.map_err(unreachable)? }))
            }
        }
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

struct Swtpm {
    data: TcpStream,
    control: Option<String>,
}

impl Transport for Swtpm {
    fn transact(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        self.data.write_all(command)?;
        let mut header = [0; HEADER_LEN];
        self.data.read_exact(&mut header)?;
        let mut response = header.to_vec();
        response.resize(announced(&header)?, 0);
        self.data.read_exact(response.get_mut(HEADER_LEN..).unwrap_or_default())?;
        Ok(response)
    }

    fn power_on(&mut self) -> Result<bool, TpmError> {
        let Some(address) = &self.control else { return Ok(false) };
        let unreachable = |source| TpmError::Unreachable { address: address.clone(), source };
        let mut control = connect(address).map_err(unreachable)?;
        let request = [CONTROL_INIT.to_be_bytes(), [0; 4]].concat();
        control.write_all(&request)?;
        let mut result = [0; 4];
        control.read_exact(&mut result)?;
        match u32::from_be_bytes(result) {
            0 => Ok(true),
            code => Err(TpmError::Refused { command: "powering on", code }),
        }
    }
}

/// A device takes a command with one write and gives its response with one read.
struct Device {
    file: File,
}

impl Transport for Device {
    fn transact(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        self.file.write_all(command)?;
        let mut response = vec![0; RESPONSE_MAX];
        let length = self.file.read(&mut response)?;
        response.truncate(length);
        Ok(response)
    }
}
