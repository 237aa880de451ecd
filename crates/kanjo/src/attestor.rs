//! What vouches for the sentinel of a new node: options of the commands that make one.
//!
//! A value with `NAME=` in front is for the node of that name, one without is for all.

use crate::fail::{Done, Fail};
use clap::Args;
use kanjo_sentinel::attestor::{AttestorKind, tpm2};
use kanjo_sentinel::directory::{AttestorSettings, Settings};
use kanjo_sentinel::tpm::Address;
use kanjo_sentinel::tpm::quote::parse_registers;
use std::num::NonZeroU64;
use std::path::Path;

/// Where Linux has the machine's TPM.
const DEVICE: &str = "device:/dev/tpmrm0";

/// Options about attestors.
#[derive(Debug, Clone, Args)]
pub struct AttestorArgs {
    /// What vouches for a sentinel: software (proves nothing against whoever owns the machine) or
    /// tpm2. Repeat it with names for several nodes. [default: software]
    #[arg(long = "attestor", value_name = "[NAME=]KIND")]
    kinds: Vec<String>,
    /// The TPM of nodes with tpm2: device:PATH, swtpm:HOST:PORT or swtpm:HOST:PORT:CONTROL_PORT;
    /// the node's own machine must be this one. [default: device:/dev/tpmrm0]
    #[arg(long = "tpm", value_name = "[NAME=]ADDRESS")]
    tpms: Vec<String>,
    /// Registers of the TPM that are quoted, and whose values now are what the ledger will expect.
    #[arg(long, value_name = "LIST", default_value = "0,2,4,7")]
    pcrs: String,
    /// NV index of the TPM's counter; each further node of the command takes the next.
    #[arg(long, value_name = "NUMBER", default_value_t = tpm2::COUNTER_INDEX)]
    counter_index: u32,
}

/// The attestor of one new node.
#[derive(Debug, Clone)]
pub struct AttestorChoice {
    /// Settings but for a software attestor's directory.
    tpm: Option<(String, u32, u32)>,
}

impl AttestorChoice {
    /// Files beside the sentinel's own.
    pub const SOFTWARE: Self = Self { tpm: None };

    /// Settings of a sentinel in `dir`.
    pub fn settings(&self, dir: &Path) -> Settings {
        let (attestor, kind) = match &self.tpm {
            None => {
                (AttestorSettings::Software { dir: dir.join("attestor") }, AttestorKind::Software)
            }
            Some((tpm, counter_index, registers)) => {
                let (tpm, counter_index, registers) = (tpm.clone(), *counter_index, *registers);
                (AttestorSettings::Tpm2 { tpm, counter_index, registers }, AttestorKind::Tpm2)
            }
        };
        let heights = NonZeroU64::new(kind.default_epoch_heights());
        Settings { attestor, epoch_heights: heights.unwrap_or(NonZeroU64::MIN) }
    }
}

/// The last value for this name, or else for all.
fn value_for<'a>(values: &'a [String], name: &str) -> Option<&'a str> {
    let own = |value: &'a String| value.strip_prefix(name)?.strip_prefix('=');
    let for_all = |value: &&String| !value.contains('=');
    let last = values.iter().filter_map(own).next_back();
    last.or_else(|| values.iter().rfind(for_all).map(String::as_str))
}

impl AttestorArgs {
    /// What each of these nodes gets.
    pub fn choices(&self, names: &[&str]) -> Done<Vec<AttestorChoice>> {
        for value in self.kinds.iter().chain(&self.tpms) {
            if let Some((name, _)) = value.split_once('=')
                && !names.contains(&name)
            {
                return Err(Fail::usage(format!("'{value}': no node is called '{name}'")));
            }
        }
        (0u32..).zip(names).map(|(place, name)| self.choice(name, place)).collect()
    }

    fn choice(&self, name: &str, place: u32) -> Done<AttestorChoice> {
        match value_for(&self.kinds, name) {
            None | Some("software") => Ok(AttestorChoice::SOFTWARE),
            Some("tpm2") => {
                let usage = |error: kanjo_sentinel::tpm::TpmError| Fail::usage(error.to_string());
                let tpm = value_for(&self.tpms, name).unwrap_or(DEVICE).to_owned();
                tpm.parse::<Address>().map_err(usage)?;
                let registers = parse_registers(&self.pcrs).map_err(usage)?;
                let index = self.counter_index.saturating_add(place);
                Ok(AttestorChoice { tpm: Some((tpm, index, registers)) })
            }
            Some(other) => {
                Err(Fail::usage(format!("'{other}' is no attestor; there are software and tpm2")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(kinds: &[&str], tpms: &[&str]) -> AttestorArgs {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        AttestorArgs {
            kinds: owned(kinds),
            tpms: owned(tpms),
            pcrs: "0,7".to_owned(),
            counter_index: 10,
        }
    }

    #[test]
    fn a_value_with_a_name_goes_before_one_for_all() {
        let args = args(&["tpm2", "b=software"], &["device:/dev/one", "c=swtpm:127.0.0.1:1"]);
        let choices = args.choices(&["a", "b", "c"]).expect("understood");
        let tpms: Vec<_> = choices.into_iter().map(|choice| choice.tpm).collect();
        let tpm = |address: &str, index| Some((address.to_owned(), index, 0x81));
        assert_eq!(tpms, [tpm("device:/dev/one", 10), None, tpm("swtpm:127.0.0.1:1", 12)]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let wrong: [(&[&str], &[&str]); 4] = [
            (&["tpm3"], &[]),
            (&["x=tpm2"], &[]),
            (&["tpm2"], &["usb:1"]),
            (&[], &["x=device:/d"]),
        ];
        for (kinds, tpms) in wrong {
            assert!(args(kinds, tpms).choices(&["a"]).is_err(), "{kinds:?} {tpms:?}");
        }
    }
}
