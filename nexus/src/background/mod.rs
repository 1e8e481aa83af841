//! What runs beside the requests.

pub mod purge;
pub mod signals;
