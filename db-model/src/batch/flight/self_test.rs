//! Asks an engine whether the promise that batches stand on holds there.

use super::{Flight, FlightError, Query};
use std::time::Duration;

/// Why an engine is refused.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// A statement before a failed one in the same pipeline has stayed.
    #[error("this database does not run a pipeline as one transaction")]
    NotAtomic,
    /// The statement that must fail did not.
    #[error("this database accepts a division by zero")]
    NothingFailed,
    /// The test could not be run.
    #[error("the self-test of the database could not be run")]
    Flight(#[from] FlightError),
}

impl Flight {
    /// Sends two statements in one pipeline of which the second fails, and looks whether the first is gone. Uses a
    /// temporary table, so that it writes where no other session looks.
    ///
    /// # Errors
    /// If the first statement has stayed, or the test could not be run.
    pub async fn self_test(&mut self, deadline: Duration) -> Result<(), SelfTestError> {
        const INSERT: &str = "insert into nexus_self_test values (1)";
        self.fly(
            &[plain(
                "create temporary table if not exists nexus_self_test (id int)",
            )],
            deadline,
        )
        .await?;
        match self
            .fly(&[plain(INSERT), plain("select 1 / 0")], deadline)
            .await
        {
            Err(FlightError::Refused { index: 1, .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(SelfTestError::NothingFailed),
        }
        let answers = self
            .fly(
                &[
                    plain("select id from nexus_self_test"),
                    plain("drop table nexus_self_test"),
                ],
                deadline,
            )
            .await?;
        match answers.first() {
            Some(answer) if answer.rows.is_empty() => Ok(()),
            _ => Err(SelfTestError::NotAtomic),
        }
    }
}

fn plain(sql: &str) -> Query {
    Query {
        sql: sql.into(),
        binds: Vec::new(),
    }
}
