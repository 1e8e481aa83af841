//! Clients that create and delete projects and instances without pause, and know afterwards what
//! must be there and what must not. No two touch the same project, so an answer that contradicts
//! what was answered before is noted as wrong at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::history::{History, Known, Seen, Thing};
use crate::{Answer, process};

/// Projects of one client at once.
const PROJECTS: usize = 3;

/// The seed of a test, printed; `NEXUS_TEST_SEED` repeats one.
pub fn seed() -> u64 {
    let seed = match std::env::var("NEXUS_TEST_SEED") {
        Ok(text) => text.parse().expect("NEXUS_TEST_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("NEXUS_TEST_SEED={seed}");
    seed
}

/// How a request was answered.
#[derive(Clone, Debug)]
enum Answered {
    Done(Value),
    Accepted(Uuid),
    /// Refused, with status, code and body; nothing was done.
    Refused(u16, String, Value),
    /// Nobody knows: the connection ended.
    Cut,
    /// It was not sent.
    NotSent,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) things: Vec<Thing>,
    pub(crate) seen: Seen,
    random: StdRng,
    client: Client,
    targets: watch::Receiver<Vec<String>>,
    acknowledged: Arc<AtomicUsize>,
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    workers: Vec<JoinHandle<Worker>>,
    targets: watch::Sender<Vec<String>>,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Starts clients; number `n` asks target `n`, round and round.
    pub fn start(seed: u64, clients: usize, targets: Vec<String>) -> Self {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let targets = watch::Sender::new(targets);
        let worker = |number: usize| {
            let mut worker = Worker {
                number,
                things: Vec::new(),
                seen: Seen::default(),
                random: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
                client: process::client_of_one_request(),
                targets: targets.subscribe(),
                acknowledged: Arc::clone(&acknowledged),
            };
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    worker.step().await;
                }
                worker
            })
        };
        Self {
            workers: (0..clients).map(worker).collect(),
            targets,
            acknowledged,
            stop,
        }
    }

    /// Where the servers are from now on.
    pub fn aim(&self, targets: Vec<String>) {
        self.targets.send_replace(targets);
    }

    /// Waits until so many more changes were acknowledged.
    pub async fn goes_on(&self, changes: usize) {
        let least = self.acknowledged.load(Ordering::Relaxed) + changes;
        crate::eventually("the clients get on", async || {
            self.acknowledged.load(Ordering::Relaxed) >= least
        })
        .await;
    }

    /// Ends the clients after their last answers.
    pub async fn stop(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        let mut workers = Vec::new();
        for worker in self.workers {
            workers.push(worker.await.unwrap());
        }
        History::new(workers)
    }
}

impl Worker {
    async fn step(&mut self) {
        let open = self.one_where(|thing| {
            matches!(
                thing.known,
                Known::Creating(_) | Known::Deleting(_) | Known::MaybeMade | Known::MaybeGone
            )
        });
        if let Some(open) = open
            && self.random.random_bool(0.4)
        {
            return self.pursue(open).await;
        }
        let projects = self.count(|thing| thing.project.is_none() && thing.known == Known::Present);
        let dice = self.random.random_range(0..100);
        if projects == 0 || (dice < 10 && projects < PROJECTS) {
            let name = format!("p{}-{}", self.number, self.things.len());
            return self.create_new(None, name).await;
        }
        let of_project = |thing: &Thing| thing.project.is_none() && thing.known == Known::Present;
        let project = self.one_where(of_project).expect("there is one");
        let instance =
            self.one_where(|thing| thing.project.is_some() && thing.known == Known::Present);
        match (dice, instance) {
            (..20, _) => self.delete(project).await,
            (20..60, Some(instance)) => self.delete(instance).await,
            _ => {
                let parent = self.things[project].name.clone();
                let name = format!("i{}", self.things.len());
                self.create_new(Some(parent), name).await;
            }
        }
    }

    fn count(&self, condition: impl Fn(&Thing) -> bool) -> usize {
        self.things.iter().filter(|thing| condition(thing)).count()
    }

    fn one_where(&mut self, condition: impl Fn(&Thing) -> bool) -> Option<usize> {
        let places: Vec<_> = (0..self.things.len())
            .filter(|&place| condition(&self.things[place]))
            .collect();
        if places.is_empty() {
            return None;
        }
        Some(places[self.random.random_range(0..places.len())])
    }

    async fn create_new(&mut self, project: Option<String>, name: String) {
        self.things.push(Thing {
            project,
            name,
            id: None,
            known: Known::Absent,
            cut: false,
        });
        self.create(self.things.len() - 1).await;
    }

    /// Follows what is not known yet.
    async fn pursue(&mut self, place: usize) {
        match self.things[place].known {
            Known::Creating(operation) | Known::Deleting(operation) => {
                self.ask(place, operation).await
            }
            Known::MaybeMade => self.create(place).await,
            Known::MaybeGone => self.delete(place).await,
            Known::Absent | Known::Present => {}
        }
    }

