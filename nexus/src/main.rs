//! The binary `nexus`.

fn main() {}
