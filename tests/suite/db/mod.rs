//! What the database layer promises, against a real PostgreSQL.

mod adoption;
mod bench;
mod catalog;
mod connect;
mod embedded;
mod error_matrix;
mod feed;
mod flight;
mod guards;
mod lost;
mod migrate;
mod pool;
pub mod private;
mod purge;
mod raw;
mod schema;
mod sqlstate;

use db_model::batch::flight::{Answer, Bind, Flight, FlightError, Query};
use db_model::connect::ConnectOptions;
use nexus_tests::SOON;

fn query(sql: impl AsRef<str>) -> Query {
    Query {
        sql: sql.as_ref().into(),
        binds: Vec::new(),
    }
}

fn with_ints(sql: &str, values: &[i32]) -> Query {
    let bind = |value: &i32| Bind {
        oid: 0,
        value: Some(value.to_be_bytes().to_vec().into()),
    };
    Query {
        sql: sql.into(),
        binds: values.iter().map(bind).collect(),
    }
}

fn with_text(sql: &str, value: &str) -> Query {
    let value = Some(value.as_bytes().to_vec().into());
    Query {
        sql: sql.into(),
        binds: vec![Bind { oid: 0, value }],
    }
}

/// The integer in the first column of the first row.
fn int(answer: &Answer) -> i64 {
    let value = answer.rows[0].value(0).unwrap();
    value
        .iter()
        .fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

fn options(url: &str) -> ConnectOptions {
    ConnectOptions::parse(url).unwrap()
}

async fn fly(flight: &mut Flight, statements: &[&str]) -> Result<Vec<Answer>, FlightError> {
    let queries: Vec<Query> = statements.iter().map(query).collect();
    flight.fly(&queries, SOON).await
}
