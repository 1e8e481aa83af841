//! What is refused by its text, and what only looks like it.

use super::{changes_session, check};

#[test]
fn what_ends_or_divides_the_transaction_is_refused_and_does_not_change_the_session() {
    for sql in [
        "BEGIN",
        "begin isolation level serializable",
        "START TRANSACTION",
        "COMMIT",
        "commit and chain",
        "END",
        "ROLLBACK",
        "rollback to savepoint a",
        "ABORT",
        "SAVEPOINT a",
        "RELEASE a",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "\n\t -- a comment\n /* another /* inside */ */ ; ; CoMmIt",
        "SELECT 1; COMMIT",
        "COMMIT;",
        "--\nCOMMIT",
    ] {
        let error = check(sql).expect_err(sql);
        assert!(error.contains("transaction"), "{sql}: {error}");
        assert!(!changes_session(sql), "{sql}");
    }
}

#[test]
fn what_changes_the_session_is_refused() {
    for sql in [
        "SET lock_timeout = 1",
        "set session lock_timeout = 1",
        "SET TIME ZONE 'UTC'",
        "SET ROLE ann",
        "SET/**/a TO b",
        "RESET ALL",
        "DISCARD ALL",
        "LISTEN jobs",
        "UNLISTEN *",
        "PREPARE a AS SELECT 1",
        "PREPARE TRANSACTION 'a'",
        "EXECUTE a",
        "DEALLOCATE ALL",
        "DECLARE a CURSOR WITH HOLD FOR SELECT 1",
        "FETCH a",
        "CLOSE a",
        "LOAD 'auto_explain'",
        "DO $$BEGIN END$$",
        "CALL a()",
        "EXPLAIN ANALYZE CREATE TEMP TABLE a AS SELECT 1",
        "CREATE TEMP TABLE a ()",
        "create local temporary table a ()",
        "CREATE OR REPLACE TEMP VIEW a AS SELECT 1",
        "CREATE TABLE pg_temp.a ()",
        "SELECT 1 AS a INTO TEMP b",
        "SELECT 1 AS a INTO LOCAL TEMPORARY TABLE b",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_catalog.PG_ADVISORY_LOCK_SHARED (1, 2)",
        "SELECT \"pg_try_advisory_lock\"(1)",
        "WITH a AS (SELECT pg_try_advisory_lock_shared/* */(1)) SELECT * FROM a",
        "(SELECT pg_advisory_unlock_all())",
        "UPDATE a SET b = (SELECT set_config('c', 'd', false))",
        "SELECT set_config('a', 'b', NOT true)",
        "SELECT set_config('a', 'b', $1)",
        "SELECT set_config('a', 'b', 1 > true)",
        "BEGIN; SET a = 1",
    ] {
        check(sql).expect_err(sql);
        assert!(changes_session(sql), "{sql}");
    }
}

#[test]
fn what_does_not_run_in_a_pipeline_is_refused() {
    for sql in ["COPY a FROM STDIN", "vacuum a"] {
        check(sql).expect_err(sql);
        assert!(!changes_session(sql), "{sql}");
    }
}

#[test]
fn what_may_commit_by_itself_is_refused_and_does_not_change_the_session() {
    for sql in [
        "CREATE INDEX CONCURRENTLY a ON b (c)",
        "CREATE UNIQUE INDEX a ON b (c)",
        "CREATE DATABASE a",
        "CREATE TABLE temporary_things ()",
        "CREATE",
        "DROP INDEX CONCURRENTLY a",
        "DROP DATABASE a",
        "REINDEX TABLE CONCURRENTLY a",
        "reindex table a",
        "ALTER SYSTEM SET a = 1",
        "ALTER TABLE a DETACH PARTITION b CONCURRENTLY",
        "ALTER SUBSCRIPTION a REFRESH PUBLICATION",
        "CLUSTER",
        "CHECKPOINT",
        "TRUNCATE a",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY a",
        "WAIT FOR LSN '0/0'",
        "SELECT 1; REINDEX TABLE a",
        "(REINDEX)",
        "größe",
    ] {
        let error = check(sql).expect_err(sql);
        assert!(error.contains("may commit by itself"), "{sql}: {error}");
        assert!(!changes_session(sql), "{sql}");
    }
}

