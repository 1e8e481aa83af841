//! The schema that the migrations make: that Diesel sees the same, and the rules of its names.

use nexus_tests::TestDatabase;

use super::catalog::{assert_same, lines};

/// The tables as Diesel sees them.
const SCHEMA: &str = include_str!("../../../db-model/src/schema.rs");

/// A block of `schema.rs` for each table, as the catalogs have it.
const TABLES: &str = "\
SELECT format(E'    %s (%s) {\\n%s\\n    }', c.relname,
    (SELECT string_agg(a.attname, ', ' ORDER BY k.place)
     FROM pg_constraint p CROSS JOIN unnest(p.conkey) WITH ORDINALITY AS k (number, place)
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
     WHERE p.conrelid = c.oid AND p.contype = 'p'),
    string_agg(format(CASE WHEN a.attnotnull THEN '        %s -> %s,' ELSE '        %s -> Nullable<%s>,' END,
        a.attname, CASE format_type(a.atttypid, a.atttypmod)
        WHEN 'uuid' THEN 'Uuid' WHEN 'bigint' THEN 'BigInt' WHEN 'integer' THEN 'Integer' WHEN 'smallint' THEN 'SmallInt' WHEN 'text' THEN 'Text'
        WHEN 'boolean' THEN 'Bool' WHEN 'json' THEN 'Json' WHEN 'timestamp with time zone' THEN 'Timestamptz'
        ELSE 'no type is known for ' || format_type(a.atttypid, a.atttypmod) END), E'\\n' ORDER BY a.attnum))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> '__diesel_schema_migrations'
GROUP BY c.oid, c.relname ORDER BY c.oid";

/// A line of `schema.rs` for each foreign key.
const JOINS: &str = "\
SELECT format('diesel::joinable!(%s -> %s (%s));', f.conrelid::regclass, f.confrelid::regclass, a.attname)
FROM pg_constraint f JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = f.conkey[1]
WHERE f.contype = 'f' ORDER BY f.oid";

#[tokio::test]
async fn diesel_sees_the_migrated_tables() {
    let database = TestDatabase::new().await;
    let tables = lines(&database, TABLES).await;
    let mut blocks: Vec<_> = SCHEMA.split("diesel::table! {\n").skip(1).collect();
    let (last, rest) = blocks.pop().unwrap().split_once("\n}\n").unwrap();
    let mut written: Vec<_> = blocks
        .iter()
        .map(|block| block.trim_end().trim_end_matches("\n}"))
        .collect();
    written.push(last);
    assert_same(&written, &tables);
    let joins: Vec<_> = rest.lines().filter(|l| l.contains("joinable!")).collect();
    assert_same(&joins, &lines(&database, JOINS).await);
    let names = rest.split_once("same_query!(").unwrap().1;
    let names: Vec<_> = names.split([',', '(', ')', ';', '\n', ' ']).collect();
    for table in tables {
        let name = table.trim_start().split(' ').next().unwrap();
        assert!(
            names.contains(&name),
            "{name} is not among the tables of one query"
        );
    }
    database.assert_books_balance().await;
}

/// Constraints and indexes that are not called `<table>_<what>_{pkey,key,fkey,check,idx}`.
const MISNAMED: &str = "\
WITH named AS (
    SELECT conrelid::regclass::text AS of_table, conname::text AS name,
        CASE contype WHEN 'p' THEN 'pkey' WHEN 'u' THEN 'key' WHEN 'f' THEN 'fkey' WHEN 'c' THEN 'check' END AS ending
    FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conrelid <> 0
    UNION ALL
    SELECT i.indrelid::regclass::text, c.relname::text,
        CASE WHEN i.indisprimary THEN 'pkey' WHEN i.indisunique THEN 'key' ELSE 'idx' END
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace
)
SELECT name FROM named WHERE of_table <> '__diesel_schema_migrations' AND name IS DISTINCT FROM
    CASE ending WHEN 'pkey' THEN of_table || '_pkey'
    ELSE of_table || '_' || substring(name FROM '^' || of_table || '_(.+)_' || ending || '$') || '_' || ending END";

/// Name columns that would sort and compare by a locale.
const BY_LOCALE: &str = "\
SELECT format('%s.%s', c.relname, a.attname) FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
AND a.attname ~ '(^|_)name$' AND l.collname IS DISTINCT FROM 'C'";

/// Tables whose rows have a name and are deleted softly, without a unique index on the name among
/// the living that begins with the parent's id.
const NAMES_NOT_UNIQUE: &str = "\
SELECT c.relname::text FROM pg_class c
JOIN pg_attribute n ON n.attrelid = c.oid AND n.attname = 'name'
JOIN pg_attribute d ON d.attrelid = c.oid AND d.attname = 'time_deleted'
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT EXISTS (
    SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique
    AND pg_get_expr(i.indpred, c.oid) = '(time_deleted IS NULL)'
    AND i.indkey::text = concat_ws(' ', (
        SELECT f.conkey[1] FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f'), n.attnum)
)";

/// Foreign keys of the log: the fence reads the saga's row anyway, and finished sagas go in bulk.
const KEYS_OF_THE_LOG: &str = "SELECT conname::text FROM pg_constraint WHERE contype = 'f' AND 'saga_event'::regclass IN (conrelid, confrelid)";

/// Each rule with a change that breaks it and what it then complains of.
const RULES: [(&str, &str, &str); 8] = [
    (
        MISNAMED,
        "ALTER TABLE project ADD CHECK (true)",
        "project_check",
    ),
    (
        MISNAMED,
        "CREATE INDEX project_fast ON project (state)",
        "project_fast",
    ),
    (
        MISNAMED,
        "ALTER INDEX project_name_key RENAME TO name_key",
        "name_key",
    ),
    (
        MISNAMED,
        "CREATE TABLE more (id int CONSTRAINT more_id_pkey PRIMARY KEY)",
        "more_id_pkey",
    ),
    (
        BY_LOCALE,
        "ALTER TABLE saga ADD COLUMN node_name text",
        "saga.node_name",
    ),
    (NAMES_NOT_UNIQUE, "DROP INDEX project_name_key", "project"),
    (
        NAMES_NOT_UNIQUE,
        "DROP INDEX instance_name_key; \
         CREATE UNIQUE INDEX instance_name_key ON instance (name, project_id) WHERE time_deleted IS NULL",
        "instance",
    ),
    (
        KEYS_OF_THE_LOG,
        "ALTER TABLE saga_event ADD CONSTRAINT saga_event_saga_id_fkey FOREIGN KEY (saga_id) REFERENCES saga",
        "saga_event_saga_id_fkey",
    ),
];

#[tokio::test]
async fn the_schema_keeps_its_rules() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    for (rule, change, complaint) in RULES {
        assert_eq!(lines(&database, rule).await, Vec::<String>::new());
        client
            .batch_execute(&format!("BEGIN; {change}"))
            .await
            .unwrap();
        let broken = client.query(rule, &[]).await.unwrap();
        assert!(
            broken
                .iter()
                .any(|row| row.get::<_, String>(0) == complaint),
            "nobody notices: {change}"
        );
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    database.assert_books_balance().await;
}
