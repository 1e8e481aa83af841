//! What callers send and get, one file per noun, and how it is made from the domain's values.
//!
//! Knows the wire format and its rules; leaves status codes and headers to `http`.

pub mod event;
pub mod instance;
pub mod operation;
pub mod page;
pub mod problem;
pub mod project;
pub mod quota;
pub mod validate;
pub mod value;
pub mod version;
