//! What the system catalogs say about a database, as lines that can be compared.

use nexus_tests::TestDatabase;

/// Every relation, column, constraint, index, function, type and trigger of ours.
const DUMP: &str = "\
SELECT format('column %s.%s %s %s null=%s default=%s %s', c.relname, a.attname, a.attnum,
    format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, pg_get_expr(d.adbin, d.adrelid), l.collname)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind <> 'i' AND c.relname <> '__diesel_schema_migrations'
UNION ALL SELECT format('relation %s %s', relkind, relname) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname !~ '^__diesel_schema_migrations'
UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text !~ '__diesel_schema_migrations'
UNION ALL SELECT format('index %s', indexdef) FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> '__diesel_schema_migrations'
UNION ALL SELECT format('function %s', pg_get_functiondef(oid)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT format('type %s %s', typtype, typname) FROM pg_type
WHERE typnamespace = 'public'::regnamespace AND typname !~ '__diesel_schema_migrations'
UNION ALL SELECT format('trigger %s', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT format('schema %s', nspname) FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'
ORDER BY 1";

/// The first column of a query, which is text.
pub async fn lines(database: &TestDatabase, sql: &str) -> Vec<String> {
    let rows = database.client().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// All that migrations can make.
pub async fn dump(database: &TestDatabase) -> Vec<String> {
    lines(database, DUMP).await
}

/// Asserts that two lists have the same lines, and shows those that only one of them has.
#[track_caller]
pub fn assert_same<A: AsRef<str>, B: AsRef<str>>(found: &[A], wanted: &[B]) {
    let found: Vec<_> = found.iter().map(AsRef::as_ref).collect();
    let wanted: Vec<_> = wanted.iter().map(AsRef::as_ref).collect();
    let only = |ours: &[&str], others: &[&str]| {
        let only = ours.iter().filter(|line| !others.contains(line));
        only.copied().collect::<Vec<_>>().join("\n")
    };
    assert!(
        found == wanted,
        "found:\n{}\nwanted:\n{}",
        only(&found, &wanted),
        only(&wanted, &found)
    );
}
