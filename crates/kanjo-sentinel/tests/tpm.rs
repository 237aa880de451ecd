//! The TPM client and the tpm2 attestor against a real swtpm, in socket mode.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{certificate, chain, hash, vote};
use kanjo_sentinel::attestor::tpm2::{COUNTER_INDEX, Tpm2Attestor};
use kanjo_sentinel::attestor::{Attestation, Attestor, AttestorKind, qualifying, session_hash};
use kanjo_sentinel::directory::{self, AttestorSettings, DirectoryError, Settings};
use kanjo_sentinel::evidence::{self, EvidenceError, Trust};
use kanjo_sentinel::guard::GuardError;
use kanjo_sentinel::rules::Refusal;
use kanjo_sentinel::signing::Seen;
use kanjo_sentinel::tpm::command;
use kanjo_sentinel::tpm::{Address, Quote, QuoteError, Tpm, TpmError, verify_quote};
use kanjo_testing::Swtpm;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

/// The debug register: it can be extended without disturbing what was measured at start.
const REGISTERS: u32 = 1 << 16 | 1 << 7;

fn quote(attestor: &mut Tpm2Attestor, key: &[u8; 32], nonce: &[u8]) -> Quote {
    match attestor.attest(&qualifying(&session_hash(key), nonce)).unwrap() {
        Attestation::Tpm2(quote) => quote,
        Attestation::Software { .. } => panic!("not a quote"),
    }
}

#[test]
fn a_quote_holds_for_its_nonce_key_and_registers_only() {
    let state = tempfile::tempdir().unwrap();
    let swtpm = Swtpm::start(state.path()).unwrap();
    let mut attestor = Tpm2Attestor::open(&address(&swtpm), COUNTER_INDEX, REGISTERS).unwrap();
    assert_eq!(attestor.kind(), AttestorKind::Tpm2);
    let (key, pcrs) = (attestor.attestation_key(), attestor.pcrs().unwrap());
    assert_eq!(pcrs.keys().copied().collect::<Vec<_>>(), [7, 16]);
    let (session, other) = (session_hash(&[1; 32]), session_hash(&[2; 32]));
    let first = quote(&mut attestor, &[1; 32], b"nonce one");
    let check = |quote: &Quote, bound, pcrs: &_| verify_quote(quote, &bound, pcrs, &key);

    assert_eq!(check(&first, qualifying(&session, b"nonce one"), &pcrs), Ok(()));
    let wrong = Err(QuoteError::Qualifying);
    assert_eq!(check(&first, qualifying(&session, b"nonce two"), &pcrs), wrong, "replayed");
    assert_eq!(check(&first, qualifying(&other, b"nonce one"), &pcrs), wrong, "other session key");

    let mut altered = pcrs.clone();
    altered.insert(16, hash(9));
    let bound = qualifying(&session, b"nonce one");
    assert_eq!(check(&first, bound, &altered), Err(QuoteError::Values));
    altered.remove(&16);
    assert!(matches!(check(&first, bound, &altered), Err(QuoteError::Registers { .. })));
    for place in 0..first.attest.len() {
        let mut changed = first.clone();
        changed.attest[place] ^= 1;
        assert!(check(&changed, bound, &pcrs).is_err(), "byte {place}");
    }
    let mut changed = first.clone();
    changed.s[31] ^= 1;
    assert_eq!(check(&changed, bound, &pcrs), Err(QuoteError::Signature));
}

#[test]
fn a_quote_shows_that_a_register_was_extended() {
    let state = tempfile::tempdir().unwrap();
    let swtpm = Swtpm::start(state.path()).unwrap();
    let before = {
        let mut attestor = Tpm2Attestor::open(&address(&swtpm), COUNTER_INDEX, REGISTERS).unwrap();
        attestor.pcrs().unwrap()
    };
    // swtpm takes one connection after the other.
    let mut tpm = Tpm::open(&address(&swtpm)).unwrap();
    tpm.extend(16, &hash(1)).unwrap();
    drop(tpm);
    let mut attestor = Tpm2Attestor::open(&address(&swtpm), COUNTER_INDEX, REGISTERS).unwrap();
    let after = attestor.pcrs().unwrap();
    assert_ne!(before[&16], after[&16]);
    assert_eq!(before[&7], after[&7]);
    let key = attestor.attestation_key();
    let quote = quote(&mut attestor, &[1; 32], b"nonce one");
    let bound = qualifying(&session_hash(&[1; 32]), b"nonce one");
    assert_eq!(verify_quote(&quote, &bound, &after, &key), Ok(()));
    assert_eq!(verify_quote(&quote, &bound, &before, &key), Err(QuoteError::Values));
}

#[test]
fn all_registers_are_read_although_a_tpm_gives_eight_at_a_time() {
    let state = tempfile::tempdir().unwrap();
    let swtpm = Swtpm::start(state.path()).unwrap();
    let mut tpm = Tpm::open(&address(&swtpm)).unwrap();
    let all = tpm.pcrs(0x00ff_ffff).unwrap();
    assert_eq!(all.len(), 24);
    let (handle, key) = tpm.attestation_key().unwrap();
    assert_eq!(tpm.read_public(handle).unwrap(), key);
    let bound = qualifying(&session_hash(&[1; 32]), b"nonce one");
    let quote = tpm.quote(handle, &bound, 0x00ff_ffff).unwrap();
    assert_eq!(verify_quote(&quote, &bound, &all, &key), Ok(()));
    tpm.flush(handle).unwrap();
    assert!(tpm.quote(handle, &bound, 1).is_err(), "unloaded");
}

