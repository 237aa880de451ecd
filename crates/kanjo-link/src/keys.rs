//! The static key of a link: X25519. Its public half is in the node's certificate.

use crate::session::LinkError;
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use zeroize::Zeroizing;

/// Bytes of a key, public or private.
pub const KEY_LEN: usize = 32;
/// The public half.
pub type PublicLinkKey = [u8; KEY_LEN];

const FILE_START: &str = "kanjo-link-key-1 ";
const FILE_LEN: usize = FILE_START.len() + 2 * KEY_LEN + 1;

/// Both halves. Wiped from memory when dropped; never shown.
#[derive(Clone)]
pub struct LinkKey {
    private: Zeroizing<[u8; KEY_LEN]>,
    public: PublicLinkKey,
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "LinkKey({})", hex::encode(self.public))
    }
}

impl LinkKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`LinkError::Random`].
    pub fn generate() -> Result<Self, LinkError> {
        let mut private = Zeroizing::new([0u8; KEY_LEN]);
        getrandom::fill(private.as_mut_slice()).map_err(|_| LinkError::Random)?;
        Self::from_private(&private)
    }

    /// The key with this private half.
    ///
    /// # Errors
    /// [`LinkError::Setup`]: never, as the library is built with X25519.
    pub fn from_private(private: &[u8; KEY_LEN]) -> Result<Self, LinkError> {
        let mut agreement =
            DefaultResolver.resolve_dh(&DHChoice::Curve25519).ok_or(LinkError::Setup)?;
        agreement.set(private);
        let public = agreement.pubkey().try_into().map_err(|_| LinkError::Setup)?;
        Ok(Self { private: Zeroizing::new(*private), public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicLinkKey {
        self.public
    }

    pub(crate) fn private(&self) -> &[u8; KEY_LEN] {
        &self.private
    }

    /// Reads the key from its file.
    ///
    /// # Errors
    /// [`LinkError::KeyFile`]: it can't be read, is not a key, or others than its owner may open
    /// it.
    pub fn read(path: &Path) -> Result<Self, LinkError> {
        let refused = |why: String| LinkError::KeyFile { path: path.display().to_string(), why };
        let file = fs::File::open(path).map_err(|error| refused(error.to_string()))?;
        let about = file.metadata().map_err(|error| refused(error.to_string()))?;
        if open_to_others(&about) {
            return Err(refused("others than its owner may open it; set its mode to 0600".into()));
        }
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_LEN + 1));
        let most = FILE_LEN as u64 + 1;
        file.take(most).read_to_end(&mut text).map_err(|error| refused(error.to_string()))?;
        let digits =
            text.strip_prefix(FILE_START.as_bytes()).and_then(|rest| rest.strip_suffix(b"\n"));
        let mut private = Zeroizing::new([0u8; KEY_LEN]);
        digits
            .and_then(|digits| hex::decode_to_slice(digits, private.as_mut_slice()).ok())
            .ok_or_else(|| refused(format!("it is not `{FILE_START}` and 64 hex digits")))?;
        Self::from_private(&private)
    }

    /// Writes the key to a new file with mode 0600, and syncs it and its directory.
    ///
    /// # Errors
    /// [`LinkError::KeyFile`]: it exists already, or can't be written.
    pub fn write_new(&self, path: &Path) -> Result<(), LinkError> {
        let refused = |error: std::io::Error| {
            let path = path.display().to_string();
            LinkError::KeyFile { path, why: error.to_string() }
        };
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_LEN));
        let mut digits = Zeroizing::new([0u8; 2 * KEY_LEN]);
        hex::encode_to_slice(*self.private, digits.as_mut_slice()).map_err(|_| LinkError::Setup)?;
        text.extend_from_slice(FILE_START.as_bytes());
        text.extend_from_slice(digits.as_slice());
        text.push(b'\n');
        let mut file = new_private_file(path).map_err(refused)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(refused)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = fs::File::open(parent.unwrap_or(Path::new("."))).map_err(refused)?;
        directory.sync_all().map_err(refused)
    }
}

/// Can only the holder of the private half agree on a secret with this key? Not so for the few
/// points of low order, zero among them: whoever was admitted with such a key could be played by
/// anybody.
#[must_use]
pub fn is_usable(public: &PublicLinkKey) -> bool {
    let Some(mut agreement) = DefaultResolver.resolve_dh(&DHChoice::Curve25519) else {
        return false;
    };
    // Any private key does: clamped, it is a multiple of the cofactor.
    agreement.set(&[1; KEY_LEN]);
    let mut secret = [0u8; KEY_LEN];
    agreement.dh(public, &mut secret).is_ok() && secret != [0; KEY_LEN]
}

#[cfg(unix)]
fn open_to_others(about: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    about.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn open_to_others(_: &fs::Metadata) -> bool {
    false
}

fn new_private_file(path: &Path) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_read_back_from_its_file_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("link.key");
        let key = LinkKey::generate().unwrap();
        key.write_new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(LinkKey::read(&path).unwrap().public(), key.public());
        assert!(key.write_new(&path).is_err(), "a key is never overwritten");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(LinkKey::read(&path).unwrap_err().to_string().contains("0600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut text = fs::read(&path).unwrap();
        text.push(b'\n');
        fs::write(&path, &text).unwrap();
        assert!(LinkKey::read(&path).is_err(), "trailing bytes");
    }

    #[test]
    fn keys_of_low_order_are_not_usable() {
        let mut one = [0; 32];
        one[0] = 1;
        // u = p − 1, p, and a point of order 8 (RFC 7748's curve, little-endian).
        let near = |first: u8| {
            let mut key = [0xff; 32];
            (key[0], key[31]) = (first, 0x7f);
            key
        };
        let eighth: [u8; 32] = [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ];
        for key in [[0; 32], one, near(0xec), near(0xed), eighth] {
            assert!(!is_usable(&key), "{}", hex::encode(key));
        }
        assert!(is_usable(&LinkKey::generate().unwrap().public()));
    }

    #[test]
    fn the_public_half_is_that_of_rfc_7748() {
        // Section 6.1: Alice's key pair.
        let alice: [u8; 32] = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2,
            0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5,
            0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let key = LinkKey::from_private(&alice).unwrap();
        assert_eq!(
            hex::encode(key.public()),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
        );
    }
}
