//! What the nodes do.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use db_model::batch::{Batch, Step};
use db_model::constraint::Refusal;
use db_model::types::ResourceKind;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use futures::FutureExt;
use futures::future::BoxFuture;
use sagas::definition::{Call, CallError, Context, NodeError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::table::SLOTS;
use crate::SOON;
use crate::outside::{Client, Error};

/// What a trial is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Params {
    /// Where the service outside is.
    pub outside: String,
    /// What nodes do instead of succeeding, by slot.
    #[serde(default)]
    pub deeds: BTreeMap<usize, Deed>,
    /// In how many sagas the one that reads it is: each subsaga is told one more.
    #[serde(default)]
    pub depth: u32,
}

/// What a node does instead of succeeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Refuses, and has no effect.
    Refuse,
    /// Has its effect and fails then: an external node's stays, a db node's goes with its batch.
    Break,
    /// Panics.
    Panic,
    /// Takes this many milliseconds longer. Nodes that compute.
    Slow(u64),
}

/// What a node gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The node's slot.
    pub slot: usize,
    /// [`Params::depth`], as the node read it.
    pub depth: u32,
}

impl Params {
    /// The same, but that a node does this.
    #[must_use]
    pub fn with(mut self, slot: usize, deed: Deed) -> Self {
        self.deeds.insert(slot, deed);
        self
    }

    fn deed(&self, slot: usize) -> Option<Deed> {
        self.deeds.get(&slot).copied()
    }

    fn made(&self, slot: usize) -> Made {
        let depth = self.depth;
        Made { slot, depth }
    }
}

/// The name of the node in a slot, in the table that it stands in.
pub fn name(slot: usize) -> &'static str {
    static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let name = |slot| &*format!("n{slot:02}").leak();
        (0..SLOTS).map(name).collect()
    });
    NAMES[slot]
}

/// The key under which the service outside knows what a node has called for. It begins with the node, so
/// that a fault can be laid for it before there is a saga.
pub fn key_outside(saga_id: Uuid, node: &str) -> String {
    format!("{node}:{saga_id}")
}

fn refused(slot: usize) -> NodeError {
    let slot = u128::try_from(slot).unwrap();
    NodeError::Refused(Refusal::NotFound {
        kind: ResourceKind::Project,
        id: Uuid::from_u128(slot),
    })
}

/// Computes.
pub fn compute<const N: usize>(context: &Context<'_, Params>) -> Result<Made, NodeError> {
    match context.params.deed(N) {
        Some(Deed::Refuse | Deed::Break) => return Err(refused(N)),
        Some(Deed::Panic) => panic!("a trial"),
        Some(Deed::Slow(milliseconds)) => {
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
        None => {}
    }
    Ok(context.params.made(N))
}

/// Adds a row, and one to the counter.
pub fn change<const N: usize>(
    context: &Context<'_, Params>,
) -> Result<(Batch<()>, Made), NodeError> {
    let deed = context.params.deed(N);
    match deed {
        Some(Deed::Refuse) => return Err(refused(N)),
        Some(Deed::Panic) => panic!("a trial"),
        _ => {}
    }
    let mut steps = effect(context.change.id, N, "do", 1);
    if deed == Some(Deed::Break) {
        let broken = diesel::sql_query("INSERT INTO trial_count (value) VALUES (NULL)");
        steps.push(Step::statement("trial.break", broken));
    }
    Ok((Batch::new().after(steps), context.params.made(N)))
}

/// Adds a row that says so, and takes one from the counter.
pub fn change_undo<const N: usize>(context: &Context<'_, Params>) -> Result<Batch<()>, NodeError> {
    Ok(Batch::new().after(effect(context.change.id, N, "undo", -1)))
}

/// The steps of an effect: a row, and a change of the counter.
pub fn effect(saga_id: Uuid, slot: usize, kind: &'static str, change: i64) -> Vec<Step<()>> {
    let slot = i64::try_from(slot).unwrap();
    let row = diesel::sql_query("INSERT INTO trial (saga_id, slot, kind) VALUES ($1, $2, $3)")
        .bind::<SqlUuid, _>(saga_id)
        .bind::<BigInt, _>(slot)
        .bind::<Text, _>(kind);
    let count =
        diesel::sql_query("UPDATE trial_count SET value = value + $1").bind::<BigInt, _>(change);
    vec![
        Step::statement("trial.insert", row),
        Step::statement("trial_count.update", count),
    ]
}

/// Makes an effect outside.
pub fn call<const N: usize>(call: Call<Params>) -> BoxFuture<'static, Result<Made, CallError>> {
    async move {
        let deed = call.params.deed(N);
        match deed {
            Some(Deed::Refuse) => return Err(CallError::refused("a trial")),
            Some(Deed::Panic) => panic!("a trial"),
            _ => {}
        }
        let made = client(&call.params.outside)
            .put(&key(&call), token(&call), &json!({ "slot": N }))
            .await;
        made.map_err(error)?;
        if deed == Some(Deed::Break) {
            return Err(CallError::refused("a trial, after its effect"));
        }
        Ok(call.params.made(N))
    }
    .boxed()
}

/// Takes it back.
pub fn call_undo(call: Call<Params>) -> BoxFuture<'static, Result<(), CallError>> {
    async move {
        let deleted = client(&call.params.outside)
            .delete(&key(&call), token(&call))
            .await;
        deleted.map_err(error)
    }
    .boxed()
}

/// What a subsaga is told.
pub fn inner(context: &Context<'_, Params>) -> Result<Params, NodeError> {
    let depth = context.params.depth + 1;
    Ok(Params {
        depth,
        ..context.params.clone()
    })
}

fn key(call: &Call<Params>) -> String {
    let node = call.key.strip_prefix(&format!("{}/", call.saga_id));
    key_outside(call.saga_id, node.expect("a key names its saga"))
}

fn token(call: &Call<Params>) -> u64 {
    u64::try_from(call.token).expect("generations are positive")
}

fn error(error: Error) -> CallError {
    match &error {
        Error::Refused { .. } => CallError::refused(error.to_string()),
        Error::Failed { .. } | Error::Unreachable(_) => CallError::unavailable(error.to_string()),
    }
}

/// A client of each service, made once: it takes longer than a call.
fn client(url: &str) -> Client {
    static CLIENTS: LazyLock<Mutex<HashMap<String, Client>>> = LazyLock::new(Mutex::default);
    let mut clients = CLIENTS.lock().unwrap();
    let client = clients
        .entry(url.to_owned())
        .or_insert_with(|| Client::new(url, SOON));
    client.clone()
}
