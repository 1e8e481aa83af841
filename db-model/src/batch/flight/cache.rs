//! The prepared statements of one session, and the plan of a pipeline over them.
//!
//! A statement is in the cache from its ParseComplete on, not from the end of its flight: when a later message fails
//! the server keeps the statement, and forgetting it here would leak one there.

use super::answer::Column;
use super::{Bind, Query};
use crate::types::limits;
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

/// A statement that the server has parsed, or is about to.
pub(super) struct Statement {
    /// Its name on the server, never used twice in a session.
    pub name: String,
    oids: Vec<u32>,
    /// Known from the answer to its first Describe on.
    pub columns: OnceLock<Arc<[Column]>>,
}

impl Statement {
    /// The server has told the columns. Two steps of one pipeline may have asked; both hear the same.
    pub fn describe(&self, columns: Arc<[Column]>) {
        self.columns.get_or_init(|| columns);
    }

    fn takes(&self, binds: &[Bind]) -> bool {
        self.oids
            .iter()
            .copied()
            .eq(binds.iter().map(|bind| bind.oid))
    }
}

/// How one query of a pipeline is sent.
pub(super) struct Step {
    pub statement: Arc<Statement>,
    /// Parse it first.
    pub parse: bool,
    /// Ask for its columns.
    pub describe: bool,
    /// It was in the cache before this pipeline.
    warm: bool,
}

/// How a pipeline is sent.
pub(super) struct Plan {
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether the statement of a step was prepared by an earlier flight.
    pub fn is_warm(&self, index: usize) -> bool {
        self.steps.get(index).is_some_and(|step| step.warm)
    }
}

/// The statements that a session has prepared, by their text.
pub(super) struct Cache {
    statements: LruCache<Arc<str>, Arc<Statement>>,
    /// Names of statements that the server has and nobody will use again; the next flight closes them.
    closing: Vec<String>,
    named: u64,
}

impl Cache {
    pub fn new() -> Self {
        const CAPACITY: NonZeroUsize = match NonZeroUsize::new(limits::STATEMENTS_CACHED_MAX) {
            Some(capacity) => capacity,
            None => NonZeroUsize::MIN,
        };
        // `unbounded` and an own bound would allocate less, but this map is small.
        Self {
            statements: LruCache::new(CAPACITY),
            closing: Vec::new(),
            named: 0,
        }
    }

    /// Decides which statements of a pipeline have to be parsed. The same text twice is parsed once.
    pub fn plan(&mut self, queries: &[Query]) -> Plan {
        let mut fresh: HashMap<&str, Arc<Statement>> = HashMap::new();
        let steps = queries.iter().map(|query| {
            let fits = |statement: &&Arc<Statement>| statement.takes(&query.binds);
            if let Some(statement) = self.statements.get(&*query.sql).filter(fits) {
                let describe = statement.columns.get().is_none();
                return Step {
                    statement: Arc::clone(statement),
                    parse: false,
                    describe,
                    warm: true,
                };
            }
            if let Some(statement) = fresh.get(&*query.sql).filter(fits) {
                return Step {
                    statement: Arc::clone(statement),
                    parse: false,
                    describe: false,
                    warm: false,
                };
            }
            self.named += 1;
            let statement = Arc::new(Statement {
                name: format!("n{}", self.named),
                oids: query.binds.iter().map(|bind| bind.oid).collect(),
                columns: OnceLock::new(),
            });
            fresh.insert(&query.sql, Arc::clone(&statement));
            Step {
                statement,
                parse: true,
                describe: true,
                warm: false,
            }
        });
        Plan {
            steps: steps.collect(),
        }
    }

    /// The server has parsed a statement. What it displaces is closed by the next flight and not by this one, whose
    /// remaining messages may still name it.
    pub fn parsed(&mut self, sql: &Arc<str>, statement: &Arc<Statement>) {
        if let Some((_, displaced)) = self.statements.push(Arc::clone(sql), Arc::clone(statement)) {
            self.closing.push(displaced.name.clone());
        }
    }

    /// Forgets every statement that a plan found in the cache: what made one stale probably made others stale too.
    pub fn forget(&mut self, plan: &Plan, queries: &[Query]) {
        for (step, query) in plan.steps.iter().zip(queries) {
            if step.warm
                && let Some(statement) = self.statements.pop(&*query.sql)
            {
                self.closing.push(statement.name.clone());
            }
        }
    }

    /// The statements to close at the head of the next pipeline.
    pub fn closing(&self) -> &[String] {
        &self.closing
    }

    /// The first `count` statements of [`Self::closing`] are closed.
    pub fn closed(&mut self, count: usize) {
        self.closing.drain(..count.min(self.closing.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(sql: &str, oid: u32) -> Query {
        Query {
            sql: sql.into(),
            binds: vec![Bind { oid, value: None }],
        }
    }

    fn fly(cache: &mut Cache, queries: &[Query]) -> Vec<bool> {
        let plan = cache.plan(queries);
        for (step, query) in plan.steps.iter().zip(queries) {
            if step.parse {
                cache.parsed(&query.sql, &step.statement);
            }
        }
        plan.steps.iter().map(|step| step.parse).collect()
    }

    #[test]
    fn a_text_is_parsed_once_and_again_for_other_types() {
        let mut cache = Cache::new();
        assert_eq!(
            fly(&mut cache, &[query("a", 0), query("b", 0), query("a", 0)]),
            [true, true, false]
        );
        assert_eq!(fly(&mut cache, &[query("a", 0)]), [false]);
        assert!(cache.closing().is_empty());
        assert_eq!(fly(&mut cache, &[query("a", 23)]), [true]);
        assert_eq!(cache.closing(), ["n1"]);
    }

    #[test]
    fn the_least_recently_used_statement_is_closed_by_the_next_flight() {
        let mut cache = Cache::new();
        for index in 0..limits::STATEMENTS_CACHED_MAX {
            fly(&mut cache, &[query(&format!("{index}"), 0)]);
        }
        fly(&mut cache, &[query("0", 0)]);
        fly(&mut cache, &[query("one more", 0)]);
        assert_eq!(cache.closing(), ["n2"]);
        cache.closed(1);
        assert_eq!(
            fly(&mut cache, &[query("0", 0), query("1", 0)]),
            [false, true]
        );
    }
}
