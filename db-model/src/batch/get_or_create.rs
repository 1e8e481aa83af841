//! Getting the row that has a unique key, or making it, in one statement that is right under contention.

use diesel::deserialize::FromSqlRow;
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_builder::{Query as DieselQuery, QueryFragment};
use diesel::query_dsl::CompatibleType;

use super::step::Step;

impl<U: Send + 'static> Step<U> {
    /// Inserts a row, or takes the one that has its unique key. Of many that race, all get the same.
    ///
    /// `query` is a Diesel INSERT with `on_conflict(key).do_update().set(key.eq(excluded(key)))
    /// .returning(..)`: the update changes nothing, and waits for whoever inserts the key. `do_nothing`
    /// would give no row when another has just inserted it, also beside a `SELECT` in the same
    /// statement, whose snapshot is from before the wait: it is refused when the batch is sent.
    ///
    /// It locks the row until the commit, and writes a new version of it: not for a row that much else
    /// waits for.
    pub fn get_or_create<Q, ST>(label: &'static str, query: Q) -> Self
    where
        Q: QueryFragment<Pg> + DieselQuery,
        Q::SqlType: CompatibleType<U, Pg, SqlType = ST>,
        U: FromSqlRow<ST, Pg>,
        Pg: QueryMetadata<Q::SqlType>,
        ST: 'static,
    {
        let rows = Step::<Vec<U>>::rows(label, query);
        let mut sent = rows.sent;
        sent.query = sent.query.and_then(|query| {
            if query.sql.contains(" DO UPDATE SET ") && query.sql.contains(" RETURNING ") {
                Ok(query)
            } else {
                let right = "INSERT .. ON CONFLICT .. DO UPDATE SET .. RETURNING ..";
                Err(format!(
                    "it is to get or create, and not of the form {right}"
                ))
            }
        });
        let read = rows.decode;
        let one = |mut rows: Vec<U>| match (rows.pop(), rows.len()) {
            (Some(row), 0) => Ok(row),
            (row, more) => Err(format!("{} rows, not 1", more + usize::from(row.is_some()))),
        };
        Self {
            sent,
            decode: Box::new(move |answer| read(answer).and_then(one)),
        }
    }
}
