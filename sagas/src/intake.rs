//! How many sagas run here, and for whom: the limits of one process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use crate::submit::SubmitError;

/// Counts what runs.
#[derive(Debug)]
pub struct Intake {
    running_max: usize,
    per_project_max: usize,
    counts: Mutex<Counts>,
    /// How many run, those taken over among them.
    running: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By id and generation: a saga that was taken from this process and comes back to it may be here
    /// twice for a while.
    sagas: BTreeSet<(Uuid, i64)>,
    submitted: usize,
    projects: BTreeMap<Uuid, usize>,
}

/// A saga's place among the running ones, for as long as this lives.
#[derive(Debug)]
pub struct Place {
    intake: Arc<Intake>,
    saga: (Uuid, i64),
    /// What it counts against: nothing, when it was taken over.
    submitted: Option<Option<Uuid>>,
}

impl Intake {
    /// Limits on what is submitted: in all, and for one project.
    pub fn new(running_max: usize, per_project_max: usize) -> Self {
        Self {
            running_max,
            per_project_max,
            counts: Mutex::default(),
            running: watch::Sender::new(0),
        }
    }

    /// A place for a saga that is submitted.
    ///
    /// # Errors
    /// [`SubmitError::Busy`] and [`SubmitError::ProjectBusy`].
    pub fn submit(
        self: &Arc<Self>,
        saga: (Uuid, i64),
        project: Option<Uuid>,
    ) -> Result<Place, SubmitError> {
        let mut counts = self.counts();
        if counts.submitted >= self.running_max {
            return Err(SubmitError::Busy {
                limit: self.running_max,
            });
        }
        if let Some(project) = project {
            let of_project = counts.projects.entry(project).or_default();
            if *of_project >= self.per_project_max {
                return Err(SubmitError::ProjectBusy {
                    limit: self.per_project_max,
                });
            }
            *of_project += 1;
        }
        counts.submitted += 1;
        Ok(self.place(counts, saga, Some(project)))
    }

    /// A place for a saga that was taken over, which no limit holds up.
    pub fn adopt(self: &Arc<Self>, saga: (Uuid, i64)) -> Place {
        self.place(self.counts(), saga, None)
    }

    fn place(
        self: &Arc<Self>,
        mut counts: MutexGuard<'_, Counts>,
        saga: (Uuid, i64),
        submitted: Option<Option<Uuid>>,
    ) -> Place {
        counts.sagas.insert(saga);
        self.running.send_replace(counts.sagas.len());
        Place {
            intake: Arc::clone(self),
            saga,
            submitted,
        }
    }

    /// The sagas that run here.
    pub fn sagas(&self) -> Vec<Uuid> {
        self.counts().sagas.iter().map(|(id, _)| *id).collect()
    }

    /// How many sagas run here.
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Resolves once none runs.
    pub async fn empty(&self) {
        // The sender lives in `self`, so waiting ends only with the value.
        let mut running = self.running.subscribe();
        running.wait_for(|running| *running == 0).await.ok();
    }

    /// The numbers behind this lock are whole at every panic.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.intake.counts();
        counts.sagas.remove(&self.saga);
        if let Some(project) = self.submitted {
            counts.submitted -= 1;
            if let Some(project) = project {
                let left = counts.projects.get(&project).map_or(0, |count| count - 1);
                match left {
                    0 => counts.projects.remove(&project),
                    left => counts.projects.insert(project, left),
                };
            }
        }
        self.intake.running.send_replace(counts.sagas.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_up_to_the_limits_and_given_back() {
        let intake = Arc::new(Intake::new(3, 2));
        let (one, other) = (Some(Uuid::now_v7()), Some(Uuid::now_v7()));
        let submit = |project| intake.submit((Uuid::now_v7(), 1), project);
        let first = submit(one).unwrap();
        let second = submit(one).unwrap();
        let refused = submit(one).unwrap_err();
        assert!(matches!(refused, SubmitError::ProjectBusy { limit: 2 }));
        let third = submit(other).unwrap();
        assert!(matches!(
            submit(None).unwrap_err(),
            SubmitError::Busy { limit: 3 }
        ));
        // What is taken over has no limit and takes nobody's place.
        let adopted = intake.adopt((Uuid::now_v7(), 2));
        assert_eq!(intake.running(), 4);
        drop((first, adopted));
        let fourth = submit(one).unwrap();
        drop((second, third, fourth));
        assert_eq!((intake.running(), intake.sagas().len()), (0, 0));
        assert!(intake.counts().projects.is_empty());
    }
}
