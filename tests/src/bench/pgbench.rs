//! The same SQL by pgbench, which is C and does nothing but send it: what the server can do.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use db_model::Database;
use db_model::batch::{Batch, Step};
use diesel::QueryableByName;
use diesel::sql_types::Text;
use tempfile::NamedTempFile;
use tokio::process::Command;
use uuid::Uuid;

use super::load::{Done, Load, Rows};
use super::model::{EVENT_KIND, MEMORY_BYTES, Model, VCPUS, event_data};
use super::place::{PROJECTS, project_id};
use super::target::{Server, Target};
use super::variant::Variant;

/// Transactions of one client in one run at most; the digits of an id leave room for no more.
const CLIENT_TRANSACTIONS_MAX: u64 = 1_000_000;
/// Clients of one run at most, for the same reason.
pub const CLIENTS_MAX: usize = 1_000;
/// Runs of one process at most, for the same reason.
const RUNS_MAX: u64 = 900;

/// pgbench on one database.
#[derive(Debug)]
pub struct Pgbench {
    program: PathBuf,
    user: String,
    database: String,
    statements: Vec<String>,
    runs: u64,
}

#[derive(QueryableByName)]
struct Prepared {
    #[diesel(sql_type = Text)]
    statement: String,
}

impl Pgbench {
    /// Learns from the server which statements it runs for a [`Batch`]. The pool must be of one session.
    ///
    /// # Errors
    /// When the program is not there, or the server cannot be asked.
    pub async fn new(server: &Server, database: &Database) -> Result<Self> {
        let program = server.programs().join("pgbench");
        ensure!(
            program.exists(),
            "there is no {}: it comes with PostgreSQL, in some distributions as postgresql-contrib",
            program.display()
        );
        let list = "SELECT statement FROM pg_prepared_statements WHERE statement NOT LIKE 'SELECT%' \
                    ORDER BY prepare_time, name";
        // What was parsed stays in the list; the project is not there, so each batch is refused.
        let model = Model::draw(Uuid::nil());
        for batch in [
            Batch::new().step(model.charge_step()).discard(),
            Batch::new().step(model.instance_step()).discard(),
            Batch::new()
                .step(model.event_step())
                .step(model.charge_step())
                .discard(),
        ] {
            let committed = batch.commit(&database.writes).await.is_ok();
            ensure!(!committed, "a project that is not there was charged");
        }
        let step = Step::<Vec<Prepared>>::rows("statements", diesel::sql_query(list));
        let (prepared,) = Batch::new().step(step).commit(&database.writes).await?;
        let statements: Vec<_> = prepared.into_iter().map(|row| row.statement).collect();
        ensure!(
            statements.len() == 3,
            "the server has prepared {statements:?}, and not the three statements of the model"
        );
        Ok(Self {
            program,
            user: server.user().to_owned(),
            database: server.database().to_owned(),
            statements,
            runs: 0,
        })
    }

    /// One run of some time. Its first second warms the sessions up and does not count.
    ///
    /// # Errors
    /// When pgbench fails, or any of its transactions does.
    pub async fn run(&mut self, variant: Variant, target: &Target, load: Load) -> Result<Done> {
        let threads = std::thread::available_parallelism()?.get();
        let length = [
            ("-T", load.seconds + 1),
            ("-P", 1),
            ("-c", load.sessions as u64),
            ("-j", threads.min(load.sessions) as u64),
        ];
        let text = self.start(variant, target, load.rows, &length).await?;
        read(&text).with_context(|| format!("pgbench said: {text}"))
    }

    /// One client and so many transactions.
    ///
    /// # Errors
    /// When pgbench fails, or any of its transactions does.
    pub async fn run_some(
        &mut self,
        variant: Variant,
        target: &Target,
        transactions: u64,
    ) -> Result<()> {
        let length = [("-t", transactions)];
        let text = self.start(variant, target, Rows::Spread, &length).await?;
        let done = acknowledged(&text).with_context(|| format!("pgbench said: {text}"))?;
        ensure!(
            done == transactions,
            "pgbench did {done} of {transactions}: {text}"
        );
        Ok(())
    }

