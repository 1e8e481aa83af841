//! What becomes of one message: by a rule, or by chance.

use super::chaos::{Cut, Dice, Fate};
use super::{Connection, Rule, State, Trouble};
use std::time::Duration;

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Swallow,
    Freeze,
    CutBefore,
    CutAfter,
}

/// A verdict, and how long the message waits before.
#[derive(Debug)]
pub(super) struct Ruling {
    pub delay: Option<Duration>,
    pub verdict: Verdict,
}

impl From<Verdict> for Ruling {
    fn from(verdict: Verdict) -> Self {
        Self {
            delay: None,
            verdict,
        }
    }
}

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Ruling {
    /// Notes a cut at once, for the client may know of it before the proxy is done.
    fn noted(self, state: &mut State, number: usize) -> Self {
        let cuts = matches!(self.verdict, Verdict::CutBefore | Verdict::CutAfter);
        state.connections[number].closed |= cuts;
        self
    }
}

/// Records a message of the client and decides what becomes of it.
pub(super) fn sent(state: &mut State, number: usize, frame: &[u8]) -> Ruling {
    ruling_up(state, number, frame).noted(state, number)
}

fn ruling_up(state: &mut State, number: usize, frame: &[u8]) -> Ruling {
    let connection = &mut state.connections[number];
    let tag = frame[0];
    connection.traffic.sent.push(char::from(tag));
    match tag {
        b'P' => {
            let mut parts = frame[5..].split(|byte| *byte == 0);
            let name = parts.next().unwrap_or_default().to_vec();
            let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
            connection.statements.insert(name, text);
        }
        b'B' => {
            let name = frame[5..]
                .split(|byte| *byte == 0)
                .nth(1)
                .unwrap_or_default();
            connection
                .texts
                .extend(connection.statements.get(name).cloned());
        }
        b'D' | b'E' | b'C' | b'S' | b'H' => {}
        b'Q' => return state.simple(number),
        _ => return Verdict::Pass.into(),
    }
    if connection.messages == 0 {
        connection.flight = state.flights;
        state.flights += 1;
    }
    connection.messages += 1;
    let met = state.meet(number, tag);
    let by_chance = state.chance(number, tag == b'S');
    let connection = &mut state.connections[number];
    if tag == b'S' {
        connection.messages = 0;
        connection.texts.clear();
    }
    let verdict = match met {
        None => return by_chance,
        Some(Trouble::CutBeforeSync | Trouble::CutAfter(_)) => Verdict::CutBefore,
        Some(Trouble::CutAtSync) => Verdict::CutAfter,
        Some(Trouble::FreezeAfter(_)) => Verdict::Freeze,
        Some(trouble @ (Trouble::LoseReply | Trouble::CutReplyAfter(_))) => {
            connection.reply = Some(trouble);
            Verdict::Pass
        }
    };
    verdict.into()
}

/// Records a message of the server and decides what becomes of it.
pub(super) fn received(state: &mut State, number: usize, frame: &[u8]) -> Ruling {
    let connection = &mut state.connections[number];
    if frame[0] == b'K' {
        let process = frame.get(5..9).and_then(|bytes| bytes.try_into().ok());
        connection.process = process.map(i32::from_be_bytes);
    }
    ruling_down(connection, frame[0]).noted(state, number)
}

fn ruling_down(connection: &mut Connection, tag: u8) -> Ruling {
    connection.traffic.received.push(char::from(tag));
    let verdict = match &mut connection.reply {
        None => return connection.answered(tag),
        Some(Trouble::CutReplyAfter(0)) => Verdict::CutBefore,
        // A shorter answer than that goes through whole.
        Some(Trouble::CutReplyAfter(_)) if tag == b'Z' => {
            connection.reply = None;
            Verdict::Pass
        }
        Some(Trouble::CutReplyAfter(left)) => {
            *left -= 1;
            Verdict::Pass
        }
        Some(_) if tag == b'Z' => Verdict::CutBefore,
        Some(_) => Verdict::Swallow,
    };
    verdict.into()
}

