//! What the database layer promises, against a real PostgreSQL.

mod embedded;