#[test]
fn an_error_says_what_was_found_and_what_to_do_instead() {
    let error = check("set lock_timeout = 1").expect_err("it changes the session");
    assert!(error.starts_with("SET ") && error.ends_with("use SET LOCAL"));
    let error = check("SELECT PG_ADVISORY_LOCK(1)").expect_err("it locks for the session");
    assert!(error.starts_with("pg_advisory_lock ") && error.contains("`xact`"));
    let error = check("create index concurrently a on b (c)").expect_err("it commits by itself");
    assert!(error.starts_with("CREATE ") && error.contains("in a migration"));
    let error = check("reindex table a").expect_err("it commits by itself");
    assert!(error.starts_with("REINDEX ") && error.ends_with("use a plain session of its own"));
}

#[test]
fn what_only_contains_the_words_passes() {
    for sql in [
        "",
        ";",
        "SELECT 1",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "WITH step AS (UPDATE a SET b = $1 RETURNING 1) SELECT count(*) FROM step",
        "SELECT 'COMMIT; pg_advisory_lock(1)'",
        "SELECT 'it''s; COMMIT'",
        "SELECT E'it\\'s; COMMIT', 'a'",
        "SELECT '\\'; SELECT 1",
        "SELECT $$; COMMIT$$, $a$; COMMIT $$ pg_advisory_lock(1)$a$",
        "SELECT a$1 AS b$; SELECT 1",
        "SELECT $1, $2 FROM a WHERE b = $3",
        "SELECT 1 AS \"; COMMIT\"",
        "SELECT 1 AS \"a\"\"; COMMIT\"",
        "SELECT 1 -- ; COMMIT",
        "SELECT 1 /* ; COMMIT /* ; */ ; COMMIT */",
        "SELECT 1; -- COMMIT",
        "SELECT CASE WHEN a THEN b ELSE c END FROM d",
        "SELECT begin, commit, pg_advisory_lock FROM a",
        "SELECT begins(), endure FROM a",
        "INSERT INTO \"commit\" (\"end\") VALUES (1)",
        "INSERT INTO temp (a) VALUES (1)",
        "INSERT INTO temp VALUES (1)",
        "SELECT 1 AS a INTO b",
        "UPDATE a SET session = 1",
        "SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(2)",
        "SELECT pg_notify('a', 'b')",
        "NOTIFY a",
        "LOCK TABLE a IN EXCLUSIVE MODE",
        "SET LOCAL lock_timeout = 1",
        "set /* only here */ local a to 1",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SELECT set_config('a', upper(lower('b')), true)",
        "SELECT set_config('a', 'b', is_local => TRUE)",
        "SELECT set_config FROM a",
        "MERGE INTO a USING b ON c WHEN MATCHED THEN DELETE",
        "VALUES (1), (2)",
        "TABLE a",
        "delete from a",
        "SELECT 'größe', \"größe\", größe FROM a",
        "SELECT 1.5e3, 0x1F, .5",
        "SET",
    ] {
        assert_eq!(check(sql), Ok(()), "{sql}");
    }
}

#[test]
fn a_text_that_is_cut_anywhere_is_looked_at_to_its_end() {
    let text = "SELECT E'a\\'é' /* b /* c */ */ AS \"d\"\"é\", $é$ COMMIT $é$ -- e\n FROM größe; \
                SELECT set_config('a', (b), true) INTO TEMP f";
    let error = check(text).expect_err("it makes a temporary table");
    assert!(error.starts_with("INTO TEMPORARY "), "{error}");
    for (at, _) in text.char_indices() {
        for part in [&text[..at], &text[at..]] {
            // Behind a keyword that may stand there.
            let part = format!("SELECT {part}");
            assert!(check(&part).is_ok() || changes_session(&part) || part.contains("COMMIT"));
        }
    }
}
