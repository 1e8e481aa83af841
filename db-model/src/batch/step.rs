//! Steps: one statement as a value.
//!
//! SQL and binds are rendered from a typed Diesel query the moment the step is made, so that a step
//! is `'static + Send`: it can be stored, sent, and sent again unchanged.

use std::fmt;

use bytes::Bytes;
use diesel::deserialize::FromSqlRow;
use diesel::expression::QueryMetadata;
use diesel::pg::{Pg, PgMetadataLookup, PgQueryBuilder, PgTypeMetadata};
use diesel::query_builder::bind_collector::RawBytesBindCollector;
use diesel::query_builder::{Query as DieselQuery, QueryBuilder, QueryFragment};
use diesel::query_dsl::CompatibleType;

use super::flight::{Answer, Bind, Query, ServerError};
use super::guard::{Guard, Guarded};
use super::text;
use crate::constraint::Refusal;

/// One noun's table from a constraint's or guard's name to the domain's refusal. `None` for a name
/// that is not the noun's, or whose details do not read as they should: never a guess.
pub type Refusals = fn(constraint: &str, error: &ServerError) -> Option<Refusal>;

type Decode<T> = Box<dyn FnOnce(Answer) -> Result<T, String> + Send>;

/// One statement as a value, whose output is `T`.
#[must_use = "a step does nothing until its batch is committed"]
pub struct Step<T> {
    pub(super) sent: SentStep,
    pub(super) decode: Decode<T>,
}

/// What of a step goes to the server, and what reads its errors.
pub(super) struct SentStep {
    pub label: &'static str,
    pub query: Result<Query, String>,
    pub refusals: Refusals,
    pub locks: bool,
    /// The constraint that says that the batch has committed before, if this step holds its key.
    pub key: Option<&'static str>,
    /// Whether it is one of many of a kind, whose label others may have too.
    pub many: bool,
}

impl<T> fmt::Debug for Step<T> {
    /// Shows the SQL and no bind: binds may hold what nobody but the caller should read.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sql = self.sent.query.as_ref().map(|query| query.sql.as_ref());
        formatter
            .debug_struct("Step")
            .field("label", &self.sent.label)
            .field("sql", &sql)
            .finish()
    }
}

impl Step<()> {
    /// A write that must do exactly what its guard says, or the whole batch is aborted on the server.
    ///
    /// `query` is a Diesel INSERT, UPDATE or DELETE without a RETURNING clause.
    pub fn guarded<Q: QueryFragment<Pg>>(label: &'static str, query: Q, guard: Guard) -> Self {
        Self::new(label, &Guarded { query, guard }, |_| Ok(()))
    }

    /// A write that must touch exactly one row.
    pub fn exactly_one<Q: QueryFragment<Pg>>(label: &'static str, query: Q) -> Self {
        Self::guarded(label, query, Guard::affected(1, label))
    }

    /// A statement whose output and row count do not matter.
    pub fn statement<Q: QueryFragment<Pg>>(label: &'static str, query: Q) -> Self {
        Self::new(label, &query, |_| Ok(()))
    }
}

impl Step<u64> {
    /// A write that may touch any number of rows; its output is that number.
    pub fn count<Q: QueryFragment<Pg>>(label: &'static str, query: Q) -> Self {
        Self::new(label, &query, |answer| Ok(answer.affected))
    }
}

impl<U: Send + 'static> Step<Vec<U>> {
    /// A query; its output are all its rows.
    pub fn rows<Q, ST>(label: &'static str, query: Q) -> Self
    where
        Q: QueryFragment<Pg> + DieselQuery,
        Q::SqlType: CompatibleType<U, Pg, SqlType = ST>,
        U: FromSqlRow<ST, Pg>,
        Pg: QueryMetadata<Q::SqlType>,
        ST: 'static,
    {
        Self::new(label, &query, |answer| {
            let read = |row| U::build_from_row(row).map_err(|error| error.to_string());
            answer.rows.iter().map(read).collect()
        })
    }
}

impl<T> Step<T> {
    fn new<Q: QueryFragment<Pg>>(
        label: &'static str,
        query: &Q,
        decode: impl FnOnce(Answer) -> Result<T, String> + Send + 'static,
    ) -> Self {
        let query = render(query)
            .map_err(|error| format!("it cannot be rendered: {error}"))
            .and_then(|query| text::check(&query.sql).map(|()| query));
        let sent = SentStep {
            label,
            query,
            refusals: |_, _| None,
            locks: false,
            key: None,
            many: false,
        };
        Self {
            sent,
            decode: Box::new(decode),
        }
    }

    /// Names the table that reads this step's refusals.
    pub fn refused_by(mut self, refusals: Refusals) -> Self {
        self.sent.refusals = refusals;
        self
    }

    /// Marks that the step locks a quota or saga row, which bounds the size of its batch
    /// ([`crate::types::limits::BATCH_LOCKING_BYTES_MAX`]).
    pub fn locking(mut self) -> Self {
        self.sent.locks = true;
        self
    }

    /// Marks that the step writes the batch's key, which `constraint` makes unique. That constraint
    /// broken here means that the batch has committed before: [`super::BatchError::Recorded`].
    ///
    /// The step stands before every guard, and its key is made for this batch alone.
    pub fn key(mut self, constraint: &'static str) -> Self {
        self.sent.key = Some(constraint);
        self
    }
}

/// Renders SQL and binds as Diesel would send them.
fn render<Q: QueryFragment<Pg>>(query: &Q) -> diesel::QueryResult<Query> {
    let mut builder = PgQueryBuilder::default();
    query.to_sql(&mut builder, &Pg)?;
    let mut binds = RawBytesBindCollector::<Pg>::new();
    query.collect_binds(&mut binds, &mut BuiltinTypesOnly, &Pg)?;
    let bind = |(metadata, value): (PgTypeMetadata, Option<Vec<u8>>)| Bind {
        // 0 lets the server infer the type from the statement.
        oid: metadata.oid().unwrap_or(0),
        value: value.map(Bytes::from),
    };
    let binds = binds
        .metadata
        .into_iter()
        .zip(binds.binds)
        .map(bind)
        .collect();
    Ok(Query {
        sql: builder.finish().into(),
        binds,
    })
}

/// The schema has no types of its own; for any other the server infers the type.
struct BuiltinTypesOnly;

impl PgMetadataLookup for BuiltinTypesOnly {
    fn lookup_type(&mut self, _type_name: &str, _schema: Option<&str>) -> PgTypeMetadata {
        PgTypeMetadata::from_result(Ok((0, 0)))
    }
}
