//! Group B: what a transaction is, and what is left of it after an error.

use db_model::batch::{Batch, Isolation, Options, Outcome, Step};
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use nexus_tests::TestDatabase;

use super::sql;

#[derive(Debug, PartialEq, QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

async fn with_table() -> TestDatabase {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let table = "CREATE TABLE item (id bigint CONSTRAINT item_pkey PRIMARY KEY)";
    client.batch_execute(table).await.unwrap();
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b09_a_cancelled_section_leaves_the_rest_of_the_transaction() {
    let database = with_table().await;
    let mut pools = database.pools();
    let outcome = pools
        .transact(Options::new("test"), |tx| async {
            let (tx, ()) = tx.run(sql("a", "INSERT INTO item VALUES (1)")).await?;
            let (tx, inner) = tx
                .section("inner", |tx| async {
                    let (tx, ()) = tx.run(sql("b", "INSERT INTO item VALUES (2)")).await?;
                    let (tx, ()) = tx.run(sql("b2", "INSERT INTO item VALUES (1)")).await?;
                    Ok((tx, ()))
                })
                .await?;
            assert!(inner.is_err());
            let (tx, ()) = tx.run(sql("c", "INSERT INTO item VALUES (3)")).await?;
            let (tx, inner) = tx
                .section("well", |tx| async {
                    let (tx, ()) = tx.run(sql("d", "INSERT INTO item VALUES (4)")).await?;
                    Ok((tx, 7))
                })
                .await?;
            assert_eq!(inner.unwrap(), 7);
            tx.run(Step::<Vec<Id>>::rows(
                "list",
                diesel::sql_query("SELECT id FROM item ORDER BY id"),
            ))
            .await
        })
        .await;
    let Outcome::Committed {
        value, attempts, ..
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(attempts, 1);
    assert_eq!(value, [Id { id: 1 }, Id { id: 3 }, Id { id: 4 }]);
    assert_eq!(database.number("SELECT count(*) FROM item").await, 3);
    let batch = Batch::new()
        .isolation(Isolation::Serializable)
        .lock_timeout(std::time::Duration::from_millis(50))
        .step(sql("x", "INSERT INTO item SELECT 5 WHERE current_setting('transaction_isolation') = 'serializable' AND current_setting('lock_timeout') = '50ms'"));
    batch.commit(&pools.writes).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM item").await, 4);
    database.assert_books_balance().await;
}
