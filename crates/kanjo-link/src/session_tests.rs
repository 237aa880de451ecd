//! Tests of sessions: what they accept, and what ends them.

use super::*;
use crate::frame::MESSAGE_HEAD;
use proptest::prelude::*;

fn key(byte: u8) -> LinkKey {
    LinkKey::from_private(&[byte; 32]).unwrap()
}

fn identity(byte: u8) -> Identity {
    Identity { purpose: PURPOSE_MESH, chain: [7; 32], key: key(byte) }
}

/// Runs a handshake, in pieces of `piece` bytes.
fn shake(
    a: &Identity,
    b: &Identity,
    expected: PublicLinkKey,
    known: Vec<PublicLinkKey>,
    piece: usize,
) -> Result<(Established, Established), LinkError> {
    let (mut dialling, first) = Handshake::dial(a, expected, b"hello")?;
    let mut answering = Handshake::answer(b, known)?;
    let Progress::Send(second) = feed(&mut answering, &first, piece)? else {
        panic!("the responder answers the first message")
    };
    let Progress::Done(dialled) = feed(&mut dialling, &second, piece)? else {
        panic!("the initiator is done with the second message")
    };
    let Progress::Done(answered) = feed(&mut answering, &dialled.send, piece)? else {
        panic!("the responder is done with the third message")
    };
    Ok((*dialled, *answered))
}

fn feed(handshake: &mut Handshake, input: &[u8], piece: usize) -> Result<Progress, LinkError> {
    let mut last = Progress::Wait;
    for part in input.chunks(piece) {
        assert!(matches!(last, Progress::Wait));
        last = handshake.feed(part)?;
    }
    Ok(last)
}

fn pair() -> (Session, Session) {
    let (a, b) = (identity(1), identity(2));
    let (dialled, answered) =
        shake(&a, &b, b.key.public(), vec![a.key.public()], usize::MAX).unwrap();
    (dialled.session, answered.session)
}

fn take_all(opener: &mut Opener) -> Result<Vec<Bytes>, LinkError> {
    std::iter::from_fn(|| opener.take().transpose()).collect()
}

#[test]
fn both_sides_prove_their_keys_whatever_the_pieces() {
    let (a, b) = (identity(1), identity(2));
    for piece in [1, 2, 3, 31, 64, usize::MAX] {
        let known = vec![key(9).public(), a.key.public()];
        let (dialled, answered) = shake(&a, &b, b.key.public(), known, piece).unwrap();
        assert_eq!(dialled.peer, b.key.public());
        assert_eq!(answered.peer, a.key.public());
        assert_eq!(answered.greeting, b"hello");
        assert!(answered.send.is_empty());
    }
}

#[test]
fn a_key_that_is_not_expected_ends_the_handshake() {
    let (a, b) = (identity(1), identity(2));
    let wrong = shake(&a, &b, key(3).public(), vec![a.key.public()], usize::MAX);
    assert!(matches!(wrong, Err(LinkError::UnknownKey(found)) if found == b.key.public()));
    let unknown = shake(&a, &b, b.key.public(), vec![key(3).public()], usize::MAX);
    assert!(matches!(unknown, Err(LinkError::UnknownKey(found)) if found == a.key.public()));
    let none = shake(&a, &b, b.key.public(), Vec::new(), usize::MAX);
    assert!(matches!(none, Err(LinkError::UnknownKey(_))));
}

#[test]
fn other_ledgers_and_other_purposes_cannot_talk() {
    let (a, b) = (identity(1), identity(2));
    let elsewhere = Identity { chain: [8; 32], ..b.clone() };
    let otherwise = Identity { purpose: PURPOSE_SENTINEL, ..b.clone() };
    for other in [elsewhere, otherwise] {
        let shaken = shake(&a, &other, b.key.public(), vec![a.key.public()], usize::MAX);
        assert!(matches!(shaken, Err(LinkError::Handshake)));
    }
}

#[test]
fn no_flipped_bit_of_the_handshake_leads_to_a_session() {
    let (a, b) = (identity(1), identity(2));
    let run = |turn: usize, at: usize| -> Result<(), LinkError> {
        let flip = |mut bytes: Vec<u8>, now: usize| {
            if now == turn {
                bytes[at] ^= 1;
            }
            bytes
        };
        let (mut dialling, first) = Handshake::dial(&a, b.key.public(), b"hello")?;
        let mut answering = Handshake::answer(&b, vec![a.key.public()])?;
        let Progress::Send(second) = answering.feed(&flip(first, 0))? else {
            return Err(LinkError::Closed);
        };
        let Progress::Done(dialled) = dialling.feed(&flip(second, 1))? else {
            return Err(LinkError::Closed);
        };
        match answering.feed(&flip(dialled.send, 2))? {
            Progress::Done(_) => Ok(()),
            _ => Err(LinkError::Closed),
        }
    };
    assert!(run(3, 0).is_ok());
    for (turn, length) in [(0, 34), (1, 98), (2, 71)] {
        for at in 0..length {
            assert!(run(turn, at).is_err(), "byte {at} of handshake message {turn}");
        }
    }
}

