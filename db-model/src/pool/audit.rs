//! Asking the server what the last user of a session has left in it.

use crate::batch::flight::{Flight, FlightError, Query};
use crate::connect::SESSION_TIMES;
use crate::types::limits::BATCH_DEADLINE;
use diesel_async::AsyncPgConnection;
use std::sync::{Arc, LazyLock};

/// Why a session could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditError {
    #[error(transparent)]
    Flight(#[from] FlightError),
    #[error(transparent)]
    Diesel(#[from] diesel::result::Error),
}

/// One row with one text: what is left, empty when nothing is. The question itself takes locks on what it reads, and
/// nothing but those.
const LEFT: &str = "\
SELECT concat_ws(', ',
  'transaction ' || pg_current_xact_id_if_assigned()::text,
  (SELECT count(*) || ' locks' FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype NOT IN ('virtualxid', 'relation') HAVING count(*) > 0),
  CASE WHEN pg_my_temp_schema() <> 0 THEN 'temporary tables' END,
  (SELECT 'listening to ' || string_agg(channel, ' and ') FROM pg_listening_channels() AS channel),
  (SELECT count(*) || ' prepared statements' FROM pg_prepared_statements WHERE from_sql HAVING count(*) > 0),
  (SELECT count(*) || ' open cursors' FROM pg_cursors WHERE is_holdable HAVING count(*) > 0),
  (SELECT 'changed settings: ' || string_agg(name || ' = ' || setting, ' and ') FROM pg_settings
    WHERE source = 'session' AND name NOT LIKE 'transaction\\_%'
    AND (name, setting) NOT IN (VALUES $SETTINGS))
) AS left_behind";

/// The question, with what is set when a session is opened.
static QUESTION: LazyLock<Arc<str>> = LazyLock::new(|| {
    let mut settings = String::from(
        "('TimeZone', 'UTC'), ('client_encoding', 'UTF8'), ('default_transaction_read_only', 'on')",
    );
    for (name, value) in SESSION_TIMES {
        settings.push_str(&format!(", ('{name}', '{}')", value.as_millis()));
    }
    LEFT.replace("$SETTINGS", &settings).into()
});

#[derive(diesel::QueryableByName)]
struct Left {
    #[diesel(sql_type = diesel::sql_types::Text)]
    left_behind: String,
}

/// Asks a flight, in one round trip.
pub(super) async fn of_flight(flight: &mut Flight) -> Result<String, AuditError> {
    let question = Query {
        sql: Arc::clone(&QUESTION),
        binds: Vec::new(),
    };
    let answers = flight.fly(&[question], BATCH_DEADLINE).await?;
    let row = answers.first().and_then(|answer| answer.rows.first());
    let text = row.and_then(|row| row.value(0)).unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Asks a Diesel session; the first time takes a round trip more, to prepare the question.
pub(super) async fn of_reader(session: &mut AsyncPgConnection) -> Result<String, AuditError> {
    use diesel_async::RunQueryDsl;
    let rows: Vec<Left> = diesel::sql_query(&**QUESTION).load(session).await?;
    Ok(rows.into_iter().map(|row| row.left_behind).collect())
}
