//! Composing steps to one transaction with typed outputs.

use std::fmt;
use std::time::Duration;

use super::error::{BatchError, StepName};
use super::flight::{Answer, Query};
use super::hook::{self, Hook};
use super::part::{self, Wish};
use super::send::{self, Persistence};
use super::settings::{Isolation, Settings};
use super::step::{Refusals, SentStep, Step};
use crate::effect;
use crate::pool::{PoolError, WritePool};
use crate::types::limits::{
    BATCH_BYTES_MAX, BATCH_DEADLINE, BATCH_LOCKING_BYTES_MAX, BATCH_STEPS_MAX,
};

type Decode<T> = Box<dyn FnOnce(&mut Answers) -> Result<T, BatchError> + Send>;

/// Steps that commit together or not at all; their outputs together are `T`.
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch<T> {
    pub(super) steps: Vec<SentStep>,
    pub(super) settings: Settings,
    pub(super) hooks: Vec<Hook>,
    pub(super) wishes: Vec<Wish>,
    pub(super) decode: Decode<T>,
}

/// The answers of the steps, read in order.
pub(super) struct Answers {
    answers: std::vec::IntoIter<Answer>,
    labels: std::iter::Enumerate<std::vec::IntoIter<&'static str>>,
}

/// A batch that is ready to be sent, any number of times.
#[derive(Clone)]
pub(super) struct Sendable {
    /// What goes before the steps, [`Sendable::prelude`] statements, and the steps.
    pub queries: Vec<Query>,
    pub prelude: usize,
    pub labels: Vec<&'static str>,
    pub refusals: Vec<Refusals>,
    /// The constraint of the step's key, where it holds one.
    pub keys: Vec<Option<&'static str>>,
}

impl Sendable {
    /// The step at an index, and what reads its refusals; `None` past the last is the commit.
    pub fn step(&self, index: usize) -> Option<(StepName, Refusals)> {
        let label = *self.labels.get(index)?;
        Some((StepName { label, index }, *self.refusals.get(index)?))
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.steps.iter().map(|step| step.label))
            .finish()
    }
}

/// Appends an output to a tuple of outputs.
pub trait Append<A> {
    /// The longer tuple.
    type Output;

    /// Appends.
    fn append(self, last: A) -> Self::Output;
}

macro_rules! append {
    ($($type:ident $value:ident)*) => {
        impl<$($type,)* Last> Append<Last> for ($($type,)*) {
            type Output = ($($type,)* Last,);

            fn append(self, last: Last) -> Self::Output {
                let ($($value,)*) = self;
                ($($value,)* last,)
            }
        }
    };
}

append!();
append!(A a);
append!(A a B b);
append!(A a B b C c);
append!(A a B b C c D d);
append!(A a B b C c D d E e);
append!(A a B b C c D d E e F f);
append!(A a B b C c D d E e F f G g);

impl Batch<()> {
    /// No steps yet.
    pub fn new() -> Self {
        Self {
            steps: Vec::new(),
            settings: Settings::default(),
            hooks: Vec::new(),
            wishes: Vec::new(),
            decode: Box::new(|_| Ok(())),
        }
    }

    /// Puts steps behind those that are there.
    pub fn before(mut self, last: Vec<Step<()>>) -> Self {
        let mut last = Batch::all(last).discard();
        self.steps.append(&mut last.steps);
        let (first, rest) = (self.decode, last.decode);
        self.decode = Box::new(move |answers| {
            first(answers)?;
            rest(answers)
        });
        self
    }

    /// Puts steps before those that are there.
    pub fn after(mut self, first: Vec<Step<()>>) -> Self {
        let mut all = Batch::all(first).discard();
        all.settings = self.settings;
        all.hooks = self.hooks;
        all.wishes = self.wishes;
        all.steps.append(&mut self.steps);
        let rest = self.decode;
        let decode = all.decode;
        all.decode = Box::new(move |answers| {
            decode(answers)?;
            rest(answers)
        });
        all
    }
}