#[test]
fn messages_of_every_critical_length_arrive() {
    let (mut a, mut b) = pair();
    let full = PLAIN_MAX - MESSAGE_HEAD;
    for length in [0, 1, full - 1, full, full + 1, full + PLAIN_MAX, full + PLAIN_MAX + 1, 3 << 20]
    {
        let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let mut out = Vec::new();
        a.sealer.seal_all(&body, &mut out).unwrap();
        b.opener.buffer().extend_from_slice(&out);
        assert_eq!(take_all(&mut b.opener).unwrap(), vec![Bytes::from(body)], "{length}");
    }
}

#[test]
fn the_longest_message_is_sent_and_a_longer_one_is_not() {
    let (mut a, mut b) = pair();
    let body = Bytes::from(vec![5u8; MESSAGE_MAX - 1]);
    let mut message = Outgoing::new(&[9], body.clone()).unwrap();
    let mut got = Vec::new();
    loop {
        let mut out = Vec::new();
        let done = a.sealer.seal(&mut message, &mut out, 1 << 20).unwrap();
        assert!(out.len() < (1 << 20) + FRAME_HEAD + RECORD_MAX, "about as much as asked for");
        b.opener.buffer().extend_from_slice(&out);
        got.extend(take_all(&mut b.opener).unwrap());
        if done {
            break;
        }
    }
    assert!(got.len() == 1 && got[0].len() == MESSAGE_MAX && got[0][0] == 9);
    assert!(matches!(Outgoing::new(&[9, 9], body), Err(LinkError::TooLarge { .. })));
}

#[test]
fn a_message_longer_than_allowed_is_refused_by_its_head() {
    let (mut a, mut b) = pair();
    b.opener.set_message_max(1_000);
    let mut out = Vec::new();
    a.sealer.seal_all(&[1; 1_000], &mut out).unwrap();
    a.sealer.seal_all(&[1; 200_000], &mut out).unwrap();
    // The first record of the second message is enough to refuse it.
    b.opener.buffer().extend_from_slice(&out[..70_000]);
    assert_eq!(b.opener.take().unwrap().unwrap().len(), 1_000);
    let refused = b.opener.take();
    assert!(matches!(refused, Err(LinkError::TooLarge { length: 200_000, max: 1_000 })));
    assert!(matches!(b.opener.take(), Err(LinkError::Closed)), "dead after an error");
}

#[test]
fn altered_repeated_left_out_and_reordered_records_end_the_session() {
    let frames = |sealer: &mut Sealer| -> Vec<Vec<u8>> {
        let one = |body: &[u8]| {
            let mut out = Vec::new();
            sealer.seal_all(body, &mut out).unwrap();
            out
        };
        [b"first".as_slice(), b"second", b"third"].map(one).to_vec()
    };
    type Change = fn(&mut Vec<Vec<u8>>);
    let changes: [Change; 5] = [
        |frames| frames[1][5] ^= 0x40,
        |frames| *frames[1].last_mut().unwrap() ^= 1,
        |frames| frames[1] = frames[0].clone(),
        |frames| drop(frames.remove(1)),
        |frames| frames.swap(1, 2),
    ];
    for change in changes {
        let (mut a, mut b) = pair();
        let mut sent = frames(&mut a.sealer);
        change(&mut sent);
        b.opener.buffer().extend_from_slice(&sent.concat());
        assert_eq!(b.opener.take().unwrap().unwrap(), "first");
        assert!(matches!(b.opener.take(), Err(LinkError::Seal)));
        assert!(b.opener.take().is_err());
    }
    let (mut a, _) = pair();
    let mut echoed = Vec::new();
    a.sealer.seal_all(b"mine", &mut echoed).unwrap();
    a.opener.buffer().extend_from_slice(&echoed);
    assert!(
        matches!(a.opener.take(), Err(LinkError::Seal)),
        "what one sent doesn't count as sent to one"
    );
}

