//! A service outside: a real HTTP service on a loopback port that stands for whatever a saga calls. It keeps
//! effects by key, says who has called, and fails in every way in which such a service may, on demand.
//!
//! `POST /effects/{key}` makes an effect and `DELETE /effects/{key}` takes it back. Both carry the header
//! [`FENCING_TOKEN`], and a POST a body of JSON. A key has letters, digits and `-_.:`, at least one.
//!
//! | call | answer |
//! |---|---|
//! | the first POST of a key | 201, and there is the effect |
//! | any further one | the same answer, and no second effect |
//! | DELETE | 200, and there is no effect any more, whether there was one or not |
//! | a POST after that, however late | 409: the key has a tombstone |
//! | a token lower than the highest seen for the key | 412 |
//! | what is not understood | 400 |

mod client;
mod serve;
mod state;

pub use client::{Client, Error};

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::SOON;
use state::State;

/// The header with the token of a call: a number from 0 that only grows from owner to owner.
pub const FENCING_TOKEN: &str = "fencing-token";

/// How a call goes wrong. One that hangs or is late goes on by itself, as on a network, when its caller has
/// long given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Effect and answer come so much later.
    Delay(Duration),
    /// 500, and no effect.
    FailBeforeEffect,
    /// The effect, and then 500.
    FailAfterEffect,
    /// Nothing, until [`Outside::release`]: then the call is as one that comes only now.
    HangBeforeEffect,
    /// The effect, and no answer until [`Outside::release`].
    HangAfterEffect,
    /// The effect, and the whole answer twice.
    AnswerTwice,
    /// The effect, and half of the answer's body; then the connection ends.
    CutInAnswer,
    /// 422, and no effect: for good, if the rule is.
    Refuse,
}

/// Which calls meet a fault.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What happens to them.
    pub fault: Fault,
    /// Those of keys that begin so.
    pub prefix: String,
    /// Only those with this method.
    pub method: Option<Method>,
    /// Let this many calls pass that would have met it.
    pub skip: usize,
    /// To this many calls.
    pub times: usize,
}

impl Fault {
    /// To the next call of a key that begins so.
    #[must_use]
    pub fn to(self, prefix: impl Into<String>) -> Rule {
        Rule {
            fault: self,
            prefix: prefix.into(),
            method: None,
            skip: 0,
            times: 1,
        }
    }
}

impl Rule {
    /// Only to calls with this method.
    #[must_use]
    pub fn only(self, method: Method) -> Self {
        Self {
            method: Some(method),
            ..self
        }
    }

    /// Only after so many.
    #[must_use]
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// To every one.
    #[must_use]
    pub fn always(self) -> Self {
        Self {
            times: usize::MAX,
            ..self
        }
    }
}

/// A call as it came, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// POST or DELETE.
    pub method: Method,
    /// The key.
    pub key: String,
    /// Its fencing token.
    pub token: u64,
    /// Its body; null when it has none.
    pub body: Value,
}

/// A running service. Dropped, it is gone, and so are the calls under way.
#[derive(Debug)]
pub struct Outside {
    url: String,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// How often everything was released.
    releases: watch::Sender<u64>,
    /// How many calls hang.
    hanging: watch::Sender<usize>,
    /// How many calls have come and have not gone their way to the end.
    under_way: watch::Sender<usize>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outside {
    /// Starts a service without effects.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            releases: watch::Sender::default(),
            hanging: watch::Sender::default(),
            under_way: watch::Sender::default(),
        });
        let listening = tokio::spawn(serve::listen(listener, Arc::clone(&shared)));
        Self {
            url,
            shared,
            listening,
        }
    }

    /// Its base address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Has calls that come from now on meet a fault. Earlier rules go first, and a call meets one fault.
    pub fn on(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// Has the next calls of keys that begin so meet these faults, one after the other.
    pub fn script(&self, prefix: &str, faults: impl IntoIterator<Item = Fault>) {
        faults
            .into_iter()
            .for_each(|fault| self.on(fault.to(prefix)));
    }

    /// Forgets all rules.
    pub fn clear(&self) {
        self.shared.state().rules.clear();
    }

    /// The keys whose effect is there.
    #[must_use]
    pub fn effects(&self) -> BTreeSet<String> {
        self.shared.state().effects.keys().cloned().collect()
    }

    /// How often an effect was made for a key: more than once never.
    #[must_use]
    pub fn made(&self, key: &str) -> usize {
        self.shared.state().made.get(key).copied().unwrap_or(0)
    }

    /// The calls of one key, in the order in which they came.
    #[must_use]
    pub fn calls(&self, key: &str) -> Vec<Call> {
        let state = self.shared.state();
        let of_key = |call: &&Call| call.key == key;
        state.calls.iter().filter(of_key).cloned().collect()
    }

    /// The fencing tokens of these calls.
    #[must_use]
    pub fn tokens(&self, key: &str) -> Vec<u64> {
        self.calls(key).iter().map(|call| call.token).collect()
    }

    /// How many calls of one key came with this method.
    #[must_use]
    pub fn count(&self, key: &str, method: &Method) -> usize {
        let state = self.shared.state();
        let such = |call: &&Call| call.key == key && call.method == *method;
        state.calls.iter().filter(such).count()
    }

    /// Waits, for at most [`SOON`], until so many calls hang.
    pub async fn hang(&self, calls: usize) {
        wait_for(&self.shared.hanging, |hanging| hanging >= calls).await;
    }

    /// Waits, for at most [`SOON`], until no call is under way: none that hangs, and none that is late.
    pub async fn idle(&self) {
        wait_for(&self.shared.under_way, |under_way| under_way == 0).await;
    }

    /// Lets all calls go on that hang.
    pub fn release(&self) {
        self.shared.releases.send_modify(|releases| *releases += 1);
    }
}

async fn wait_for(count: &watch::Sender<usize>, condition: impl Fn(usize) -> bool) {
    let mut count = count.subscribe();
    let waiting = count.wait_for(|count| condition(*count));
    let waited = tokio::time::timeout(SOON, waiting).await;
    waited.unwrap().expect("the caller keeps the sender");
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