    async fn start(
        &mut self,
        variant: Variant,
        target: &Target,
        rows: Rows,
        length: &[(&str, u64)],
    ) -> Result<String> {
        self.runs += 1;
        ensure!(self.runs < RUNS_MAX, "more than {RUNS_MAX} runs of pgbench");
        let mut file = NamedTempFile::new().context("a file for pgbench's script")?;
        file.write_all(self.script(variant, rows)?.as_bytes())
            .context("writing pgbench's script")?;
        let protocol = match variant {
            Variant::Pipeline => "prepared",
            _ => "simple",
        };
        let mut command = Command::new(&self.program);
        for (flag, number) in length {
            command.args([flag, number.to_string().as_str()]);
        }
        let output = command
            .kill_on_drop(true)
            .env_remove("PGOPTIONS")
            .args(["-n", "-M", protocol, "-U", &self.user])
            .args(["-h", &target.host, "-p", &target.port.to_string()])
            .args(["-D", "n=0", "-D", &format!("run={}", 100 + self.runs - 1)])
            .arg("-f")
            .arg(file.path())
            .arg(&self.database)
            .output()
            .await
            .with_context(|| format!("starting {}", self.program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(output.status.success(), "pgbench failed: {text}");
        Ok(text)
    }

    /// The script: the statements of the batch with values, or pgbench's variables, in place of parameters.
    fn script(&self, variant: Variant, rows: Rows) -> Result<String> {
        let first = project_number(1);
        let project = match rows {
            Rows::Hot => first,
            Rows::Spread => format!("random({first}, {})", project_number(PROJECTS)),
        };
        let mut script = format!(
            "\\set project {project}\n\\set n :n + 1\n\
             \\set id (:run * {CLIENTS_MAX} + :client_id) * {CLIENT_TRANSACTIONS_MAX} + :n\n"
        );
        let values: Values = match variant {
            Variant::OneMessage => Values {
                id: "'00000000-0000-0000-0000-:id'",
                project: "'00000000-0000-0000-0000-:project'",
                name: "'i:id'",
            },
            Variant::Pipeline => Values {
                id: "lpad(:id::text, 32, '0')::uuid",
                project: "lpad(:project::text, 32, '0')::uuid",
                name: "'i' || :id::text",
            },
            other => bail!("{} is not pgbench's", other.name()),
        };
        let binds = [values.charge(), values.instance(), values.event()];
        let mut statements = Vec::new();
        for (sql, binds) in self.statements.iter().zip(&binds) {
            statements.push(filled(sql, binds)?);
        }
        script += &match variant {
            Variant::OneMessage => {
                format!("BEGIN \\;\n{} \\;\nCOMMIT;\n", statements.join(" \\;\n"))
            }
            _ => format!(
                "\\startpipeline\n{};\n\\endpipeline\n",
                statements.join(";\n")
            ),
        };
        Ok(script)
    }
}

/// The last digits of a project's id.
fn project_number(number: u64) -> String {
    project_id(number).simple().to_string()[20..].to_owned()
}

/// What differs from transaction to transaction, as SQL.
struct Values {
    id: &'static str,
    project: &'static str,
    name: &'static str,
}

const TIME: &str = "'2026-01-01 UTC'";

impl Values {
    fn charge(&self) -> Vec<String> {
        let (vcpus, memory) = (VCPUS.to_string(), MEMORY_BYTES.to_string());
        let binds = [
            "1",
            &vcpus,
            &memory,
            "1",
            self.id,
            TIME,
            self.project,
            "true",
            "1",
            &vcpus,
            &memory,
            self.project,
            "1",
            &vcpus,
            &memory,
        ];
        binds.map(str::to_owned).into()
    }

    fn instance(&self) -> Vec<String> {
        let (vcpus, memory) = (VCPUS.to_string(), MEMORY_BYTES.to_string());
        let binds = [
            self.id,
            self.project,
            self.name,
            "''",
            &vcpus,
            &memory,
            "'stopped'",
            "1",
            self.id,
            TIME,
            TIME,
            self.project,
            self.name,
        ];
        binds.map(str::to_owned).into()
    }

    fn event(&self) -> Vec<String> {
        let (kind, data) = (format!("'{EVENT_KIND}'"), format!("'{}'", event_data()));
        let binds = [self.id, "0", &kind, &data, TIME, "2", "1"];
        binds.map(str::to_owned).into()
    }
}

/// A statement with values in place of `$1`, `$2`, ..
fn filled(sql: &str, binds: &[String]) -> Result<String> {
    let mut filled = sql.to_owned();
    for (index, value) in binds.iter().enumerate().rev() {
        let place = format!("${}", index + 1);
        ensure!(filled.contains(&place), "no {place} in {sql}");
        filled = filled.replace(&place, value);
    }
    ensure!(
        !filled.contains('$'),
        "more than {} parameters in {sql}",
        binds.len()
    );
    Ok(filled)
}

/// What a run has done: the rate after the first second, and how many transactions in all.
fn read(text: &str) -> Result<Done> {
    let acknowledged = acknowledged(text)?;
    let mut rates = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("progress: ")) {
        let rate = line.split(", ").nth(1);
        rates.push(number(rate.context("a line of progress without a rate")?)?);
    }
    let per_second = match rates.as_slice() {
        [] => bail!("no progress after the first second"),
        // The line of the last second is missing when that ends a little early.
        [first] => {
            let all = acknowledged as f64;
            (all - first) / (all / number(after(text, "tps = ")?)? - 1.0)
        }
        [_, counted @ ..] => counted.iter().sum::<f64>() / counted.len() as f64,
    };
    Ok(Done {
        acknowledged,
        per_second,
    })
}

/// How many transactions a run has done, none of which may have failed.
fn acknowledged(text: &str) -> Result<u64> {
    let failed = number(after(text, "number of failed transactions: ")?)?;
    ensure!(failed == 0.0, "{failed} transactions failed");
    Ok(number(after(text, "number of transactions actually processed: ")?)? as u64)
}

/// The rest of the line that begins with a prefix.
fn after<'a>(text: &'a str, prefix: &str) -> Result<&'a str> {
    let found = text.lines().find_map(|line| line.strip_prefix(prefix));
    found.with_context(|| format!("no line {prefix:?}"))
}

/// The number with which a text begins.
fn number(text: &str) -> Result<f64> {
    let word = text.split([' ', '/']).next().unwrap_or_default();
    word.parse()
        .with_context(|| format!("{word:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: &str = "number of transactions actually processed: 3000\n\
                         number of failed transactions: 0 (0.000%)\n\
                         tps = 1500.0 (without initial connection time)\n\
                         progress: 1.0 s, 1200.0 tps, lat 8.2 ms stddev 9.8, 0 failed\n";

    #[test]
    fn the_first_second_does_not_count() {
        let last = "progress: 2.0 s, 1700.0 tps, lat 8.2 ms stddev 9.8, 0 failed\n";
        let done = read(&format!("{TOTAL}{last}")).unwrap();
        assert_eq!((done.acknowledged, done.per_second), (3000, 1700.0));
        assert_eq!(read(TOTAL).unwrap().per_second, 1800.0);
    }

    #[test]
    fn a_failed_transaction_is_no_result() {
        let failed = TOTAL.replace("failed transactions: 0", "failed transactions: 2");
        assert!(read(&failed).is_err());
    }
}
