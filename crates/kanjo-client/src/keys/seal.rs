//! Encryption of a seed under a passphrase: argon2id, then XChaCha20-Poly1305.

use super::{Cost, KeyError};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Most memory a file may ask for: 1 GiB.
const MEMORY_KIB_MAX: u32 = 1 << 20;
/// Most passes a file may ask for.
const PASSES_MAX: u32 = 64;
/// Most lanes a file may ask for.
const LANES_MAX: u32 = 16;

/// An encrypted seed with everything needed to open it but the passphrase.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealed {
    kdf: Kdf,
    aead: Aeads,
    #[serde(with = "hex::serde")]
    nonce: [u8; 24],
    #[serde(with = "hex::serde")]
    ciphertext: [u8; 48],
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Aeads {
    #[serde(rename = "xchacha20poly1305")]
    XChaCha20Poly1305,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Kdfs {
    #[serde(rename = "argon2id")]
    Argon2id,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    name: Kdfs,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    #[serde(with = "hex::serde")]
    salt: [u8; 16],
}

impl Kdf {
    fn derive(&self, passphrase: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        if self.memory_kib > MEMORY_KIB_MAX || self.passes > PASSES_MAX || self.lanes > LANES_MAX {
            return Err(KeyError::Derivation(format!(
                "the file asks for {} KiB, {} passes, {} lanes; at most {MEMORY_KIB_MAX} KiB, \
                 {PASSES_MAX} passes and {LANES_MAX} lanes are done",
                self.memory_kib, self.passes, self.lanes
            )));
        }
        let failed = |error: argon2::Error| KeyError::Derivation(error.to_string());
        let Kdfs::Argon2id = self.name;
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(failed)?;
        let mut key = Zeroizing::new([0u8; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, &self.salt, key.as_mut_slice())
            .map_err(failed)?;
        Ok(key)
    }
}

fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::NoRandomness(error.to_string()))?;
    Ok(bytes)
}

pub(super) fn seal(
    seed: &Zeroizing<[u8; 32]>,
    passphrase: &[u8],
    cost: Cost,
    authenticated: &[u8],
) -> Result<Sealed, KeyError> {
    let Cost { memory_kib, passes, lanes } = cost;
    let kdf = Kdf { name: Kdfs::Argon2id, memory_kib, passes, lanes, salt: random()? };
    let nonce = random::<24>()?;
    let key = kdf.derive(passphrase)?;
    let payload = Payload { msg: seed.as_slice(), aad: authenticated };
    let ciphertext = XChaCha20Poly1305::new((&*key).into())
        .encrypt((&nonce).into(), payload)
        .ok()
        .and_then(|bytes| <[u8; 48]>::try_from(bytes).ok())
        .ok_or_else(|| KeyError::Derivation("encryption failed".to_owned()))?;
    Ok(Sealed { kdf, aead: Aeads::XChaCha20Poly1305, nonce, ciphertext })
}

/// `None` when the passphrase or the bytes are wrong.
pub(super) fn open(
    sealed: &Sealed,
    passphrase: &[u8],
    authenticated: &[u8],
) -> Result<Option<Zeroizing<[u8; 32]>>, KeyError> {
    let key = sealed.kdf.derive(passphrase)?;
    let Aeads::XChaCha20Poly1305 = sealed.aead;
    let payload = Payload { msg: &sealed.ciphertext, aad: authenticated };
    let opened = XChaCha20Poly1305::new((&*key).into())
        .decrypt((&sealed.nonce).into(), payload)
        .ok()
        .map(Zeroizing::new);
    Ok(opened.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok()).map(Zeroizing::new))
}
