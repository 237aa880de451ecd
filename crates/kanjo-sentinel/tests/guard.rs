//! The guard under everything that can happen to it: any order of requests, crashes at any write,
//! failing disks, old copies put back. Never two signatures for one height or proposal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{certificate, chain, hash};
use ed25519_zebra::{SigningKey, VerificationKeyBytes};
use kanjo_sentinel::attestor::software::{SOON_MAX, SoonFile};
use kanjo_sentinel::guard::GuardError;
use kanjo_sentinel::{
    LocalParts, LocalSigner, ProposalRequest, Refusal, Signer, SignerError, VoteRequest,
};
use kanjo_store::disk::Disk;
use kanjo_store::faults::{Fault, FaultyDisk, SeededRng};
use kanjo_store::slots::SlotFile;
use kanjo_types::Hash;
use kanjo_types::block::{integrity_answer, vote_digest};
use kanjo_types::signature::verify;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

const GUARD: &str = "sentinel/guard";
const COUNTER: &str = "attestor/counter";
const SOON: &str = "attestor/counter.soon";
const SEED: [u8; 32] = [7; 32];

fn vote_key() -> [u8; 32] {
    VerificationKeyBytes::from(&SigningKey::from(SEED)).into()
}

fn open(disk: &FaultyDisk, epoch_heights: u64) -> Result<LocalSigner, String> {
    open_counting(disk, epoch_heights, false)
}

/// `soon`: each batch is counted, too, without a sync.
fn open_counting(disk: &FaultyDisk, epoch_heights: u64, soon: bool) -> Result<LocalSigner, String> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let slot = |path: &str| SlotFile::open(shared.clone(), Path::new(path));
    let (guard, record) = slot(GUARD).map_err(|error| error.to_string())?;
    let (counter, count) = slot(COUNTER).map_err(|error| error.to_string())?;
    let soon = soon.then(|| SoonFile::open(disk, Path::new(SOON)).map_err(|e| e.to_string()));
    let parts = LocalParts {
        soon: soon.transpose()?,
        vote_seed: SEED,
        attestor_seed: [8; 32],
        guard: (Box::new(guard), record),
        counter: (Box::new(counter), count),
        epoch_heights: NonZeroU64::new(epoch_heights).unwrap(),
    };
    let certificate = certificate(vote_key(), [3; 32]);
    LocalSigner::open(parts, chain(), &certificate, hash(1)).map_err(|error| error.to_string())
}

/// All that ever left the sentinel.
#[derive(Default)]
struct World {
    votes: BTreeMap<u64, (u64, Hash)>,
    proposals: BTreeMap<(u64, u64), Hash>,
    contradiction: Option<String>,
    signed: u64,
    old_copies_refused: u64,
    /// Starts at which the attestor was behind by too much.
    set_back: u64,
    refused: u64,
}

impl World {
    fn saw_vote(&mut self, request: &VoteRequest) {
        let VoteRequest { epoch, height, header, .. } = *request;
        let first = *self.votes.entry(height).or_insert((epoch, header));
        if first != (epoch, header) {
            self.contradiction = Some(format!("two votes at height {height}"));
        }
        self.signed += 1;
    }

    fn saw_proposal(&mut self, request: &ProposalRequest) {
        let ProposalRequest { term, height, content } = *request;
        if *self.proposals.entry((term, height)).or_insert(content) != content {
            self.contradiction = Some(format!("two proposals at term {term}, height {height}"));
        }
        self.signed += 1;
    }
}

/// What a run is about.
#[derive(Clone, Copy)]
struct Scene {
    epoch_heights: u64,
    /// Each batch is counted without a sync.
    soon: bool,
    /// Is somebody there who takes copies and puts them back?
    copied: bool,
    /// Does the power go? The process is killed in any case.
    power_cuts: bool,
}

/// A run: a sentinel, a node that asks for anything, a machine that dies, and somebody who puts old
/// copies of the guard's file back (the attestor's file is out of his reach).
struct Run {
    rng: SeededRng,
    disk: FaultyDisk,
    signer: Option<LocalSigner>,
    scene: Scene,
    copies: Vec<Vec<u8>>,
    world: World,
}

impl Run {
    fn new(seed: u64, scene: Scene) -> Self {
        let disk = FaultyDisk::new(seed);
        let signer = Some(open_counting(&disk, scene.epoch_heights, scene.soon).unwrap());
        let (rng, copies, world) = (SeededRng::new(seed), Vec::new(), World::default());
        Self { rng, disk, signer, scene, copies, world }
    }

