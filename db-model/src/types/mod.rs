//! Types and numbers that every part of the database layer shares.

pub mod limits;
