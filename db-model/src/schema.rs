//! The tables as Diesel sees them. A test compares them with the migrated database.

diesel::table! {
    fleet_quota (id) {
        id -> Uuid,
        projects_limit -> BigInt,
        projects_used -> BigInt,
        generation -> BigInt,
        changed_by -> Uuid,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
    }
}

diesel::table! {
    project (id) {
        id -> Uuid,
        name -> Text,
        description -> Text,
        state -> Text,
        generation -> BigInt,
        changed_by -> Uuid,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
        time_over -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    project_quota (project_id) {
        project_id -> Uuid,
        open -> Bool,
        instances_limit -> BigInt,
        instances_used -> BigInt,
        vcpus_limit -> BigInt,
        vcpus_used -> BigInt,
        memory_bytes_limit -> BigInt,
        memory_bytes_used -> BigInt,
        generation -> BigInt,
        changed_by -> Uuid,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
    }
}

diesel::table! {
    instance (id) {
        id -> Uuid,
        project_id -> Uuid,
        name -> Text,
        description -> Text,
        vcpus -> BigInt,
        memory_bytes -> BigInt,
        state -> Text,
        generation -> BigInt,
        changed_by -> Uuid,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
        time_over -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    executor (id) {
        id -> Uuid,
        host -> Text,
        pid -> BigInt,
        version -> Text,
        backend_pid -> Integer,
        backend_start -> Timestamptz,
        time_started -> Timestamptz,
        time_heartbeat -> Timestamptz,
        time_lease_expires -> Timestamptz,
        time_ended -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    saga (id) {
        id -> Uuid,
        name -> Text,
        definition_hash -> Text,
        params -> Json,
        state -> Text,
        executor_id -> Uuid,
        generation -> BigInt,
        request_id -> Text,
        project_id -> Nullable<Uuid>,
        resource_kind -> Text,
        resource_id -> Uuid,
        resource_name -> Text,
        output -> Nullable<Json>,
        error -> Nullable<Json>,
        time_created -> Timestamptz,
        time_finished -> Nullable<Timestamptz>,
        last_attempts -> Nullable<Integer>,
        last_duration_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    saga_event (saga_id, node_id, phase) {
        saga_id -> Uuid,
        node_id -> BigInt,
        kind -> Text,
        data -> Nullable<Json>,
        time_recorded -> Timestamptz,
        phase -> SmallInt,
        sequence -> BigInt,
        attempts -> Integer,
        duration_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    event (id) {
        id -> Uuid,
        kind -> Text,
        project_id -> Nullable<Uuid>,
        resource_id -> Uuid,
        resource_name -> Text,
        resource_generation -> BigInt,
        operation_id -> Nullable<Uuid>,
        time_recorded -> Timestamptz,
        sequence -> Nullable<BigInt>,
        time_published -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    event_feed (id) {
        id -> Uuid,
        last_sequence -> BigInt,
        purged_sequence -> BigInt,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
    }
}

diesel::joinable!(project_quota -> project (project_id));
diesel::joinable!(instance -> project (project_id));
diesel::allow_tables_to_appear_in_same_query!(
    fleet_quota,
    project,
    project_quota,
    instance,
    executor,
    saga,
    saga_event,
    event,
    event_feed,
);
