//! How a transaction ended whose COMMIT was answered by nobody.
//!
//! A transaction has no key by which a second run would find out, but the server numbers what it
//! commits. The number is asked for in an earlier flight than the COMMIT, and answers only on the same
//! server and timeline: after a fail-over the same number may be another transaction. These functions
//! are PostgreSQL's own; they stand here and nowhere else.

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
    /// The database system and its timeline.
    server: String,
}

const SERVER: &str = "\
(SELECT system_identifier::text FROM pg_control_system()) || ' ' || \
left(pg_walfile_name(pg_current_wal_lsn()), 8)";

impl Identity {
    /// Asks for it. Inside a failed transaction it fails.
    pub fn query() -> Query {
        plain(format!(
            "SELECT pg_current_xact_id_if_assigned()::text, \
             CASE WHEN pg_current_xact_id_if_assigned() IS NOT NULL THEN {SERVER} END"
        ))
    }

    /// `None` for a transaction that has written nothing.
    pub fn read(answer: &Answer) -> Option<Self> {
        let row = answer.rows.first()?;
        Some(Self {
            xid: row.text(0)?.to_owned(),
            server: row.text(1)?.to_owned(),
        })
    }
}

/// What the server says of a transaction that was lost at its commit.
pub(super) enum Resolution {
    Committed,
    Aborted,
    Unknown(String),
}

#[derive(QueryableByName)]
struct Status {
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<String>,
    #[diesel(sql_type = Text)]
    server: String,
}

/// Asks the server until it has decided. It may still be deciding: a COMMIT may be under way, or wait
/// for a stand-by.
pub(super) async fn resolve(writes: &WritePool, identity: Option<Identity>) -> Resolution {
    let Some(Identity { xid, server }) = identity else {
        // It had written nothing, so there was nothing to commit.
        return Resolution::Aborted;
    };
    let until = Instant::now() + TRANSACTION_RESOLVE_WAIT;
    let mut last;
    loop {
        let sql = format!("SELECT pg_xact_status($1::xid8) AS status, {SERVER} AS server");
        let query = diesel::sql_query(sql).bind::<Text, _>(xid.clone());
        let ask = Batch::new().step(Step::<Vec<Status>>::rows("transaction.resolve", query));
        match ask.commit(writes).await {
            Ok((rows,)) => match rows.into_iter().next() {
                Some(Status { server: found, .. }) if found != server => {
                    let message = format!("transaction {xid} was on another server or timeline");
                    return Resolution::Unknown(message);
                }
                Some(Status {
                    status: Some(status),
                    ..
                }) if status == "committed" => {
                    return Resolution::Committed;
                }
                Some(Status {
                    status: Some(status),
                    ..
                }) if status == "aborted" => {
                    return Resolution::Aborted;
                }
                Some(Status {
                    status: Some(status),
                    ..
                }) => last = format!("it is {status}"),
                _ => return Resolution::Unknown(format!("the server has forgotten {xid}")),
            },
            Err(error) => last = error.to_string(),
        }
        if Instant::now() + TRANSACTION_RESOLVE_PAUSE >= until {
            return Resolution::Unknown(last);
        }
        tokio::time::sleep(TRANSACTION_RESOLVE_PAUSE).await;
    }
}
