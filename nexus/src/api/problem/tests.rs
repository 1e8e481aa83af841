//! Refusals and failures, as problems.

use super::*;
use db_model::types::ResourceKind;
use serde_json::json;

const ID: Uuid = Uuid::from_u128(7);

fn refused(refusal: Refusal) -> serde_json::Value {
    serde_json::to_value(Problem::refused(&refusal)).unwrap()
}

#[test]
fn codes_on_the_wire_are_their_texts() {
    for code in ErrorCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
}

#[test]
fn a_refusal_is_never_a_5xx_and_brings_its_members() {
    let quota = refused(Refusal::QuotaExceeded {
        scope: "project".into(),
        scope_id: ID,
        resource: "vcpus".into(),
        limit: 4,
        used: 3,
        requested: 2,
    });
    assert_eq!(quota["status"], 409);
    assert_eq!(
        quota["quota"],
        json!({"scope": "project", "scope_id": ID, "resource": "vcpus", "limit": 4, "used": 3, "requested": 2})
    );
    let taken = refused(Refusal::NameTaken {
        kind: ResourceKind::Project,
        name: "web".into(),
        id: ID,
    });
    assert_eq!(
        (&taken["status"], &taken["existing_id"]),
        (&json!(409), &json!(ID))
    );
    let first = vec![db_model::constraint::Blocker {
        id: ID,
        name: "a".into(),
    }];
    let not_empty = refused(Refusal::NotEmpty {
        id: ID,
        instances: 1,
        first,
    });
    assert_eq!(
        not_empty["blockers"],
        json!({"instances": 1, "first": [{"id": ID, "name": "a"}]})
    );
    let state = refused(Refusal::WrongState {
        kind: ResourceKind::Instance,
        id: ID,
        state: "creating".into(),
    });
    assert_eq!(
        (&state["status"], &state["state"]),
        (&json!(409), &json!("creating"))
    );
    assert_eq!(
        refused(Refusal::NotFound {
            kind: ResourceKind::Project,
            id: ID
        })["status"],
        404
    );
    let changed = Refusal::Changed {
        kind: "project".into(),
        id: ID,
        expected: 1,
        found: 2,
    };
    assert_eq!(refused(changed)["error_code"], "precondition_failed");
}

#[test]
fn an_unexpected_failure_names_the_constraint_and_not_the_message() {
    let problem = Problem::of_failure(&Failure {
        attempts: None,
        node: "charge".into(),
        step: None,
        cause: Cause::Unexpected {
            message: "row (secret)".into(),
            sqlstate: Some("23514".into()),
            constraint: Some("project_name_check".into()),
        },
    });
    assert_eq!(problem.status, 500);
    assert!(problem.detail.contains("23514") && problem.detail.contains("project_name_check"));
    assert!(!problem.detail.contains("secret"));
}
