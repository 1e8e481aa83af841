//! What a transaction asks of the server beside its statements: isolation and time-outs.

use std::time::Duration;

use bytes::Bytes;

use super::flight::{Bind, Query};

/// How far a transaction is kept apart from others. A transaction of a stricter level than the first
/// may have to run again as a whole (40001).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it began. Guarded updates need no more.
    #[default]
    ReadCommitted,
    /// All statements see what was committed before the first one.
    RepeatableRead,
    /// As if transactions ran one after the other.
    Serializable,
}

impl Isolation {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::ReadCommitted => "READ COMMITTED",
            Self::RepeatableRead => "REPEATABLE READ",
            Self::Serializable => "SERIALIZABLE",
        }
    }
}

/// The time-outs of one transaction; those of the session hold where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub lock: Option<Duration>,
    pub statement: Option<Duration>,
    pub idle: Option<Duration>,
}

impl Timeouts {
    /// The statement that sets them until the transaction ends. `set_config` says the same as SET LOCAL,
    /// and the server does not warn of it in a transaction without BEGIN.
    pub fn query(&self) -> Option<Query> {
        let wanted = [
            ("lock_timeout", self.lock),
            ("statement_timeout", self.statement),
            ("idle_in_transaction_session_timeout", self.idle),
        ];
        let mut calls = Vec::new();
        let mut binds = Vec::new();
        for (name, timeout) in wanted {
            if let Some(timeout) = timeout {
                binds.push(milliseconds(timeout));
                calls.push(format!("set_config('{name}', ${}, true)", binds.len()));
            }
        }
        let sql = format!("SELECT {}", calls.join(", ")).into();
        (!binds.is_empty()).then_some(Query { sql, binds })
    }
}

/// The setting's value; never 0, which would be none at all.
fn milliseconds(timeout: Duration) -> Bind {
    let value = format!("{}ms", timeout.as_millis().max(1));
    Bind {
        oid: 0,
        value: Some(Bytes::from(value)),
    }
}

/// The settings of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub isolation: Isolation,
    pub timeouts: Timeouts,
}

impl Settings {
    /// The first of these settings that is asked for and that another transaction does not have.
    pub fn lost_in(&self, whole: &Self) -> Option<&'static str> {
        let lost = |wanted: Option<Duration>, has| wanted.is_some() && wanted != has;
        let (wanted, has) = (&self.timeouts, &whole.timeouts);
        if self.isolation != Isolation::default() && self.isolation != whole.isolation {
            return Some("an isolation level");
        }
        if lost(wanted.lock, has.lock) {
            return Some("a lock time-out");
        }
        lost(wanted.statement, has.statement).then_some("a statement time-out")
    }

    /// What has to go before the steps of a transaction that has no BEGIN to say it in.
    pub fn queries(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        if self.isolation != Isolation::default() {
            queries.push(plain(format!(
                "SET TRANSACTION ISOLATION LEVEL {}",
                self.isolation.sql()
            )));
        }
        queries.extend(self.timeouts.query());
        queries
    }
}

/// A statement without parameters.
pub(super) fn plain(sql: impl Into<std::sync::Arc<str>>) -> Query {
    Query {
        sql: sql.into(),
        binds: Vec::new(),
    }
}
