//! Guards: server-side functions that abort the batch when a step did not touch the right rows.
//!
//! A zero-row UPDATE aborts nothing by itself, and there is no client between the statements of a
//! batch that could look. So the step becomes a CTE whose row count goes to a guard function, which
//! raises when the count is wrong. The aggregate gives one row in any case, so the guard always runs.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

/// A guard function and what it is told beside the number of rows touched.
#[derive(Clone, Debug)]
pub struct Guard {
    function: &'static str,
    arguments: Vec<Argument>,
}

#[derive(Clone, Debug)]
enum Argument {
    Id(Uuid),
    Number(Option<i64>),
    Text(String),
}

impl Guard {
    /// A guard by the name of its function, which takes the rows touched first.
    pub const fn new(function: &'static str) -> Self {
        Self {
            function,
            arguments: Vec::new(),
        }
    }

    /// The generic guard: exactly `wanted` rows, or the refusal `affected` with the step's label.
    pub fn affected(wanted: i64, label: &str) -> Self {
        Self::new("guard_affected").number(wanted).text(label)
    }

    /// Adds an id.
    pub fn id(mut self, id: Uuid) -> Self {
        self.arguments.push(Argument::Id(id));
        self
    }

    /// Adds a number.
    pub fn number(self, number: i64) -> Self {
        self.number_or_null(Some(number))
    }

    /// Adds a number that may be absent.
    pub fn number_or_null(mut self, number: Option<i64>) -> Self {
        self.arguments.push(Argument::Number(number));
        self
    }

    /// Adds a text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.arguments.push(Argument::Text(text.into()));
        self
    }
}

/// `WITH step AS (<query> RETURNING 1) SELECT <guard>(count(*), ..) FROM step`.
///
/// The query is an INSERT, UPDATE or DELETE without a RETURNING clause of its own.
#[derive(Debug)]
pub(super) struct Guarded<Q> {
    pub query: Q,
    pub guard: Guard,
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Guarded<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH step AS (");
        self.query.walk_ast(out.reborrow())?;
        out.push_sql(" RETURNING 1) SELECT ");
        out.push_sql(self.guard.function);
        out.push_sql("(count(*)");
        for argument in &self.guard.arguments {
            out.push_sql(", ");
            match argument {
                Argument::Id(id) => out.push_bind_param::<SqlUuid, _>(id)?,
                Argument::Number(number) => out.push_bind_param::<Nullable<BigInt>, _>(number)?,
                Argument::Text(text) => out.push_bind_param::<Text, _>(text)?,
            }
        }
        out.push_sql(") FROM step");
        Ok(())
    }
}
