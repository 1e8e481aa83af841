//! The hooks of one transaction, each with the section in which it was registered.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Failure, Transaction};
use crate::batch::hook::Hook;
use crate::types::limits::TRANSACTION_HOOKS_MAX;

type Inside =
    Box<dyn FnOnce(Transaction) -> BoxFuture<'static, Result<Transaction, Failure>> + Send>;

/// A hook that runs inside the transaction.
pub(super) struct BeforeCommit {
    pub name: &'static str,
    pub run: Inside,
}

enum Entry {
    BeforeCommit(BeforeCommit),
    AfterCommit(Hook),
    AfterRollback(Hook),
}

#[derive(Default)]
struct State {
    /// With the depth of the section in which it holds.
    entries: VecDeque<(usize, Entry)>,
    /// The rollback hooks of sections that were cancelled.
    cancelled: Vec<Hook>,
}

/// The hooks. Whoever ends the transaction holds them too: a body that never gives its transaction back
/// takes no hook with it.
#[derive(Clone, Default)]
pub(super) struct Hooks(Arc<Mutex<State>>);

impl Hooks {
    pub fn before_commit<F, Fut>(&self, depth: usize, name: &'static str, hook: F) -> bool
    where
        F: FnOnce(Transaction) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Transaction, Failure>> + Send + 'static,
    {
        let run: Inside = Box::new(|transaction| hook(transaction).boxed());
        self.add(
            depth,
            Entry::BeforeCommit(BeforeCommit { name, run }),
            false,
        )
    }

    pub fn after_commit(&self, depth: usize, hook: Hook, first: bool) -> bool {
        self.add(depth, Entry::AfterCommit(hook), first)
    }

    pub fn after_rollback(&self, depth: usize, hook: Hook) -> bool {
        self.add(depth, Entry::AfterRollback(hook), false)
    }

    fn add(&self, depth: usize, entry: Entry, first: bool) -> bool {
        let mut state = self.lock();
        if state.entries.len() + state.cancelled.len() >= TRANSACTION_HOOKS_MAX {
            return false;
        }
        if first {
            state.entries.push_front((depth, entry));
        } else {
            state.entries.push_back((depth, entry));
        }
        true
    }

    /// The section at `depth` has ended well: its hooks are its parent's.
    pub fn end_section(&self, depth: usize) {
        for (entry_depth, _) in &mut self.lock().entries {
            *entry_depth = (*entry_depth).min(depth.saturating_sub(1));
        }
    }

    /// The section at `depth` was cancelled: of its hooks those stay that run after a rollback.
    pub fn cancel_section(&self, depth: usize) {
        let mut state = self.lock();
        let entries = std::mem::take(&mut state.entries);
        for (entry_depth, entry) in entries {
            match entry {
                entry if entry_depth < depth => state.entries.push_back((entry_depth, entry)),
                Entry::AfterRollback(hook) => state.cancelled.push(hook),
                Entry::BeforeCommit(_) | Entry::AfterCommit(_) => {}
            }
        }
    }

    /// Takes what has to run before the commit, as far as it is registered by now.
    pub fn take_before_commit(&self) -> Vec<BeforeCommit> {
        let mut state = self.lock();
        let entries = std::mem::take(&mut state.entries);
        let mut taken = Vec::new();
        for (depth, entry) in entries {
            match entry {
                Entry::BeforeCommit(hook) => taken.push(hook),
                entry => state.entries.push_back((depth, entry)),
            }
        }
        taken
    }

    /// Takes what has to run now that the transaction has ended.
    pub fn take_after(&self, committed: bool) -> Vec<Hook> {
        let State { entries, cancelled } = std::mem::take(&mut *self.lock());
        let mut hooks = cancelled;
        hooks.extend(entries.into_iter().filter_map(|(_, entry)| match entry {
            Entry::AfterCommit(hook) if committed => Some(hook),
            Entry::AfterRollback(hook) if !committed => Some(hook),
            _ => None,
        }));
        hooks
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hooks")
    }
}
