//! The API over HTTP, as its users call it.

mod project;
