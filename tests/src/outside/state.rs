//! What the service outside knows, and what a call does to it.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, Fault, Rule};

/// What a call is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub status: u16,
    pub body: Value,
}

impl Reply {
    pub fn error(status: u16, error: &str) -> Self {
        Self {
            status,
            body: json!({ "error": error }),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub rules: Vec<Rule>,
    pub calls: Vec<Call>,
    /// The effects that are there, each with the answer to the call that made it.
    pub effects: BTreeMap<String, Value>,
    /// How often each was made.
    pub made: BTreeMap<String, usize>,
    /// Keys that were deleted, and are never made again.
    tombstones: BTreeSet<String>,
    /// The highest token of each key.
    tokens: BTreeMap<String, u64>,
}

impl State {
    /// Notes a call, and gives the fault that it meets.
    pub fn arrives(&mut self, call: &Call) -> Option<Fault> {
        self.calls.push(call.clone());
        let matches = |rule: &Rule| {
            rule.times > 0
                && call.key.starts_with(&rule.prefix)
                && rule
                    .method
                    .as_ref()
                    .is_none_or(|method| *method == call.method)
        };
        for rule in self.rules.iter_mut().filter(|rule| matches(rule)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else {
                rule.times -= 1;
                return Some(rule.fault);
            }
        }
        None
    }

    /// Does what a call asks for.
    pub fn apply(&mut self, call: &Call) -> Reply {
        let highest = self.tokens.entry(call.key.clone()).or_default();
        if call.token < *highest {
            return Reply::error(412, "a call with a higher token has come");
        }
        *highest = call.token;
        if call.method == Method::DELETE {
            self.tombstones.insert(call.key.clone());
            self.effects.remove(&call.key);
            let body = json!({ "key": call.key, "deleted": true });
            return Reply { status: 200, body };
        }
        if self.tombstones.contains(&call.key) {
            return Reply::error(409, "the effect was taken back");
        }
        let body = self.effects.entry(call.key.clone()).or_insert_with(|| {
            *self.made.entry(call.key.clone()).or_default() += 1;
            json!({ "key": call.key, "body": call.body })
        });
        Reply {
            status: 201,
            body: body.clone(),
        }
    }
}
