//! What runs beside the requests.

pub mod publish;
pub mod purge;
pub mod signals;