#[test]
fn frames_out_of_bounds_are_refused_before_they_are_read() {
    let mut handshake = Handshake::answer(&identity(1), vec![key(2).public()]).unwrap();
    let length = u16::try_from(HANDSHAKE_MAX + 1).unwrap().to_le_bytes();
    assert!(matches!(handshake.feed(&length), Err(LinkError::Frame(_))));
    let (_, mut b) = pair();
    b.opener.buffer().extend_from_slice(&15u16.to_le_bytes());
    assert!(matches!(b.opener.take(), Err(LinkError::Frame(15))));
}

/// With fixed ephemeral keys a whole conversation is fixed to the byte (docs/format-links.md).
#[test]
fn the_frame_layout_is_pinned() {
    let (a, b) = (identity(1), identity(2));
    let state = |identity: &Identity, initiator: bool, ephemeral: [u8; 32]| {
        let prologue = identity.prologue();
        let builder = Builder::new(PROTOCOL.parse().unwrap())
            .local_private_key(identity.key.private())
            .unwrap()
            .prologue(&prologue)
            .unwrap()
            .fixed_ephemeral_key_for_testing_only(&ephemeral);
        if initiator { builder.build_initiator() } else { builder.build_responder() }.unwrap()
    };
    let purpose = hex::encode("\x04mesh");
    let prologue = format!("{}01{purpose}{}", hex::encode("kanjo-link"), "07".repeat(32));
    assert_eq!(hex::encode(a.prologue()), prologue);
    let (mut dialling, first) =
        Handshake::dial_from(state(&a, true, [3; 32]), b.key.public(), &[1]).unwrap();
    let mut answering = Handshake::answer(&b, vec![a.key.public()]).unwrap();
    answering.noise = Some(state(&b, false, [4; 32]));
    let Progress::Send(second) = answering.feed(&first).unwrap() else { panic!() };
    let Progress::Done(mut dialled) = dialling.feed(&second).unwrap() else { panic!() };
    let Progress::Done(mut answered) = answering.feed(&dialled.send).unwrap() else { panic!() };
    let mut there = Vec::new();
    dialled.session.sealer.seal_all(b"payment", &mut there).unwrap();
    let mut back = Vec::new();
    answered.session.sealer.seal_all(b"receipt", &mut back).unwrap();
    let spoken = [&first, &second, &dialled.send, &there, &back].map(hex::encode);
    assert_eq!(spoken.as_slice(), VECTOR);
}

const VECTOR: &[&str] = &[
    "20005dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22",
    "6000ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10ba008df889bb3\
     5e8223335723afaf9154defd8da5df240cc3592090c2fb4518e05825650aa11baa362ec05dbd0f0a\
     85ce2111ccb6602a2e8e91d0f1bb8c314d3d",
    "4100b7cdf8c991735a27cbc64fb59293bea96330d41179052f565b352ffad9b79b87ccd98bc89c98\
     be53a6475c890b844ae9407d37ac18a80577db4bd26f55bf1642de",
    "1b00676e8d2b9cecaa215ee1bdb2be381b365847ea15d8ef4a5b26ba6d",
    "1b004ad952a2d9ce67ce3439637ccea8927937196d7582fc80846f4f2c",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_splitting_of_the_stream_gives_the_same_messages(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
        long in 0usize..200_000,
        cuts in prop::collection::vec(1usize..5_000, 1..40),
    ) {
        let (mut a, mut b) = pair();
        let mut bodies: Vec<Bytes> = bodies.into_iter().map(Bytes::from).collect();
        bodies.push(Bytes::from(vec![3u8; long]));
        let mut stream = Vec::new();
        for body in &bodies {
            a.sealer.seal_all(body, &mut stream).unwrap();
        }
        let (mut got, mut rest, mut cuts) = (Vec::new(), stream.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            b.opener.buffer().extend_from_slice(piece);
            got.extend(take_all(&mut b.opener).unwrap());
            rest = after;
        }
        prop_assert_eq!(got, bodies);
    }

    #[test]
    fn frames_never_panic_and_keep_every_byte(
        input in prop::collection::vec(any::<u8>(), 0..3_000),
        piece in 1usize..500,
    ) {
        let mut decoder = FrameDecoder::new(1_024);
        let mut again = Vec::new();
        let mut failed = false;
        'feed: for part in input.chunks(piece) {
            decoder.buffer().extend_from_slice(part);
            loop {
                match decoder.take() {
                    Ok(Some(record)) => {
                        again.extend_from_slice(&frame_head(record.len()).unwrap());
                        again.extend_from_slice(&record);
                    }
                    Ok(None) => break,
                    Err(_) => { failed = true; break 'feed }
                }
            }
        }
        if !failed {
            again.extend_from_slice(decoder.buffer());
            prop_assert_eq!(again, input);
        } else {
            prop_assert!(input.starts_with(&again));
        }
    }
}
