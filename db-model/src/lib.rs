//! The database of Nexus.
