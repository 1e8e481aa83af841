//! Extractors: bodies, queries and paths, each refusal a problem that names field and rule.

pub mod json;
pub mod path;
pub mod query;

pub use json::Json;
pub use path::{InstancePath, OperationPath, ProjectPath};
pub use query::{NoQuery, Query};