    async fn create(&mut self, place: usize) {
        let thing = self.things[place].clone();
        let body = match thing.project {
            // Small enough for a refusal now and then.
            None => {
                json!({"name": thing.name, "description": "a secret", "quota": {"instances": 4}})
            }
            Some(_) => json!({
                "name": thing.name, "description": "a secret", "vcpus": 1, "memory_bytes": 1 << 20
            }),
        };
        let before = thing.known;
        let answered = self
            .change(Method::POST, &thing.collection(), Some(&body))
            .await;
        let known = match &answered {
            Answered::Done(body) => {
                self.things[place].id = body["id"].as_str().map(str::to_owned);
                Known::Present
            }
            Answered::Accepted(operation) => Known::Creating(*operation),
            Answered::Refused(409, code, body) if code == "name_taken" => {
                if before == Known::Absent {
                    self.wrong(&thing, &answered);
                }
                self.things[place].id = body["existing_id"].as_str().map(str::to_owned);
                Known::Present
            }
            Answered::Refused(409, code, _)
                if code == "quota_exceeded" && thing.project.is_some() =>
            {
                before
            }
            // Of a project that is still being made or deleted.
            Answered::Refused(404 | 409, ..) if !self.is_present(thing.project.as_deref()) => {
                before
            }
            Answered::Refused(503, ..) | Answered::NotSent => before,
            Answered::Refused(..) => {
                self.wrong(&thing, &answered);
                before
            }
            Answered::Cut => Known::MaybeMade,
        };
        self.know(place, known);
    }

    async fn delete(&mut self, place: usize) {
        let thing = self.things[place].clone();
        let before = thing.known;
        let path = format!("{}/{}", thing.collection(), thing.name);
        let answered = self.change(Method::DELETE, &path, None).await;
        let inside = |known: Known| {
            let project = Some(thing.name.as_str());
            thing.project.is_none()
                && self
                    .things
                    .iter()
                    .any(|other| other.project.as_deref() == project && other.known == known)
        };
        let known = match &answered {
            Answered::Done(_) => {
                if inside(Known::Present) {
                    self.wrong(&thing, &answered);
                }
                Known::Absent
            }
            Answered::Accepted(operation) => Known::Deleting(*operation),
            Answered::Refused(404, ..) if before == Known::MaybeGone => Known::Absent,
            Answered::Refused(409, code, _)
                if code == "not_empty" || before == Known::MaybeGone =>
            {
                before
            }
            // It stands there, but what makes it has not ended.
            Answered::Refused(409, code, _) if code == "wrong_state" => before,
            Answered::Refused(503, ..) | Answered::NotSent => before,
            Answered::Refused(..) => {
                self.wrong(&thing, &answered);
                before
            }
            Answered::Cut => Known::MaybeGone,
        };
        self.know(place, known);
    }

    fn know(&mut self, place: usize, known: Known) {
        let thing = &mut self.things[place];
        thing.known = known;
        thing.cut |= matches!(known, Known::MaybeMade | Known::MaybeGone);
    }

    fn is_present(&self, project: Option<&str>) -> bool {
        let of_name =
            |thing: &&Thing| thing.project.is_none() && Some(thing.name.as_str()) == project;
        self.things
            .iter()
            .find(of_name)
            .is_none_or(|thing| thing.known == Known::Present && !thing.cut)
    }

    /// Looks at an operation once.
    async fn ask(&mut self, place: usize, operation: Uuid) {
        let path = format!("/v1/operations/{operation}");
        let succeeded = match self.send(Method::GET, &path, None, false).await {
            Answered::Done(body) => match body["state"].as_str() {
                Some("running") => return,
                Some(state @ ("succeeded" | "failed")) => state == "succeeded",
                _ => return self.wrong(&self.things[place].clone(), &Answered::Done(body)),
            },
            Answered::Refused(503, ..) | Answered::NotSent | Answered::Cut => return,
            other => return self.wrong(&self.things[place].clone(), &other),
        };
        self.things[place].ended(succeeded);
    }

    fn wrong(&mut self, thing: &Thing, answered: &Answered) {
        let number = self.number;
        let text = format!("client {number}: {thing:?} was answered {answered:?}");
        self.seen.wrong.push(text);
    }

    async fn change(&mut self, method: Method, path: &str, body: Option<&Value>) -> Answered {
        let respond_async = self.random.random_bool(0.3);
        let answered = self.send(method, path, body, respond_async).await;
        match &answered {
            Answered::Done(_) | Answered::Accepted(_) => {
                self.seen.acknowledged += 1;
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Answered::Refused(..) => self.seen.refused += 1,
            Answered::Cut | Answered::NotSent => {}
        }
        answered
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        respond_async: bool,
    ) -> Answered {
        let target = {
            let all = self.targets.borrow();
            all[self.number % all.len()].clone()
        };
        let mut request = self
            .client
            .request(method.clone(), format!("{target}{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        if respond_async {
            request = request.header("prefer", "respond-async");
        }
        let answer = match request.send().await {
            Ok(response) => Answer::try_read(response).await,
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.seen
                    .failures
                    .push(format!("{method} {path}: {error:?}"));
                if error.is_timeout() {
                    self.seen
                        .wrong
                        .push(format!("{method} {path} had no answer"));
                }
                // Not in vain a thousand times a second.
                tokio::time::sleep(Duration::from_millis(10)).await;
                if error.is_connect() {
                    return Answered::NotSent;
                }
                return Answered::Cut;
            }
        };
        self.answered(&method, path, answer)
    }

    fn answered(&mut self, method: &Method, path: &str, answer: Answer) -> Answered {
        let (status, body) = (answer.status.as_u16(), answer.body);
        if status == 202 {
            return Answered::Accepted(body["id"].as_str().unwrap().parse().unwrap());
        }
        if status < 300 {
            return Answered::Done(body);
        }
        if status >= 500 {
            self.seen
                .failures
                .push(format!("{method} {path}: {status} {body}"));
            // It is on its way all the same: to be looked at.
            if let Some(operation) = body["operation_id"].as_str()
                && status == 503
            {
                return Answered::Accepted(operation.parse().unwrap());
            }
        }
        let code = body["error_code"].as_str().unwrap_or_default().to_owned();
        Answered::Refused(status, code, body)
    }
}
