//! The names of all metrics, whoever counts them: one place, and one line each in
//! `docs/operations.md`.

/// Batches by how they ended for their caller (`outcome`).
pub const BATCHES: &str = "nexus_batches_total";
/// Batches that were sent again, by why (`sqlstate`, or `none` when the server said nothing).
pub const BATCH_RETRIES: &str = "nexus_batch_retries_total";
/// Tries of batches that nobody knows the outcome of.
pub const BATCH_UNKNOWN_OUTCOMES: &str = "nexus_batch_unknown_outcomes_total";
/// Transactions by how they ended (`owner`, `outcome`).
pub const TRANSACTIONS: &str = "nexus_transactions_total";
/// Transactions that were run again after a conflict (`owner`).
pub const TRANSACTION_RETRIES: &str = "nexus_transaction_retries_total";
/// Hooks that failed (`hook`).
pub const HOOK_FAILURES: &str = "nexus_hook_failures_total";
/// Outside effects that were refused inside an open transaction (`effect`).
pub const EFFECT_MISUSES: &str = "nexus_effect_misuses_total";
/// Sagas by how they ended in this process (`saga`, `outcome`).
pub const SAGAS: &str = "nexus_sagas_total";
/// Rows that this process has purged (`kind`).
pub const PURGED: &str = "nexus_purged_total";
/// Rounds of the purge in which a kind was not purged (`kind`).
pub const PURGE_FAILURES: &str = "nexus_purge_failures_total";
/// Sagas that this process runs.
pub const SAGAS_RUNNING: &str = "nexus_sagas_running";
/// Sagas of which nothing was recorded for longer than their kind allows, whoever runs them.
pub const SAGAS_STALLED: &str = "nexus_sagas_stalled";
/// Sagas that stalled while this process ran them (`saga`).
pub const SAGAS_STALLED_TOTAL: &str = "nexus_sagas_stalled_total";
/// Sagas that wait for a person, whoever ran them.
pub const SAGAS_STUCK: &str = "nexus_sagas_stuck";
/// Sessions of a pool, in use or idle (`pool`).
pub const POOL_SLOTS: &str = "nexus_pool_slots";
/// Sessions of a pool that nobody uses (`pool`).
pub const POOL_SLOTS_IDLE: &str = "nexus_pool_slots_idle";
/// Sessions that were ended because something was left in them (`pool`).
pub const POOL_SESSIONS_SOILED: &str = "nexus_pool_sessions_soiled_total";

/// A metric as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it counts or measures.
    pub help: &'static str,
}

/// Every counter.
pub const COUNTERS: &[Metric] = &[
    Metric {
        name: BATCHES,
        help: "Batches by how they ended for their caller",
    },
    Metric {
        name: BATCH_RETRIES,
        help: "Batches that were sent again, by SQLSTATE",
    },
    Metric {
        name: BATCH_UNKNOWN_OUTCOMES,
        help: "Tries of batches that nobody knows the outcome of",
    },
    Metric {
        name: TRANSACTIONS,
        help: "Transactions by how they ended",
    },
    Metric {
        name: TRANSACTION_RETRIES,
        help: "Transactions that were run again after a conflict",
    },
    Metric {
        name: HOOK_FAILURES,
        help: "Hooks that failed",
    },
    Metric {
        name: EFFECT_MISUSES,
        help: "Outside effects that were refused inside an open transaction",
    },
    Metric {
        name: SAGAS,
        help: "Sagas by how they ended in this process",
    },
    Metric {
        name: SAGAS_STALLED_TOTAL,
        help: "Sagas that stalled while this process ran them",
    },
    Metric {
        name: PURGED,
        help: "Rows that this process has purged",
    },
    Metric {
        name: PURGE_FAILURES,
        help: "Rounds of the purge in which a kind was not purged",
    },
    Metric {
        name: POOL_SESSIONS_SOILED,
        help: "Sessions that were ended because something was left in them",
    },
];

/// Every gauge.
pub const GAUGES: &[Metric] = &[
    Metric {
        name: SAGAS_RUNNING,
        help: "Sagas that this process runs",
    },
    Metric {
        name: SAGAS_STALLED,
        help: "Sagas of which nothing was recorded for too long, whoever runs them",
    },
    Metric {
        name: SAGAS_STUCK,
        help: "Sagas that wait for a person, whoever ran them",
    },
    Metric {
        name: POOL_SLOTS,
        help: "Sessions of a pool, in use or idle",
    },
    Metric {
        name: POOL_SLOTS_IDLE,
        help: "Sessions of a pool that nobody uses",
    },
];
