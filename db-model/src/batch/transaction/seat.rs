//! Where a transaction has its session, so that its owner can take the session away: a body may keep its
//! transaction, in a task of its own or for ever, but not the session and what that has locked.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::batch::flight::{FlightError, Landing, NotSent, Query, Standing};
use crate::pool::PooledFlight;

struct State {
    /// Gone while it flies, and once the seat is vacated.
    flight: Option<PooledFlight>,
    vacated: bool,
}

/// The place of one session.
#[derive(Clone)]
pub(super) struct Seat(Arc<Mutex<State>>);

/// Vacates the seat when it is dropped.
pub(super) struct Owner(Seat);

impl Seat {
    pub fn new(flight: PooledFlight) -> (Self, Owner) {
        let state = State {
            flight: Some(flight),
            vacated: false,
        };
        let seat = Self(Arc::new(Mutex::new(state)));
        (seat.clone(), Owner(seat))
    }

    /// How the session stands; nothing when it is lost or taken away.
    pub fn standing(&self) -> Option<Standing> {
        self.lock().flight.as_ref()?.standing()
    }

    /// Flies within the transaction. A flight that is dropped half way takes the session with it.
    pub async fn fly(&self, queries: &[Query], deadline: Duration) -> Result<Landing, FlightError> {
        let Some(mut flight) = self.lock().flight.take() else {
            return Err(NotSent::Poisoned.into());
        };
        let landing = flight.fly_open(queries, deadline).await;
        let mut state = self.lock();
        if !state.vacated {
            state.flight = Some(flight);
        }
        landing
    }

    /// Gives the session back to its pool, or ends it if it is not idle.
    pub fn vacate(&self) {
        let mut state = self.lock();
        state.vacated = true;
        let flight = state.flight.take();
        drop(state);
        drop(flight);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.vacate();
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Seat")
    }
}