    fn end_machine(&mut self) {
        let seed = self.rng.next_u64();
        self.disk =
            if self.scene.power_cuts { self.disk.crash(seed) } else { self.disk.kill_process() };
    }

    fn votes(&mut self) {
        let highest = self.world.votes.keys().last().copied().unwrap_or(0);
        let start = highest.saturating_sub(self.rng.below(6)) + self.rng.below(4);
        let count = 1 + self.rng.below(4);
        let salt = self.rng.below(2);
        let requests: Vec<VoteRequest> = (start..start + count)
            .map(|height| VoteRequest {
                epoch: height / 50,
                height,
                header: hash(height * 10 + salt),
                challenge: hash(height),
            })
            .collect();
        let Some(signer) = &mut self.signer else { return };
        match signer.votes(0, &requests) {
            Ok(votes) => {
                for (vote, request) in votes.iter().zip(&requests) {
                    let VoteRequest { epoch, height, header, challenge } = request;
                    let certificate = certificate(vote_key(), [3; 32]).hash(chain());
                    let answer = integrity_answer(&hash(1), &certificate, challenge, header);
                    assert_eq!(vote.answer, answer);
                    let digest = vote_digest(*epoch, *height, header, &answer);
                    let key = kanjo_types::PublicKey::Ed25519(vote_key());
                    assert!(verify(&key, &digest, &vote.signature));
                    self.world.saw_vote(request);
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn proposals(&mut self) {
        let (term, height) = self.world.proposals.keys().last().copied().unwrap_or((1, 0));
        let term = (term + self.rng.below(3)).saturating_sub(1);
        let start = height.saturating_sub(self.rng.below(4)) + self.rng.below(3);
        let salt = self.rng.below(2);
        let requests: Vec<ProposalRequest> = (start..=start + self.rng.below(3))
            .map(|height| ProposalRequest { term, height, content: hash(height * 10 + salt) })
            .collect();
        let Some(signer) = &mut self.signer else { return };
        match signer.proposals(&requests) {
            Ok(signatures) => {
                assert_eq!(signatures.len(), requests.len());
                requests.iter().for_each(|request| self.world.saw_proposal(request));
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &SignerError) {
        match error {
            SignerError::Refused(Refusal::Stopped(_)) | SignerError::Guard(_) => {}
            SignerError::Refused(_) => self.world.refused += 1,
            other => panic!("{other}"),
        }
    }

    /// Power cut, kill, or clean stop; then a start, with an old copy in place now and then.
    fn restart(&mut self) {
        let kind = self.rng.below(3);
        match (kind, self.signer.take()) {
            (0, Some(signer)) => drop(signer.close()),
            (_, signer) => drop(signer),
        }
        if kind == 1 {
            self.disk = self.disk.kill_process();
        } else {
            self.end_machine();
        }
        let true_content = self.disk.get(Path::new(GUARD)).unwrap();
        let old = self.rng.below(self.copies.len() as u64 * 2 + 1) as usize;
        if let Some(old) = self.copies.get(old) {
            self.disk.put(Path::new(GUARD), old).unwrap();
        }
        for _ in 0..4 {
            if self.rng.below(4) == 0 && self.scene.power_cuts {
                self.disk.crash_after(1 + self.rng.below(12));
            }
            let Scene { epoch_heights, soon, .. } = self.scene;
            match open_counting(&self.disk, epoch_heights, soon) {
                Ok(signer) => {
                    self.signer = Some(signer);
                    return;
                }
                Err(why) if why.contains("old copy") => {
                    self.world.old_copies_refused += 1;
                    self.disk = self.disk.kill_process();
                    self.disk.put(Path::new(GUARD), &true_content).unwrap();
                }
                Err(why) => {
                    self.world.set_back += u64::from(why.contains("set back"));
                    self.end_machine();
                }
            }
        }
        // The last tries were all cut off by power cuts: the next step starts it again.
        self.end_machine();
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..8 => self.votes(),
            8..13 => self.proposals(),
            // A machine without power gives no copy.
            13 if !self.scene.copied => self.votes(),
            13 => self.copies.extend(self.disk.get(Path::new(GUARD))),
            14 if !self.scene.power_cuts => self.votes(),
            14 => self.disk.crash_after(1 + self.rng.below(6)),
            15 => self.disk.inject(Fault::FailSync, self.rng.below(4)),
            16 => self.disk.inject(Fault::FailWrite, self.rng.below(4)),
            _ => self.restart(),
        }
    }
}

fn run(seed: u64, epoch_heights: u64, copied: bool) -> World {
    run_scene(seed, Scene { epoch_heights, soon: false, copied, power_cuts: true })
}

fn run_scene(seed: u64, scene: Scene) -> World {
    let mut run = Run::new(seed, scene);
    for _ in 0..120 {
        run.step();
    }
    run.world
}

#[test]
fn no_order_of_requests_crashes_and_old_copies_yields_two_signatures() {
    let (mut signed, mut refused, mut old_copies) = (0, 0, 0);
    for seed in 0..400 {
        let world = run(seed, 1, true);
        assert_eq!(world.contradiction, None, "seed {seed}");
        signed += world.signed;
        refused += world.refused;
        old_copies += world.old_copies_refused;
    }
    // The runs must have been about something.
    assert!(
        signed > 10_000 && refused > 1_000 && old_copies > 500,
        "{signed} {refused} {old_copies}"
    );
}

#[test]
fn crashes_alone_never_do_however_seldom_it_counts() {
    for seed in 0..300 {
        let world = run(seed, 1 + seed % 9, false);
        assert_eq!(world.contradiction, None, "seed {seed}");
        assert_eq!(world.old_copies_refused, 0, "seed {seed}: a crash was taken for an old copy");
    }
}

/// What `docs/integrity.md` says about counting less often. It also shows that these runs find a
/// double signature when there is one.
#[test]
fn with_more_heights_to_a_count_an_old_copy_can_make_it_sign_twice() {
    assert!((0..400).any(|seed| run(seed, 1_000, true).contradiction.is_some()));
}

/// Counting without a sync is enough against whoever kills the sentinel and puts a copy back.
#[test]
fn counted_without_a_sync_no_old_copy_is_taken_as_long_as_there_is_power() {
    let (mut signed, mut old_copies) = (0, 0);
    for seed in 0..400 {
        let scene = Scene { epoch_heights: 1_000, soon: true, copied: true, power_cuts: false };
        let world = run_scene(seed, scene);
        assert_eq!(world.contradiction, None, "seed {seed}");
        assert_eq!(world.set_back, 0, "seed {seed}");
        signed += world.signed;
        old_copies += world.old_copies_refused;
    }
    assert!(signed > 10_000 && old_copies > 500, "{signed} {old_copies}");
}

/// A power cut takes counts back; that is neither an old copy nor an attestor set back.
#[test]
fn power_cuts_alone_cost_a_sentinel_that_counts_without_a_sync_nothing() {
    let mut signed = 0;
    for seed in 0..400 {
        let epoch_heights = 1 + seed % 90;
        let scene = Scene { epoch_heights, soon: true, copied: false, power_cuts: true };
        let world = run_scene(seed, scene);
        assert_eq!(world.contradiction, None, "seed {seed}");
        assert_eq!((world.old_copies_refused, world.set_back), (0, 0), "seed {seed}");
        signed += world.signed;
    }
    assert!(signed > 10_000, "{signed}");
}

/// The window that remains, as `docs/integrity.md` says: a power cut, and a copy put back that is
/// younger than the last count that was synced.
#[test]
fn after_a_power_cut_a_copy_younger_than_the_last_sync_goes_unnoticed() {
    let scene = Scene { epoch_heights: 1_000, soon: true, copied: true, power_cuts: true };
    assert!((0..400).any(|seed| run_scene(seed, scene).contradiction.is_some()));
}

#[test]
fn a_count_without_a_sync_is_bounded_and_costs_no_sync() {
    let disk = FaultyDisk::new(1);
    let mut signer = open_counting(&disk, 1_000_000, true).unwrap();
    let mut syncs = 0;
    for height in 1..=2 * SOON_MAX + 2 {
        let before = disk.changes();
        signer.votes(0, &[vote(height, height)]).unwrap();
        match disk.changes() - before {
            // Write and sync of the guard, write of the count.
            3 => {}
            4 => syncs += 1,
            other => panic!("{other} changes"),
        }
    }
    assert_eq!(syncs, 2);
    drop(signer);
    // All that was not synced goes: the record is ahead by as much as there may be.
    let disk = disk.crash(7);
    let _ = disk.remove(Path::new(SOON));
    let mut signer = open_counting(&disk, 1_000_000, true).unwrap();
    signer.votes(0, &[vote(2 * SOON_MAX + 3, 1)]).unwrap();
}

fn vote(height: u64, salt: u64) -> VoteRequest {
    common::vote(height, salt)
}

#[test]
fn each_copy_of_an_earlier_record_is_refused_after_a_clean_stop() {
    let disk = FaultyDisk::new(1);
    let mut copies = Vec::new();
    for height in 1..5 {
        // 1,000 heights to a count: the clean stop closes the window.
        let mut signer = open(&disk, 1_000).unwrap();
        copies.push(disk.get(Path::new(GUARD)).unwrap());
        signer.votes(0, &[vote(height, height)]).unwrap();
        copies.push(disk.get(Path::new(GUARD)).unwrap());
        signer.close().unwrap();
    }
    for copy in copies {
        let disk = disk.snapshot();
        disk.put(Path::new(GUARD), &copy).unwrap();
        let refused = open(&disk, 1_000).map(drop).expect_err("must refuse");
        assert!(refused.contains("restored from an old copy"), "{refused}");
    }
    open(&disk, 1_000).unwrap();
}

/// Said plainly: whoever can put the attestor's file back, too, is not noticed.
#[test]
fn the_software_attestor_restored_with_its_guard_is_not_noticed() {
    let disk = FaultyDisk::new(1);
    let mut signer = open(&disk, 1).unwrap();
    let old = disk.snapshot();
    signer.votes(0, &[vote(1, 1)]).unwrap();
    drop(signer);
    let mut signer = open(&old, 1).unwrap();
    signer.votes(0, &[vote(1, 2)]).unwrap();
}

#[test]
fn an_attestor_set_back_is_refused_and_so_is_a_missing_guard() {
    let disk = FaultyDisk::new(1);
    drop(open(&disk, 1).unwrap());
    let early = disk.get(Path::new(COUNTER)).unwrap();
    let mut signer = open(&disk, 1).unwrap();
    signer.votes(0, &[vote(1, 1)]).unwrap();
    drop(signer);
    let other = disk.snapshot();
    other.put(Path::new(COUNTER), &early).unwrap();
    let refused = open(&other, 1).map(drop).expect_err("must refuse");
    assert!(refused.contains("set back or exchanged"), "{refused}");
    let other = disk.snapshot();
    other.remove(Path::new(GUARD)).unwrap();
    let refused = open(&other, 1).map(drop).expect_err("must refuse");
    assert_eq!(refused, GuardError::Missing.to_string());
}

#[test]
fn a_batch_is_one_write_and_all_or_nothing() {
    let disk = FaultyDisk::new(1);
    let mut signer = open(&disk, 1).unwrap();
    let before = disk.changes();
    let batch: Vec<VoteRequest> = (1..=64).map(|height| vote(height, height)).collect();
    signer.votes(0, &batch).unwrap();
    // A write and a sync of the guard, the same of the counter.
    assert_eq!(disk.changes() - before, 4);
    let before = disk.changes();
    assert_eq!(signer.votes(0, &batch).unwrap().len(), 64);
    assert_eq!(disk.changes(), before, "what is asked for again is not written again");

    let mixed = [vote(65, 65), vote(64, 1)];
    let refused = signer.votes(0, &mixed).unwrap_err();
    let SignerError::Refused(Refusal::SignedOther { height: 64, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!(signer.status().unwrap().highest_vote, Some(64), "nothing of it was taken");
    let long: Vec<VoteRequest> = (65..=129).map(|height| vote(height, height)).collect();
    let refused = signer.votes(0, &long).unwrap_err();
    assert!(matches!(refused, SignerError::Refused(Refusal::BatchTooLarge { max: 64, found: 65 })));
}

#[test]
fn after_a_failed_write_nothing_is_signed_until_it_is_opened_again() {
    let disk = FaultyDisk::new(1);
    let mut signer = open(&disk, 1).unwrap();
    disk.inject(Fault::FailSync, 0);
    assert!(matches!(signer.votes(0, &[vote(1, 1)]), Err(SignerError::Guard(_))));
    let refused = signer.votes(0, &[vote(2, 2)]).unwrap_err();
    assert!(matches!(refused, SignerError::Refused(Refusal::Stopped(_))), "{refused}");
    assert!(signer.status().unwrap().stopped.is_some());
    drop(signer);
    let disk = disk.kill_process();
    open(&disk, 1).unwrap().votes(0, &[vote(2, 2)]).unwrap();
}
