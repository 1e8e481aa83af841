//! The sagas of Nexus.
