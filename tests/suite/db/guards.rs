//! The guards' functions, called as SQL: what each refuses, under which name and with which details.

use nexus_tests::TestDatabase;
use serde_json::{Value, json};
use tokio_postgres::Client;

const FLEET: &str = "00000000-0000-0000-0000-000000000001";
const OPEN: &str = "00000000-0000-0000-0000-00000000000a";
const CLOSED: &str = "00000000-0000-0000-0000-00000000000b";
const ONE: &str = "00000000-0000-0000-0000-0000000000c1";
const TWO: &str = "00000000-0000-0000-0000-0000000000c2";
const NOBODY: &str = "00000000-0000-0000-0000-0000000000ff";
const CHANGE: &str = "00000000-0000-0000-0000-0000000000ee";

/// A project with two instances, and one that is being deleted. The fleet is full.
async fn furnished() -> TestDatabase {
    let database = TestDatabase::new().await;
    let sql = format!(
        "UPDATE fleet_quota SET projects_limit = 2, projects_used = 2, generation = 5;
         INSERT INTO saga (id, name, definition_hash, params, state, executor_id, generation, request_id, resource_kind,
             resource_id, resource_name, time_created)
         VALUES ('{CHANGE}', 'project-delete', 'h', '{{}}', 'running', '{NOBODY}', 1, 'r', 'project', '{CLOSED}', 'old', now());
         INSERT INTO project (id, name, description, state, generation, changed_by, time_created, time_modified)
         VALUES ('{OPEN}', 'web', '', 'active', 3, '{NOBODY}', now(), now()),
                ('{CLOSED}', 'old', '', 'deleting', 4, '{CHANGE}', now(), now());
         INSERT INTO project_quota (project_id, open, instances_limit, instances_used, vcpus_limit, vcpus_used,
             memory_bytes_limit, memory_bytes_used, generation, changed_by, time_created, time_modified)
         VALUES ('{OPEN}', true, 3, 2, 8, 6, 4194304, 2097152, 7, '{CHANGE}', now(), now()),
                ('{CLOSED}', false, 3, 0, 8, 0, 4194304, 0, 1, '{CHANGE}', now(), now());
         INSERT INTO instance (id, project_id, name, description, vcpus, memory_bytes, state, generation, changed_by,
             time_created, time_modified)
         VALUES ('{TWO}', '{OPEN}', 'two', '', 3, 1048576, 'stopped', 2, '{NOBODY}', now(), now()),
                ('{ONE}', '{OPEN}', 'one', '', 3, 1048576, 'failed', 2, '{NOBODY}', now(), now())"
    );
    database.client().await.batch_execute(&sql).await.unwrap();
    database
}

/// The SQLSTATE, the name and the details with which a call is refused.
async fn refusal(client: &Client, call: &str) -> (String, Option<String>, Value) {
    let error = client.simple_query(&format!("SELECT {call}")).await;
    let error = error.expect_err(call);
    let error = error.as_db_error().unwrap();
    let detail = error.detail().map_or(Value::Null, |detail| {
        serde_json::from_str(detail).unwrap_or_else(|_| panic!("{call}: {detail}"))
    });
    (
        error.code().code().to_owned(),
        error.constraint().map(str::to_owned),
        detail,
    )
}