impl Default for Batch<()> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Send + 'static> Batch<Vec<A>> {
    /// Many steps of one kind, which may share a label: their index tells them apart.
    pub fn all(steps: Vec<Step<A>>) -> Self {
        let (sent, decoders): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .map(|step| {
                (
                    SentStep {
                        many: true,
                        ..step.sent
                    },
                    step.decode,
                )
            })
            .unzip();
        let decode = |answers: &mut Answers| {
            decoders
                .into_iter()
                .map(|decode| answers.read(decode))
                .collect()
        };
        Self {
            steps: sent,
            settings: Settings::default(),
            hooks: Vec::new(),
            wishes: Vec::new(),
            decode: Box::new(decode),
        }
    }
}

impl<T: Send + 'static> Batch<T> {
    /// Adds a step; its output comes last.
    pub fn step<A: Send + 'static>(mut self, step: Step<A>) -> Batch<T::Output>
    where
        T: Append<A>,
    {
        self.steps.push(step.sent);
        let decode_step = step.decode;
        let decode_before = self.decode;
        Batch {
            steps: self.steps,
            settings: self.settings,
            hooks: self.hooks,
            wishes: self.wishes,
            decode: Box::new(move |answers| {
                let before = decode_before(answers)?;
                Ok(before.append(answers.read(decode_step)?))
            }),
        }
    }

    /// The same steps without outputs.
    pub fn discard(self) -> Batch<()> {
        self.map(drop)
    }

    /// The same steps with another output, computed from theirs.
    pub fn map<U>(self, function: impl FnOnce(T) -> U + Send + 'static) -> Batch<U> {
        let decode = self.decode;
        Batch {
            steps: self.steps,
            settings: self.settings,
            hooks: self.hooks,
            wishes: self.wishes,
            decode: Box::new(move |answers| Ok(function(decode(answers)?))),
        }
    }

    /// The isolation level, where read committed is not enough. A conflict (40001) sends the whole
    /// batch again.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// Longest wait for a lock, instead of the session's
    /// ([`crate::types::limits::LOCK_TIMEOUT`]): 55P03, [`super::Busy::Timeout`].
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeouts.lock = Some(timeout);
        self
    }

    /// Longest time for each statement, instead of the session's
    /// ([`crate::types::limits::STATEMENT_TIMEOUT`]): 57014, [`super::Busy::Timeout`].
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeouts.statement = Some(timeout);
        self
    }

    /// Has `hook` run once the batch has committed, after those that are there. Its failure is logged and
    /// undoes nothing. `commit` answers when all have run.
    ///
    /// It runs as well when only the answer is lost to the caller: [`BatchError::TooLarge`], and
    /// [`BatchError::Recorded`] after a try of this call whose reply was lost ([`Persistence::Keyed`]).
    pub fn after_commit(mut self, hook: Hook) -> Self {
        self.hooks.push(hook);
        self
    }

    /// Commits the steps as one transaction, in one round trip.
    ///
    /// It runs in its own task that owns the connection: a caller that goes away cuts nothing. A
    /// batch that the server wants again (40001, 40P01) is sent again, up to
    /// [`crate::types::limits::BATCH_ATTEMPTS_MAX`] times.
    ///
    /// # Errors
    /// [`BatchError`], which says for each variant what has been committed: nothing for most.
    pub async fn commit(self, pool: &WritePool) -> Result<T, BatchError> {
        self.commit_as(pool, Persistence::Conflicts).await
    }

    /// Like [`Batch::commit`], and sends again for more reasons, as `persistence` says.
    ///
    /// # Errors
    /// Those of [`Batch::commit`] that `persistence` does not send again for.
    pub async fn commit_as(
        self,
        pool: &WritePool,
        persistence: Persistence,
    ) -> Result<T, BatchError> {
        self.fly(pool, persistence, BATCH_DEADLINE).await
    }

    /// Like [`Batch::commit_as`], but gives the connection up when an answer takes longer than `deadline`.
    ///
    /// # Errors
    /// Those of [`Batch::commit_as`].
    pub async fn commit_each(
        self,
        pool: &WritePool,
        persistence: Persistence,
        deadline: Duration,
    ) -> Result<T, BatchError> {
        self.fly(pool, persistence, deadline).await
    }

    /// Like [`Batch::commit`], but gives the connection up when an answer takes longer than `deadline`.
    ///
    /// # Errors
    /// Those of [`Batch::commit`].
    pub async fn commit_within(
        self,
        pool: &WritePool,
        deadline: Duration,
    ) -> Result<T, BatchError> {
        self.fly(pool, Persistence::Conflicts, deadline).await
    }

    async fn fly(
        self,
        pool: &WritePool,
        persistence: Persistence,
        deadline: Duration,
    ) -> Result<T, BatchError> {
        part::check_wishes(&self.wishes, &self.settings)?;
        let sendable = prepare(self.steps, self.settings)?;
        let labels = sendable.labels.clone();
        effect::check("a batch beside a transaction").map_err(PoolError::from)?;
        let (pool, hooks) = (pool.clone(), self.hooks);
        let committed = async move {
            let sent = match sendable.labels.len() {
                0 => Ok(Vec::new()),
                _ => send::send(sendable, pool, persistence, deadline).await,
            };
            if sent
                .as_ref()
                .map_or_else(|failed| failed.committed, |_| true)
            {
                hook::drain(hooks).await;
            }
            sent.map_err(|failed| failed.error)
        };
        let answers = tokio::spawn(committed).await.map_err(|error| {
            BatchError::Ambiguous(format!("the task of the batch ended early: {error}"))
        })??;
        let mut answers = Answers {
            answers: answers.into_iter(),
            labels: labels.into_iter().enumerate(),
        };
        (self.decode)(&mut answers)
    }
}

