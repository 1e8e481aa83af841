//! Times as PostgreSQL keeps them: UTC, whole microseconds.

use chrono::{DateTime, SubsecRound, Utc};

/// The current time, cut to microseconds, so that what is stored equals what was drawn.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
