//! Writing to the database: statements composed to one transaction that travels as one pipeline.

pub mod flight;