impl Answers {
    fn read<A>(
        &mut self,
        decode: Box<dyn FnOnce(Answer) -> Result<A, String> + Send>,
    ) -> Result<A, BatchError> {
        let (Some(answer), Some((index, label))) = (self.answers.next(), self.labels.next()) else {
            return Err(BatchError::Invalid("fewer answers than steps".to_owned()));
        };
        let step = StepName { label, index };
        decode(answer).map_err(|message| BatchError::Unreadable { step, message })
    }
}

/// Checks the steps against the limits.
fn prepare(steps: Vec<SentStep>, settings: Settings) -> Result<Sendable, BatchError> {
    if steps.len() > BATCH_STEPS_MAX {
        let message = format!(
            "{} steps, at most {BATCH_STEPS_MAX} are allowed",
            steps.len()
        );
        return Err(BatchError::Invalid(message));
    }
    part::check_names(&steps)?;
    let locks = steps.iter().any(|step| step.locks);
    let bytes_max = if locks {
        BATCH_LOCKING_BYTES_MAX
    } else {
        BATCH_BYTES_MAX
    };
    let queries = settings.queries();
    let mut sendable = Sendable {
        prelude: queries.len(),
        queries,
        labels: Vec::new(),
        refusals: Vec::new(),
        keys: Vec::new(),
    };
    let mut bytes = 0;
    for (index, step) in steps.into_iter().enumerate() {
        let name = StepName {
            label: step.label,
            index,
        };
        let query = step
            .query
            .map_err(|message| BatchError::Invalid(format!("{name}: {message}")))?;
        bytes += query.bytes();
        sendable.queries.push(query);
        sendable.labels.push(step.label);
        sendable.refusals.push(step.refusals);
        sendable.keys.push(step.key);
    }
    if bytes > bytes_max {
        let message = format!("{bytes} bytes, at most {bytes_max} are allowed");
        return Err(BatchError::Invalid(message));
    }
    Ok(sendable)
}