#[test]
fn the_counter_only_goes_up_also_after_a_restart_and_the_key_stays() {
    let state = tempfile::tempdir().unwrap();
    let mut last = 0;
    let mut key = None;
    for _ in 0..3 {
        // Each round is a new process of the TPM on the same state, killed at its end.
        let swtpm = Swtpm::start(state.path()).unwrap();
        let mut attestor = Tpm2Attestor::open(&address(&swtpm), COUNTER_INDEX, REGISTERS).unwrap();
        let count = attestor.count().unwrap();
        assert!(count >= last, "{count} after {last}");
        if last > 0 {
            assert_eq!(count, last, "nothing was lost");
        }
        for step in 1..=3 {
            assert_eq!(attestor.advance().unwrap(), count + step);
        }
        assert_eq!(attestor.count().unwrap(), count + 3);
        last = count + 3;
        assert_eq!(*key.get_or_insert(attestor.attestation_key()), attestor.attestation_key());
    }
}

#[test]
fn an_index_that_is_no_counter_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let swtpm = Swtpm::start(state.path()).unwrap();
    let mut tpm = Tpm::open(&address(&swtpm)).unwrap();
    let missing = tpm.read_counter(COUNTER_INDEX);
    assert!(matches!(missing, Err(TpmError::Refused { command: "NV_Read", .. })), "{missing:?}");
    drop(tpm);
    // Somebody made an ordinary index of 8 bytes there.
    let counter = command::nv_define_counter(COUNTER_INDEX);
    let attributes = command::COUNTER_ATTRIBUTES.to_be_bytes();
    let place = counter.windows(4).position(|bytes| bytes == attributes).unwrap();
    let mut ordinary = counter;
    ordinary[place..place + 4].copy_from_slice(&0x0206_0006u32.to_be_bytes());
    let mut transport = address(&swtpm).connect().unwrap();
    assert_eq!(transport.transact(&ordinary).unwrap()[6..10], [0; 4]);
    drop(transport);
    let mut tpm = Tpm::open(&address(&swtpm)).unwrap();
    let refused = tpm.open_counter(COUNTER_INDEX);
    assert!(matches!(refused, Err(TpmError::NotACounter { index: COUNTER_INDEX })), "{refused:?}");
}

fn address(swtpm: &Swtpm) -> Address {
    swtpm.address.parse().unwrap()
}

fn settings(swtpm: &Swtpm) -> Settings {
    Settings {
        attestor: AttestorSettings::Tpm2 {
            tpm: swtpm.address.clone(),
            counter_index: COUNTER_INDEX,
            registers: REGISTERS,
        },
        epoch_heights: NonZeroU64::MIN,
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_guard_restored_from_an_old_copy_is_refused_by_the_tpm() {
    let (state, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, copy) = (home.path().join("sentinel"), home.path().join("copy"));
    let swtpm = Swtpm::start(state.path()).unwrap();
    let made = directory::init(&dir, &settings(&swtpm)).unwrap();
    let seen = Seen { chain: chain(), certificate: hash(1), measurement: hash(2) };

    let mut opened = directory::open(&dir, None).unwrap();
    opened.signing.greet(chain(), &certificate(made.vote_key, [3; 32])).unwrap();
    opened.signing.votes(&seen, 0, &[vote(1, 1)]).unwrap();
    copy_dir(&dir, &copy);
    opened.signing.votes(&seen, 0, &[vote(2, 2)]).unwrap();
    // A crash: no clean stop.
    drop(opened);

    fs::remove_dir_all(&dir).unwrap();
    copy_dir(&copy, &dir);
    let refused = directory::open(&dir, None).map(drop).expect_err("must refuse");
    let DirectoryError::Guard(GuardError::RestoredFromOldCopy { record, attestor }) = refused
    else {
        panic!("{refused}");
    };
    assert_eq!(record + 1, attestor);
}

#[test]
fn a_sentinel_with_a_tpm_signs_restarts_and_gives_evidence() {
    let (state, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = home.path().join("sentinel");
    let swtpm = Swtpm::start(state.path()).unwrap();
    let made = directory::init(&dir, &settings(&swtpm)).unwrap();
    let seen = Seen { chain: chain(), certificate: hash(1), measurement: hash(2) };
    let first = {
        let mut opened = directory::open(&dir, None).unwrap();
        opened.signing.votes(&seen, 0, &[vote(1, 1)]).unwrap()
    };
    // The TPM is switched off and on, the sentinel was killed.
    drop(swtpm);
    let swtpm = Swtpm::start(state.path()).unwrap();
    let mut opened = directory::open(&dir, Some(&swtpm.address)).unwrap();
    assert_eq!(opened.signing.votes(&seen, 0, &[vote(1, 1)]).unwrap(), first);
    let refused = opened.signing.votes(&seen, 0, &[vote(1, 2)]).unwrap_err();
    assert!(matches!(refused, GuardError::Refused(Refusal::SignedOther { height: 1, .. })));

    let key = hex::decode(&made.attestation_key).unwrap().try_into().unwrap();
    let key = kanjo_sentinel::tpm::AttestationKey::from_bytes(&key);
    let trust = Trust::Tpm2 { key, pcrs: made.pcrs.clone() };
    let answer = opened.signing.evidence(&seen, b"a nonce!").unwrap();
    let claims = evidence::verify(&answer, &made.vote_key, b"a nonce!", &trust).unwrap();
    assert_eq!((claims.measurement, claims.highest_vote), (hash(2), Some(1)));
    let replayed = evidence::verify(&answer, &made.vote_key, b"another!", &trust);
    assert_eq!(replayed, Err(EvidenceError::Nonce));
    let mut pcrs = made.pcrs;
    pcrs.insert(16, hash(5));
    let other = Trust::Tpm2 { key, pcrs };
    let refused = evidence::verify(&answer, &made.vote_key, b"a nonce!", &other);
    assert_eq!(refused, Err(EvidenceError::Quote(QuoteError::Values)));
}
