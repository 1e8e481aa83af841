//! Batches as parts of a batch, and the names of its steps.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::compose::{Append, Batch};
use super::error::{BatchError, StepName};
use super::settings::Settings;
use super::step::SentStep;

/// The settings that a part of a batch was made with.
pub(super) struct Wish {
    part: &'static str,
    settings: Settings,
}

impl<T: Send + 'static> Batch<T> {
    /// Adds the steps of another batch; its outputs come last, together as one.
    ///
    /// They are still one transaction and one round trip. The labels of the part's steps are prefixed
    /// with `name`, as in `project/vpc`; each keeps the table that reads its refusals. The part's hooks
    /// come with it. A transaction has one isolation and one set of time-outs, those of the whole: a
    /// part that asks for others makes the batch [`BatchError::Invalid`].
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
        self.wishes.push(Wish {
            part: name,
            settings: part.settings,
        });
        self.wishes.extend(part.wishes.into_iter().map(|wish| Wish {
            part: joined(name, wish.part),
            ..wish
        }));
        let (before, after) = (self.decode, part.decode);
        Batch {
            steps: self.steps,
            settings: self.settings,
            hooks: self.hooks,
            wishes: self.wishes,
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

/// Refuses parts that ask for another isolation or time-out than the whole has: they would silently
/// run without it.
pub(super) fn check_wishes(wishes: &[Wish], whole: &Settings) -> Result<(), BatchError> {
    match wishes
        .iter()
        .find_map(|wish| Some((wish.part, wish.settings.lost_in(whole)?)))
    {
        None => Ok(()),
        Some((part, setting)) => Err(BatchError::Invalid(format!(
            "part {part} asks for {setting} of its own, which the whole batch does not have: the parts \
             are one transaction; give the whole the same"
        ))),
    }
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
