//! The engine and the sagas, each over every commit of its way.

mod outcomes;
mod replay;
