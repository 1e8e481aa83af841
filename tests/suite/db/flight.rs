//! Flights on a real server: what is on the wire, what an error leaves, and what a lost session means.

use super::server::Server;
use db_model::batch::flight::{Answer, Bind, Flight, FlightError, Query};
use db_model::connect::ConnectOptions;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn query(sql: &str) -> Query {
    Query {
        sql: sql.into(),
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

fn int(answer: &Answer) -> i64 {
    let value = answer.rows[0].value(0).unwrap();
    value
        .iter()
        .fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

async fn flight(url: &str) -> Flight {
    Flight::connect(&ConnectOptions::parse(url).unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_failed_step_is_named_and_nothing_is_left() {
    let server = Server::start("", &[]);
    let database = server.database();
    let mut flight = flight(&server.socket_url(&database)).await;
    flight.self_test(SOON).await.unwrap();
    flight
        .fly(
            &[query(
                "create table item (id int constraint item_pkey primary key)",
            )],
            SOON,
        )
        .await
        .unwrap();
    for _ in 0..300 {
        let insert = "insert into item values ($1)";
        let batch = [
            with_ints(insert, &[1]),
            with_ints(insert, &[2]),
            with_ints(insert, &[1]),
            query("select 1"),
        ];
        let Err(FlightError::Refused { index: 2, error }) = flight.fly(&batch, SOON).await else {
            panic!()
        };
        assert_eq!(
            (error.sqlstate.as_str(), error.constraint.as_deref()),
            ("23505", Some("item_pkey"))
        );
        assert!(flight.is_clean());
        let answers = flight
            .fly(&[query("select count(*) from item")], SOON)
            .await
            .unwrap();
        assert_eq!(int(&answers[0]), 0);
    }
}
