//! Rows as values, one file per table.

pub mod event;
pub mod event_feed;
pub mod fleet_quota;
pub mod instance;
pub mod project;
pub mod project_quota;
pub mod saga;

pub use event::Event;
pub use event_feed::EVENT_FEED_ID;
pub use fleet_quota::{FLEET_ID, FleetQuota};
pub use instance::Instance;
pub use project::Project;
pub use project_quota::{ProjectLimits, ProjectQuota};
pub use saga::{Saga, SagaEvent};
