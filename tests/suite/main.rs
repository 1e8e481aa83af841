//! The suites, one module per group.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod db;
