//! A probe that holds a saga at one point of its way, as a process that sleeps there.

use std::sync::{Condvar, Mutex};

use sagas::probe::{Point, Probe, Verdict};
use tokio::sync::watch;

use crate::SOON;

/// Holds the first saga that comes to a point, until it is opened. Needs a runtime of several threads.
#[derive(Debug)]
pub struct Hold {
    at: Point,
    reached: watch::Sender<bool>,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Hold {
    /// At a point that another saga has passed.
    pub fn at(point: &Point) -> Self {
        Self {
            at: point.clone(),
            reached: watch::Sender::new(false),
            open: Mutex::new(false),
            opened: Condvar::new(),
        }
    }

    /// Waits, for at most [`SOON`], until a saga is held.
    pub async fn reached(&self) {
        let mut reached = self.reached.subscribe();
        let waited = tokio::time::timeout(SOON, reached.wait_for(|reached| *reached));
        waited.await.unwrap().expect("the sender is here");
    }

    /// Lets it go on.
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Probe for Hold {
    fn at(&self, point: &Point) -> Verdict {
        let here =
            |at: &Point| (at.commit, at.side, &at.what) == (point.commit, point.side, &point.what);
        if here(&self.at) && !self.reached.send_replace(true) {
            // Others of the runtime go on meanwhile.
            tokio::task::block_in_place(|| {
                let open = self.open.lock().unwrap();
                // Not for ever: a test that fails before it opens must end as well.
                let waited = self.opened.wait_timeout_while(open, SOON, |open| !*open);
                drop(waited.unwrap());
            });
        }
        Verdict::Continue
    }
}