impl State {
    /// The trouble that the flight under way on a connection meets at this message, used up.
    fn meet(&mut self, number: usize, tag: u8) -> Option<Trouble> {
        let Connection {
            messages,
            texts,
            flight,
            ..
        } = &self.connections[number];
        let is_met = |rule: &Rule| {
            let here = match rule.trouble {
                Trouble::FreezeAfter(count) | Trouble::CutAfter(count) => *messages == count + 1,
                _ => tag == b'S',
            };
            let text = rule.containing.as_ref();
            here && rule.connection.is_none_or(|only| only == number)
                && rule.flight.is_none_or(|only| only == *flight)
                && text.is_none_or(|part| texts.iter().any(|text| text.contains(part)))
        };
        let index = self.rules.iter().position(is_met)?;
        let rule = &mut self.rules[index];
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        let trouble = rule.trouble;
        rule.times = rule.times.saturating_sub(1);
        if rule.times == 0 {
            self.rules.remove(index);
        }
        self.troubles += 1;
        Some(trouble)
    }

    /// What becomes of a simple query.
    fn simple(&mut self, number: usize) -> Ruling {
        let dice = self.dice(number);
        if !dice.is_some_and(|dice| dice.simple()) {
            return Verdict::Pass.into();
        }
        self.connections[number].messages = 1;
        let ruling = self.chance(number, true);
        self.connections[number].messages = 0;
        ruling
    }

    /// What chance does to a message of a flight, of which it may be the last.
    fn chance(&mut self, number: usize, last: bool) -> Ruling {
        let first = self.connections[number].messages == 1;
        let Some(dice) = self.dice(number) else {
            return Verdict::Pass.into();
        };
        let drawn = first.then(|| dice.draw());
        let connection = &mut self.connections[number];
        let mut delay = None;
        if let Some(fate) = drawn {
            self.troubles += usize::from(fate != Fate::default());
            delay = fate.delay;
            connection.fate = fate;
        }
        if let Some(dice) = &mut connection.dice {
            dice.flight_had(connection.messages);
        }
        let before = connection.messages - 1;
        let verdict = match connection.fate.cut {
            Some(Cut::Flight(count)) if before == count => Verdict::CutBefore,
            Some(Cut::Flight(_)) if last => Verdict::CutAfter,
            _ => Verdict::Pass,
        };
        if last {
            connection.answer = std::mem::take(&mut connection.fate);
            connection.answer_messages = 0;
        }
        Ruling { delay, verdict }
    }

    /// The dice of a connection, while there is chaos.
    fn dice(&mut self, number: usize) -> Option<&mut Dice> {
        let (seed, plan) = self.chaos.as_ref()?;
        let dice = &mut self.connections[number].dice;
        Some(dice.get_or_insert_with(|| Dice::new(*seed, number, plan.clone())))
    }

    /// Of how many bytes the pieces are in which messages pass now; 0 is as many as there are.
    pub fn piece(&self, number: usize, way: Way) -> usize {
        let connection = &self.connections[number];
        let (by_chance, always) = match way {
            // A flight that has left in full has handed its fate on.
            Way::Up if connection.messages > 0 => (connection.fate.piece, 0),
            Way::Up => (connection.answer.piece, 0),
            Way::Down => (connection.answer.piece, self.piece),
        };
        by_chance.unwrap_or(always)
    }
}

impl Connection {
    /// What chance does to a message of the server.
    fn answered(&mut self, tag: u8) -> Ruling {
        let delay = match self.answer_messages {
            0 => self.answer.delay.take(),
            _ => None,
        };
        let before = self.answer_messages;
        self.answer_messages += 1;
        if let Some(dice) = &mut self.dice {
            dice.reply_had(self.answer_messages);
        }
        if tag == b'Z' {
            self.answer_messages = 0;
        }
        let verdict = match (self.answer.cut, tag) {
            (Some(Cut::Reply(count)), _) if before == count => Verdict::CutBefore,
            (Some(Cut::Reply(_)), b'Z') => Verdict::CutAfter,
            (Some(Cut::LoseReply), b'Z') => Verdict::CutBefore,
            (Some(Cut::LoseReply), _) => Verdict::Swallow,
            _ => Verdict::Pass,
        };
        Ruling { delay, verdict }
    }
}
