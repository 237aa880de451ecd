//! A TPM in use: started, with an attestation key and a counter.

use super::command;
use super::quote::{AttestationKey, PCR_COUNT, Pcrs, Quote};
use super::transport::{Address, Transport};
use super::wire::{Reader, response};
use super::{TpmError, wire};
use kanjo_types::Hash;
use std::thread::sleep;
use std::time::Duration;

const RC_INITIALIZED: u32 = 0x100;
const RC_FAILURE: u32 = 0x101;
/// TPM_RC_HANDLE for the first handle: there is no such NV index.
const RC_NO_INDEX: u32 = 0x18b;
/// TPM_RC_NV_UNINITIALIZED: the counter has never counted.
const RC_NEVER_COUNTED: u32 = 0x14a;
/// Yielded, testing, retry; and TPM_RC_NV_RATE: the chip protects its memory from wear.
const RC_LATER: [u32; 4] = [0x908, 0x90a, 0x922, 0x920];

const TRIES_MAX: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// See the module.
pub struct Tpm {
    transport: Box<dyn Transport>,
    /// A response may still be under way: the next one read could be that of another command.
    broken: bool,
}

impl Tpm {
    /// Connects to a TPM and starts it if need be.
    ///
    /// # Errors
    /// When it can't be reached or doesn't start.
    pub fn open(address: &Address) -> Result<Self, TpmError> {
        Self::start(address.connect()?)
    }

    /// Starts the TPM behind `transport` if need be.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start(transport: Box<dyn Transport>) -> Result<Self, TpmError> {
        let mut tpm = Self { transport, broken: false };
        let mut code = tpm.startup()?;
        if code == RC_FAILURE && tpm.transport.power_on()? {
            code = tpm.startup()?;
        }
        if code != 0 && code != RC_INITIALIZED {
            return Err(TpmError::Refused { command: "Startup", code });
        }
        if code == 0 {
            tpm.call("SelfTest", &command::self_test())?;
        }
        Ok(tpm)
    }

    fn startup(&mut self) -> Result<u32, TpmError> {
        let answer = self.transact(&command::startup())?;
        Ok(response(&answer, false)?.code)
    }

    fn transact(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        if self.broken {
            return Err(TpmError::Io(std::io::ErrorKind::NotConnected.into()));
        }
        let answer = self.transport.transact(command);
        self.broken = answer.is_err();
        answer
    }

    /// Sends a command; answers with the handle made, if any, and the parameters.
    fn send(
        &mut self,
        name: &'static str,
        command: &[u8],
        makes_handle: bool,
    ) -> Result<(Option<u32>, Vec<u8>), TpmError> {
        for _ in 0..TRIES_MAX {
            let answer = self.transact(command)?;
            let wire::Response { code, handle, parameters } = response(&answer, makes_handle)?;
            if code == 0 {
                return Ok((handle, parameters.to_vec()));
            }
            if !RC_LATER.contains(&code) {
                return Err(TpmError::Refused { command: name, code });
            }
            sleep(PAUSE);
        }
        Err(TpmError::Busy(name))
    }

    fn call(&mut self, name: &'static str, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        Ok(self.send(name, command, false)?.1)
    }

    /// Makes the attestation key and loads it.
    ///
    /// # Errors
    /// When the TPM refuses, or makes another key than asked for.
    pub fn attestation_key(&mut self) -> Result<(u32, AttestationKey), TpmError> {
        let (handle, parameters) =
            self.send("CreatePrimary", &command::create_attestation_key(), true)?;
        let handle = handle.ok_or(TpmError::Malformed("no handle"))?;
        let key = command::read_attestation_key(&mut Reader::new(&parameters))?;
        Ok((handle, key))
    }

    /// The public half of a loaded key.
    ///
    /// # Errors
    /// When the TPM refuses, or it is no attestation key.
    pub fn read_public(&mut self, handle: u32) -> Result<AttestationKey, TpmError> {
        let parameters = self.call("ReadPublic", &command::read_public(handle))?;
        command::read_attestation_key(&mut Reader::new(&parameters))
    }

    /// Unloads a key.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn flush(&mut self, handle: u32) -> Result<(), TpmError> {
        self.call("FlushContext", &command::flush(handle)).map(|_| ())
    }

    /// Values of registers; bit n of `registers` is register n.
    ///
    /// # Errors
    /// When the TPM refuses or leaves some out.
    pub fn pcrs(&mut self, registers: u32) -> Result<Pcrs, TpmError> {
        let mut values = Pcrs::new();
        let mut missing = registers & ((1 << PCR_COUNT) - 1);
        while missing != 0 {
            let parameters = self.call("PCR_Read", &command::pcr_read(missing))?;
            let came = command::read_pcrs(&parameters, &mut values)?;
            if came & missing == 0 || came & !missing != 0 {
                return Err(TpmError::Malformed("other registers than asked for"));
            }
            missing &= !came;
        }
        Ok(values)
    }

    /// Extends a register.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn extend(&mut self, register: u8, digest: &Hash) -> Result<(), TpmError> {
        self.call("PCR_Extend", &command::pcr_extend(register, digest)).map(|_| ())
    }

    /// Quotes registers with a loaded key.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn quote(
        &mut self,
        key: u32,
        qualifying: &Hash,
        registers: u32,
    ) -> Result<Quote, TpmError> {
        let parameters = self.call("Quote", &command::quote(key, qualifying, registers))?;
        command::read_quote(&parameters)
    }

    /// Makes the counter if it is not there, counts it the first time, and says its count. A
    /// counter that was taken out and is made again begins above all that there ever were.
    ///
    /// # Errors
    /// When the index is used for something else, or the TPM refuses.
    pub fn open_counter(&mut self, index: u32) -> Result<u64, TpmError> {
        match self.call("NV_ReadPublic", &command::nv_read_public(index)) {
            Ok(parameters) => {
                let (attributes, size) = command::read_nv_public(&parameters)?;
                let wanted = (command::COUNTER_ATTRIBUTES, command::COUNTER_LEN);
                if (attributes & !command::NV_WRITTEN, size) != wanted {
                    return Err(TpmError::NotACounter { index });
                }
            }
            Err(TpmError::Refused { code: RC_NO_INDEX, .. }) => {
                self.call("NV_DefineSpace", &command::nv_define_counter(index))?;
            }
            Err(error) => return Err(error),
        }
        match self.read_counter(index) {
            Err(TpmError::Refused { code: RC_NEVER_COUNTED, .. }) => self.increment(index),
            other => other,
        }
    }

    /// Reads the counter.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn read_counter(&mut self, index: u32) -> Result<u64, TpmError> {
        command::read_counter(&self.call("NV_Read", &command::nv_read_counter(index))?)
    }

    /// Counts one up, and reads.
    ///
    /// # Errors
    /// When the TPM refuses; whether it has counted is then unknown.
    pub fn increment(&mut self, index: u32) -> Result<u64, TpmError> {
        self.call("NV_Increment", &command::nv_increment(index))?;
        self.read_counter(index)
    }
}
