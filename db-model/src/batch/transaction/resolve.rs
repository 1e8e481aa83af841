//! How a transaction ended whose COMMIT was answered by nobody.
//!
//! A transaction has no key by which a second run would find out, but the server numbers what it
//! commits. The number is asked for in an earlier flight than the COMMIT, and answers only on the same
//! server and timeline: after a fail-over the same number may be another transaction. After a crash it
//! may be, too, if nothing of the first had reached the disk; so "committed" is believed only when the
//! server has not crashed since. These functions are PostgreSQL's own; they stand here and nowhere else.

use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text};
use tokio::time::Instant;

use crate::batch::flight::{Answer, Query};
use crate::batch::settings::plain;
use crate::batch::{Batch, Step};
use crate::pool::WritePool;
use crate::types::limits::{TRANSACTION_RESOLVE_PAUSE, TRANSACTION_RESOLVE_WAIT};

/// Which transaction it is to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    xid: String,
    /// The database system and its timeline; empty where it cannot be told.
    server: String,
    /// Since when the server has not crashed; empty where it cannot be told.
    epoch: String,
}

/// The number of the transaction, once it has one.
const XID: &str = "pg_current_xact_id_if_assigned()::text";

const SERVER: &str = "\
(SELECT system_identifier::text FROM pg_control_system()) || ' ' || \
left(pg_walfile_name(pg_current_wal_lsn()), 8)";

/// A crash makes the server forget its statistics; a restart in good order does not.
const EPOCH: &str = "(SELECT stats_reset::text FROM pg_stat_bgwriter)";

impl Identity {
    /// Asks for it. Inside a failed transaction it fails.
    pub fn query() -> Query {
        plain(format!(
            "SELECT xid, CASE WHEN xid IS NOT NULL THEN {SERVER} END, \
             CASE WHEN xid IS NOT NULL THEN {EPOCH} END FROM (SELECT {XID} AS xid) AS own"
        ))
    }

    /// `None` for a transaction that has written nothing.
    pub fn read(answer: &Answer) -> Option<Self> {
        let row = answer.rows.first()?;
        Some(Self {
            xid: row.text(0)?.to_owned(),
            server: row.text(1).unwrap_or_default().to_owned(),
            epoch: row.text(2).unwrap_or_default().to_owned(),
        })
    }

    /// Looks whether it is still the same transaction, and whether it has failed: then it fails, too.
    pub fn probe() -> Query {
        plain(format!("SELECT {XID}"))
    }

    /// Whether a probe has found this transaction.
    pub fn is_probed(&self, probe: &Answer) -> bool {
        let row = probe.rows.first();
        row.and_then(|row| row.text(0)) == Some(&self.xid)
    }
}

/// What the server says of a transaction that was lost at its commit.
#[derive(Debug)]
pub(super) enum Resolution {
    Committed,
    Aborted,
    Unknown(String),
}

#[derive(Debug, QueryableByName)]
struct Found {
    /// `never` for a number that was not given yet.
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    server: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    epoch: Option<String>,
}

/// What an answer says; nothing while the server is still deciding.
fn judge(identity: &Identity, found: &Found) -> Option<Resolution> {
    let Identity { xid, server, epoch } = identity;
    if server.is_empty() || found.server.as_ref() != Some(server) {
        let message = format!("transaction {xid} was on another server or timeline");
        return Some(Resolution::Unknown(message));
    }
    let crashed = epoch.is_empty() || found.epoch.as_ref() != Some(epoch);
    match (found.status.as_deref(), crashed) {
        (Some("committed"), false) => Some(Resolution::Committed),
        (Some("committed"), true) => Some(Resolution::Unknown(format!(
            "the server has crashed since, and may have given the number {xid} to another transaction"
        ))),
        // A number that was given again, or never, was not in what the crash has left.
        (Some("aborted" | "never"), _) | (Some("in progress"), true) => Some(Resolution::Aborted),
        (Some(_), _) => None,
        (None, _) => Some(Resolution::Unknown(format!(
            "the server has forgotten {xid}"
        ))),
    }
}

/// Asks the server until it has decided. It may still be deciding: a COMMIT may be under way, or wait
/// for a stand-by.
pub(super) async fn resolve(writes: &WritePool, identity: Option<Identity>) -> Resolution {
    let Some(identity) = identity else {
        // It had written nothing, so there was nothing to commit.
        return Resolution::Aborted;
    };
    let until = Instant::now() + TRANSACTION_RESOLVE_WAIT;
    loop {
        // The number of this very transaction is the next one. To ask for one that was not given yet is an
        // error.
        let sql = format!(
            "SELECT CASE WHEN pg_current_xact_id() > $1::xid8 THEN pg_xact_status($1::xid8) \
             ELSE 'never' END AS status, {SERVER} AS server, {EPOCH} AS epoch"
        );
        let query = diesel::sql_query(sql).bind::<Text, _>(identity.xid.clone());
        let ask = Batch::new().step(Step::<Vec<Found>>::rows("transaction.resolve", query));
        let last = match ask.commit_within(writes, TRANSACTION_RESOLVE_WAIT).await {
            Ok((rows,)) => match rows.first().map(|found| judge(&identity, found)) {
                Some(Some(resolution)) => return resolution,
                Some(None) => "it is still in progress".to_owned(),
                None => "the server gave no row".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        if Instant::now() + TRANSACTION_RESOLVE_PAUSE >= until {
            return Resolution::Unknown(last);
        }
        tokio::time::sleep(TRANSACTION_RESOLVE_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: Option<&str>, server: Option<&str>, epoch: Option<&str>) -> &'static str {
        let identity = Identity {
            xid: "7".to_owned(),
            server: "server 1".to_owned(),
            epoch: "monday".to_owned(),
        };
        let found = Found {
            status: status.map(str::to_owned),
            server: server.map(str::to_owned),
            epoch: epoch.map(str::to_owned),
        };
        match judge(&identity, &found) {
            Some(Resolution::Committed) => "committed",
            Some(Resolution::Aborted) => "aborted",
            Some(Resolution::Unknown(_)) => "unknown",
            None => "wait",
        }
    }

    #[test]
    fn the_server_is_believed_where_it_can_know() {
        let (here, since) = (Some("server 1"), Some("monday"));
        assert_eq!(told(Some("committed"), here, since), "committed");
        assert_eq!(told(Some("aborted"), here, since), "aborted");
        assert_eq!(told(Some("in progress"), here, since), "wait");
        assert_eq!(told(None, here, since), "unknown");
        for crashed in [Some("tuesday"), None] {
            assert_eq!(told(Some("committed"), here, crashed), "unknown");
            for status in ["aborted", "never", "in progress"] {
                assert_eq!(told(Some(status), here, crashed), "aborted", "{status}");
            }
        }
        for elsewhere in [Some("server 2"), Some("other 1"), Some(""), None] {
            for status in ["committed", "aborted", "never", "in progress"] {
                assert_eq!(told(Some(status), elsewhere, since), "unknown", "{status}");
            }
        }
    }
}
