//! What runs beside the requests.

pub mod publish;
pub mod signals;
