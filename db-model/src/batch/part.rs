//! Batches as parts of a batch, and the names of its steps.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::compose::{Append, Batch};
use super::error::{BatchError, StepName};
use super::step::SentStep;

impl<T: Send + 'static> Batch<T> {
    /// Adds the steps of another batch; its outputs come last, together as one.
    ///
    /// They are still one transaction and one round trip. The labels of the part's steps are prefixed
    /// with `name`, as in `project/vpc`; each keeps the table that reads its refusals. The part's hooks
    /// come with it; isolation and time-outs are those of the whole.
    pub fn part<U: Send + 'static>(mut self, name: &'static str, part: Batch<U>) -> Batch<T::Output>
    where
        T: Append<U>,
    {
        let steps = part.steps.into_iter().map(|mut step| {
            step.label = joined(name, step.label);
            step
        });
        self.steps.extend(steps);
        self.hooks.extend(part.hooks);
        let (before, after) = (self.decode, part.decode);
        Batch {
            steps: self.steps,
            settings: self.settings,
            hooks: self.hooks,
            decode: Box::new(move |answers| {
                let outputs = before(answers)?;
                Ok(outputs.append(after(answers)?))
            }),
        }
    }
}

/// `part/label`. Parts and labels are literals of the program, so there is an end to how many there
/// are, and each is made once and kept: a step's name stays as cheap to copy as the literals.
fn joined(part: &'static str, label: &'static str) -> &'static str {
    type Known = HashMap<(&'static str, &'static str), &'static str>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .entry((part, label))
        .or_insert_with(|| Box::leak(format!("{part}/{label}").into_boxed_str()))
}

/// Refuses steps that an error could not tell apart: two of one label, unless all of that label are
/// many of a kind, which their index tells apart.
pub(super) fn check_names(steps: &[SentStep]) -> Result<(), BatchError> {
    let mut known: HashMap<&str, (usize, bool)> = HashMap::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let (first, many) = *known.entry(step.label).or_insert((index, step.many));
        if first != index && !(many && step.many) {
            let label = step.label;
            let [first, second] = [first, index].map(|index| StepName { label, index });
            return Err(BatchError::Invalid(format!(
                "{first} and {second} have the same label: an error could not tell them apart; give \
                 each its own, or make a part of each or one `Batch::all` of both"
            )));
        }
    }
    Ok(())
}