#[tokio::test]
async fn each_guard_refuses_by_name_and_with_what_it_read() {
    let database = furnished().await;
    let client = database.client().await;
    let exceeded = |resource: &str, limit: i64, used: i64, requested: i64| json!({ "scope": "project", "scope_id": OPEN, "resource": resource, "limit": limit, "used": used, "requested": requested });
    let state = |id: &str, state: Option<&str>| json!({ "id": id, "state": state });
    let changed = |kind: &str, id: &str, expected: i64, found: i64| json!({ "kind": kind, "id": id, "expected": expected, "found": found });
    let cases = [
        (
            "guard_affected(2, 1, 'a.step')".to_owned(),
            "affected",
            json!({ "label": "a.step", "touched": 2, "wanted": 1 }),
        ),
        (
            "guard_fleet_quota_charge(0, 1)".to_owned(),
            "quota_exceeded",
            json!({ "scope": "fleet", "scope_id": FLEET, "resource": "projects", "limit": 2, "used": 2, "requested": 1 }),
        ),
        (
            format!("guard_project_quota_charge(0, '{OPEN}', 2, 1, 1)"),
            "quota_exceeded",
            exceeded("instances", 3, 2, 2),
        ),
        (
            format!("guard_project_quota_charge(0, '{OPEN}', 1, 3, 1)"),
            "quota_exceeded",
            exceeded("vcpus", 8, 6, 3),
        ),
        (
            format!("guard_project_quota_charge(0, '{OPEN}', 1, 1, 4194304)"),
            "quota_exceeded",
            exceeded("memory_bytes", 4_194_304, 2_097_152, 4_194_304),
        ),
        (
            format!("guard_project_quota_charge(0, '{CLOSED}', 1, 1, 1)"),
            "project_state",
            state(CLOSED, Some("deleting")),
        ),
        (
            format!("guard_project_quota_charge(0, '{NOBODY}', 1, 1, 1)"),
            "project_state",
            state(NOBODY, None),
        ),
        (
            format!("guard_project_quota_close(0, '{OPEN}', 1)"),
            "not_empty",
            json!({ "id": OPEN, "instances": 2, "first": [{ "id": ONE, "name": "one" }] }),
        ),
        (
            format!("guard_project_quota_close(0, '{CLOSED}', 1)"),
            "project_state",
            state(CLOSED, Some("deleting")),
        ),
        (
            format!("guard_project_quota_close(0, '{NOBODY}', 1)"),
            "project_state",
            state(NOBODY, None),
        ),
        (
            format!("guard_project_state(0, '{OPEN}', NULL)"),
            "project_state",
            state(OPEN, Some("active")),
        ),
        (
            format!("guard_project_state(0, '{OPEN}', 3)"),
            "project_state",
            state(OPEN, Some("active")),
        ),
        (
            format!("guard_project_state(0, '{OPEN}', 2)"),
            "generation",
            changed("project", OPEN, 2, 3),
        ),
        (
            format!("guard_project_state(0, '{NOBODY}', 2)"),
            "project_state",
            state(NOBODY, None),
        ),
        (
            format!("guard_instance_state(0, '{TWO}', NULL)"),
            "instance_state",
            state(TWO, Some("stopped")),
        ),
        (
            format!("guard_instance_state(0, '{TWO}', 1)"),
            "generation",
            changed("instance", TWO, 1, 2),
        ),
        (
            format!("guard_instance_state(0, '{NOBODY}', 1)"),
            "instance_state",
            state(NOBODY, None),
        ),
        (
            "guard_fleet_quota_update(0, 4)".to_owned(),
            "generation",
            changed("fleet_quota", FLEET, 4, 5),
        ),
        (
            format!("guard_project_quota_update(0, '{OPEN}', 6)"),
            "generation",
            changed("project_quota", OPEN, 6, 7),
        ),
        (
            format!("guard_project_quota_update(0, '{CLOSED}', 1)"),
            "project_state",
            state(CLOSED, Some("deleting")),
        ),
        (
            format!("guard_project_quota_update(0, '{NOBODY}', 1)"),
            "project_state",
            state(NOBODY, None),
        ),
    ];
    for (call, name, detail) in cases {
        let refused = refusal(&client, &call).await;
        assert_eq!(
            refused,
            ("NX001".to_owned(), Some(name.to_owned()), detail),
            "{call}"
        );
    }
    let taken = |id: &str, name: &str| json!({ "id": id, "name": name });
    for (call, name, detail) in [
        (
            "guard_project_name(0, 'web')".to_owned(),
            "project_name_key",
            taken(OPEN, "web"),
        ),
        (
            format!("guard_instance_name(0, '{OPEN}', 'two')"),
            "instance_name_key",
            taken(TWO, "two"),
        ),
    ] {
        let refused = refusal(&client, &call).await;
        assert_eq!(
            refused,
            ("23505".to_owned(), Some(name.to_owned()), detail),
            "{call}"
        );
    }
    database.assert_books_balance().await;
}

#[tokio::test]
async fn what_came_free_meanwhile_is_worth_another_try() {
    let database = furnished().await;
    let client = database.client().await;
    for call in [
        "guard_fleet_quota_charge(0, 0)".to_owned(),
        format!("guard_project_quota_charge(0, '{OPEN}', 1, 2, 2097152)"),
        "guard_project_name(0, 'free')".to_owned(),
        format!("guard_instance_name(0, '{CLOSED}', 'two')"),
        // The quota was opened meanwhile, at any generation or at the one that was named.
        format!("guard_project_quota_update(0, '{OPEN}', NULL)"),
        format!("guard_project_quota_update(0, '{OPEN}', 7)"),
    ] {
        assert_eq!(refusal(&client, &call).await.0, "40001", "{call}");
    }
    let emptied = "UPDATE project_quota SET instances_used = 0";
    client
        .batch_execute(&format!("BEGIN; {emptied}; SAVEPOINT before"))
        .await
        .unwrap();
    let call = format!("guard_project_quota_close(0, '{OPEN}', 20)");
    assert_eq!(refusal(&client, &call).await.0, "40001", "{call}");
    client.batch_execute("ROLLBACK").await.unwrap();
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_fleet_without_its_row_is_said_so() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    for call in [
        "guard_fleet_quota_charge(0, 1)".to_owned(),
        "guard_fleet_quota_update(0, NULL)".to_owned(),
    ] {
        client
            .batch_execute("BEGIN; DELETE FROM fleet_quota")
            .await
            .unwrap();
        let refused = refusal(&client, &call).await;
        assert_eq!(
            (refused.0.as_str(), refused.1.as_deref()),
            ("NX001", Some("fleet_quota_missing")),
            "{call}"
        );
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_step_that_did_what_it_had_to_passes() {
    let database = furnished().await;
    for (call, passed) in [
        ("guard_affected(0, 0, 'none')".to_owned(), 0),
        ("guard_fleet_quota_charge(1, 1)".to_owned(), 1),
        (
            format!("guard_project_quota_charge(1, '{NOBODY}', 1, 1, 1)"),
            1,
        ),
        (format!("guard_project_quota_close(1, '{NOBODY}', 1)"), 1),
        ("guard_project_name(1, 'web')".to_owned(), 1),
        (format!("guard_instance_name(1, '{OPEN}', 'two')"), 1),
        (format!("guard_project_state(1, '{NOBODY}', 1)"), 1),
        (format!("guard_instance_state(1, '{NOBODY}', 1)"), 1),
        ("guard_fleet_quota_update(1, 1)".to_owned(), 1),
        (format!("guard_project_quota_update(1, '{NOBODY}', 1)"), 1),
    ] {
        assert_eq!(
            database.number(&format!("SELECT {call}")).await,
            passed,
            "{call}"
        );
    }
    database.assert_books_balance().await;
}
