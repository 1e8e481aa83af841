//! Whatever bytes a server sends, a flight ends in an answer or an error: recorded answers are cut, mutated and
//! shuffled, and fed in pieces.

use super::cache::Cache;
use super::error::{FlightError, Lost, NotSent};
use super::state::{Progress, State, ends_session};
use super::{Answer, Query, Standing};
use crate::types::limits;
use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

fn queries() -> Vec<Query> {
    [
        "insert into item values (1)",
        "select id, name from item",
        "select id, name from item",
        "",
    ]
    .map(|sql| Query {
        sql: sql.into(),
        binds: Vec::new(),
    })
    .into()
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("bodies here are short");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

fn row_description() -> Vec<u8> {
    let column = |name: &[u8], oid: u8| {
        [
            name,
            &[0; 4],
            &[0; 2],
            &[0, 0, 0, oid],
            &[0; 2],
            &[0; 4],
            &[0; 2],
        ]
        .concat()
    };
    message(
        b'T',
        &[&[0, 2][..], &column(b"id\0", 23), &column(b"name\0", 25)].concat(),
    )
}

fn data_row() -> Vec<u8> {
    message(
        b'D',
        &[0, 2, 0, 0, 0, 4, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff],
    )
}

fn error(severity: &str) -> Vec<u8> {
    message(
        b'E',
        format!("S{severity}\0V{severity}\0C23505\0Mtaken\0nitem_pkey\0Dwhole row\0\0").as_bytes(),
    )
}

/// The messages of a good answer, cold, with asynchronous ones in between.
fn good() -> Vec<Vec<u8>> {
    vec![
        message(b'1', &[]),
        message(b't', &[0, 0]),
        message(b'n', &[]),
        message(b'2', &[]),
        message(b'N', b"SWARNING\0C01000\0Mcareful\0\0"),
        message(b'C', b"INSERT 0 1\0"),
        message(b'1', &[]),
        message(b't', &[0, 0]),
        row_description(),
        message(b'2', &[]),
        data_row(),
        message(b'S', b"TimeZone\0UTC\0"),
        data_row(),
        message(b'C', b"SELECT 2\0"),
        message(b'2', &[]),
        message(b'A', &[0, 0, 0, 1, b'c', 0, b'p', 0]),
        message(b'C', b"SELECT 0\0"),
        message(b'1', &[]),
        message(b't', &[0, 0]),
        message(b'n', &[]),
        message(b'2', &[]),
        message(b'I', &[]),
        message(b'Z', b"I"),
    ]
}

/// Feeds an answer in pieces of at most `piece` bytes.
fn feed(bytes: &[u8], piece: usize) -> Result<Vec<Answer>, FlightError> {
    let queries = queries();
    let mut cache = Cache::new();
    let plan = cache.plan(&queries);
    let mut state = State::new(&plan, 0);
    let mut received = BytesMut::new();
    for part in bytes.chunks(piece) {
        received.extend_from_slice(part);
        match state.advance(&mut received, &mut cache, &queries) {
            Ok(Progress::More) => {}
            Ok(Progress::Ready(Standing::Idle)) => return state.into_result(),
            Ok(Progress::Ready(standing)) => {
                return Err(state.into_failure(Lost::NotIdle(standing), true));
            }
            Err(lost) => return Err(state.into_failure(lost, true)),
        }
    }
    Err(state.into_failure(Lost::Closed, true))
}

#[test]
fn a_good_answer_is_read_in_pieces_of_any_size() {
    let bytes = good().concat();
    for piece in 1..=bytes.len() {
        let answers = feed(&bytes, piece).expect("a good answer");
        let counts: Vec<_> = answers
            .iter()
            .map(|answer| (answer.rows.len(), answer.affected))
            .collect();
        assert_eq!(counts, [(0, 1), (2, 2), (0, 0), (0, 0)]);
        let row = &answers[1].rows[1];
        assert_eq!(
            (row.value(0), row.value(1), row.value(2)),
            (Some(&[0, 0, 0, 7][..]), None, None)
        );
        assert_eq!(answers[2].columns.len(), 2);
    }
}

#[test]
fn an_answer_cut_anywhere_is_ambiguous() {
    let bytes = good().concat();
    for cut in 0..bytes.len() {
        let ended = feed(&bytes[..cut], 7);
        assert!(
            matches!(ended, Err(FlightError::Ambiguous(Lost::Closed))),
            "{cut}: {ended:?}"
        );
    }
}

#[test]
fn an_error_anywhere_counts_what_was_complete_and_only_a_fatal_one_at_the_end_is_ambiguous() {
    let good = good();
    for at in 0..good.len() {
        let complete = good[..at]
            .iter()
            .filter(|message| matches!(message[0], b'C' | b'I'))
            .count();
        let ready = [good[..at].concat(), error("ERROR"), message(b'Z', b"I")].concat();
        let ended = feed(&ready, 64);
        assert!(
            matches!(&ended, Err(FlightError::Refused { index, error }) if *index == complete
            && error.constraint.as_deref() == Some("item_pkey")
            && !error.to_string().contains("whole row")),
            "{at}: {ended:?}"
        );
        let closed = feed(&[good[..at].concat(), error("FATAL")].concat(), 64);
        match closed {
            Err(FlightError::Refused { index, .. }) => assert!(index == complete && index < 4),
            Err(FlightError::Ambiguous(Lost::Fatal(_))) => assert_eq!(complete, 4),
            other => panic!("{at}: {other:?}"),
        }
    }
}

#[test]
fn an_answer_that_does_not_fit_the_question_is_ambiguous() {
    let good = good();
    for at in 0..good.len() {
        if matches!(good[at][0], b'N' | b'S' | b'A' | b'D') {
            continue;
        }
        let missing = [&good[..at], &good[at + 1..]].concat().concat();
        assert!(
            matches!(feed(&missing, 64), Err(FlightError::Ambiguous(_))),
            "without {at}"
        );
        for strange in [
            message(b's', &[]),
            message(b'G', &[0, 0, 0]),
            message(b'K', &[0; 8]),
            message(b'3', &[]),
        ] {
            let bytes = [good[..at].concat(), strange, good[at..].concat()].concat();
            assert!(
                matches!(
                    feed(&bytes, 64),
                    Err(FlightError::Ambiguous(Lost::Protocol(_)))
                ),
                "before {at}"
            );
        }
    }
    let huge = [&b"D"[..], &u32::MAX.to_be_bytes()].concat();
    assert!(matches!(
        feed(&huge, 64),
        Err(FlightError::Ambiguous(Lost::Protocol(_)))
    ));
    let large = u32::try_from(limits::ANSWER_BYTES_MAX + 1).expect("the limit is small");
    let large = [&b"D"[..], &large.to_be_bytes()].concat();
    assert!(matches!(
        feed(&large, 64),
        Err(FlightError::Ambiguous(Lost::Protocol(_)))
    ));
}

#[test]
fn mutated_answers_never_panic_and_never_make_an_error_a_success() {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let failed = [good()[..12].concat(), error("ERROR"), message(b'Z', b"I")].concat();
    for (bytes, may_succeed) in [(good().concat(), true), (failed, false)] {
        for _ in 0..20_000 {
            let mut mutated = bytes.clone();
            for _ in 0..random.random_range(1..5) {
                let at = random.random_range(0..mutated.len());
                match random.random_range(0..4) {
                    0 => mutated[at] = random.random(),
                    1 => mutated[at] ^= 1 << random.random_range(0..8),
                    2 => drop(mutated.remove(at)),
                    _ => mutated.insert(at, random.random()),
                }
            }
            let piece = random.random_range(1..100);
            if let Ok(answers) = feed(&mutated, piece) {
                assert!(may_succeed && answers.len() == 4);
                for row in answers.iter().flat_map(|answer| &answer.rows) {
                    assert!(
                        (0..5).filter_map(|index| row.value(index)).count() <= row.columns().len()
                    );
                }
            }
            ends_session(&mut BytesMut::from(&mutated[..]));
        }
        let mut messages = good();
        for _ in 0..2_000 {
            let (a, b) = (
                random.random_range(0..messages.len()),
                random.random_range(0..messages.len()),
            );
            messages.swap(a, b);
            drop(feed(&messages.concat(), 64));
        }
    }
}

#[test]
fn what_never_left_in_full_is_not_sent() {
    let queries = queries();
    let plan = Cache::new().plan(&queries);
    let failure = State::new(&plan, 0).into_failure(Lost::Deadline, false);
    assert!(matches!(
        failure,
        FlightError::NotSent(NotSent::Lost(Lost::Deadline))
    ));
}
