//! The engine and the sagas, each over every commit of its way, and the service outside that some call.

mod crash;
mod external;
mod outcomes;
mod outside;
mod random;
mod recorded;
mod replay;
mod shape;
mod store;
mod stuck;
mod unborn;
mod watchdog;
mod zombie;
