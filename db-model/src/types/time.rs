//! Times as PostgreSQL keeps them: UTC, whole microseconds.

use chrono::{DateTime, SubsecRound, Utc};

/// The current time, cut to microseconds, so that what is stored equals what was drawn.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the clock is read"
)]
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
