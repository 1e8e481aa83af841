//! Metrics: one recorder for the process, and its text for Prometheus.

use std::sync::OnceLock;

use db_model::metrics::{
    COUNTERS, GAUGES, POOL_SESSIONS_SOILED, POOL_SLOTS, POOL_SLOTS_IDLE, SAGAS_RUNNING,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::app::App;
use db_model::types::limits::METRICS_UPKEEP_INTERVAL;

/// The text format of Prometheus.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The recorder is the process's, and servers are many in tests: the first one installs it.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

fn recorder() -> &'static PrometheusHandle {
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("something else records this process's metrics: /metrics shows none");
        }
        for metric in COUNTERS {
            metrics::describe_counter!(metric.name, metric.help);
        }
        for metric in GAUGES {
            metrics::describe_gauge!(metric.name, metric.help);
        }
        handle
    })
}

/// Begins to record. Nothing is counted before the first call.
pub fn install() {
    recorder();
}

/// Keeps the recorder's memory bounded, for as long as it is polled.
pub async fn keep() {
    loop {
        tokio::time::sleep(METRICS_UPKEEP_INTERVAL).await;
        recorder().run_upkeep();
    }
}

/// All metrics as they are now.
pub fn render(app: &App) -> String {
    let database = app.database();
    let pools = [
        ("writes", database.writes.state()),
        ("reads", database.reads.state()),
        ("recovery", database.recovery.state()),
        ("lease", database.lease.state()),
    ];
    for (pool, state) in pools {
        metrics::gauge!(POOL_SLOTS, "pool" => pool).set(state.slots);
        metrics::gauge!(POOL_SLOTS_IDLE, "pool" => pool).set(state.idle);
        metrics::counter!(POOL_SESSIONS_SOILED, "pool" => pool).absolute(state.soiled);
    }
    let running = u32::try_from(app.executor().running()).unwrap_or(u32::MAX);
    metrics::gauge!(SAGAS_RUNNING).set(running);
    recorder().render()
}
