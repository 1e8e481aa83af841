//! The engine and the sagas, each over every commit of its way, and the service outside that some call.

mod outcomes;
mod outside;
mod recorded;
mod replay;
mod unborn;
