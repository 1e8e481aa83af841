//! The suites, one module per group.

mod db;
