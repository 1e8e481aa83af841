//! A hook belongs to a transaction or to the commit of a batch; there is nothing else to register it with.

use db_model::batch::{Batch, Hook};

pub fn after_the_rollback_of_a_batch(hook: Hook) {
    Batch::new().after_rollback(hook);
}

pub fn after_nothing(hook: Hook) {
    hook.register();
}

fn main() {}
