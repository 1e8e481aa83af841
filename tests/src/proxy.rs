//! A proxy between a client and PostgreSQL that understands the messages of both: it counts and records them, and
//! makes trouble at an exact message, which no firewall can, or at random from a seed.

mod chaos;
mod frames;
mod serve;
mod verdict;

pub use chaos::Chaos;
use chaos::{Dice, Fate};

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// What happens to a flight: the messages of the extended protocol up to and with one Sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This many messages of the flight reach the server, then both sides are cut.
    CutAfter(usize),
    /// All but the Sync reaches the server, then both sides are cut.
    CutBeforeSync,
    /// The Sync reaches the server and both sides are cut at once: the server may or may not commit.
    CutAtSync,
    /// The server runs the flight to its ReadyForQuery, the client gets nothing of it, and both sides are cut.
    LoseReply,
    /// The client gets this many messages of the answer, then both sides are cut.
    CutReplyAfter(usize),
    /// This many messages of the flight reach the server; the others wait for [`Proxy::thaw`].
    FreezeAfter(usize),
}

/// Which flights meet a trouble. Simple queries, as those that set a session up, never do.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What happens.
    pub trouble: Trouble,
    /// Only on this connection, counted from 0 in the order of connecting.
    pub connection: Option<usize>,
    /// Only to this flight, counted from 0 over all connections; see [`Proxy::flights`].
    pub flight: Option<usize>,
    /// Only to flights with a statement, prepared then or earlier, whose text contains this.
    pub containing: Option<String>,
    /// Let this many flights pass that would have met it.
    pub skip: usize,
    /// To this many flights.
    pub times: usize,
}

impl From<Trouble> for Rule {
    /// The next flight, on whatever connection.
    fn from(trouble: Trouble) -> Self {
        Self {
            trouble,
            connection: None,
            flight: None,
            containing: None,
            skip: 0,
            times: 1,
        }
    }
}

impl Trouble {
    /// The next flight with a statement whose text contains `text`.
    #[must_use]
    pub fn to(self, text: impl Into<String>) -> Rule {
        Rule {
            containing: Some(text.into()),
            ..self.into()
        }
    }

    /// The flight of this number, see [`Proxy::flights`].
    #[must_use]
    pub fn at(self, flight: usize) -> Rule {
        Rule {
            flight: Some(flight),
            ..self.into()
        }
    }
}

/// What went over one connection since it was opened, or since it was last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Tags of the client's messages, in order. The startup message has none.
    pub sent: String,
    /// Tags of the server's messages, in order.
    pub received: String,
}

impl Traffic {
    /// How often the client waited for the server: Sync and Query messages.
    #[must_use]
    pub fn round_trips(&self) -> usize {
        self.sent
            .chars()
            .filter(|tag| matches!(tag, 'S' | 'Q'))
            .count()
    }
}

#[derive(Default)]
struct Connection {
    traffic: Traffic,
    /// The server's process for it, once the server has told it.
    process: Option<i32>,
    /// Whether it has been cut, or either side has closed it.
    closed: bool,
    /// The texts of its prepared statements by name.
    statements: HashMap<Vec<u8>, String>,
    /// The texts of the statements of the flight under way.
    texts: Vec<String>,
    /// Messages of the flight under way.
    messages: usize,
    /// The number of the flight under way.
    flight: usize,
    /// What the answer that comes next meets.
    reply: Option<Trouble>,
    dice: Option<Dice>,
    /// What the flight under way meets by chance.
    fate: Fate,
    /// What the answer that comes next meets by chance.
    answer: Fate,
    /// Messages of that answer so far.
    answer_messages: usize,
}

#[derive(Default)]
struct State {
    connections: Vec<Connection>,
    rules: Vec<Rule>,
    /// The seed and what it is for.
    chaos: Option<(u64, Chaos)>,
    flights: usize,
    troubles: usize,
    delay: Duration,
    refuse: bool,
    /// Bytes that reach the client at once; 0 is as many as there are.
    piece: usize,
}

struct Shared {
    state: Mutex<State>,
    /// How often everything was cut.
    cuts: watch::Sender<u64>,
    /// How often everything was thawed.
    thaws: watch::Sender<u64>,
    /// How many flights are frozen.
    frozen: watch::Sender<usize>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running proxy on a loopback port. Dropping it cuts everything.
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

#[derive(Clone)]
enum Upstream {
    Unix(PathBuf),
    Tcp(String, u16),
}

impl Proxy {
    /// Starts a proxy before the first host of `upstream`, a URL or `key=value` pairs.
    ///
    /// # Errors
    /// If the string is not understood, or no port can be opened.
    pub async fn start(upstream: &str) -> io::Result<Self> {
        let config: Config = upstream.parse().map_err(io::Error::other)?;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let host = config
            .get_hosts()
            .first()
            .ok_or_else(|| io::Error::other("no host"))?;
        let upstream = match host {
            Host::Unix(folder) => Upstream::Unix(folder.join(format!(".s.PGSQL.{port}"))),
            Host::Tcp(name) => Upstream::Tcp(name.clone(), port),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut url = format!(
            "host=127.0.0.1 port={} sslmode=disable",
            listener.local_addr()?.port()
        );
        let password = config.get_password().map(String::from_utf8_lossy);
        let options = [
            ("user", config.get_user().map(str::to_owned)),
            ("dbname", config.get_dbname().map(str::to_owned)),
            ("password", password.map(|password| password.into_owned())),
        ];
        for (key, value) in options {
            if let Some(value) = value {
                url.push_str(&format!(
                    " {key}='{}'",
                    value.replace('\\', "\\\\").replace('\'', "\\'")
                ));
            }
        }
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            cuts: watch::Sender::default(),
            thaws: watch::Sender::default(),
            frozen: watch::Sender::default(),
        });
        let listening = tokio::spawn(serve::listen(listener, upstream, Arc::clone(&shared)));
        Ok(Self {
            url,
            shared,
            listening,
        })
    }

    /// The connection string that leads through the proxy to the same database, unencrypted.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes trouble for flights that begin from now on. Earlier rules go first.
    pub fn on(&self, rule: impl Into<Rule>) {
        self.shared.state().rules.push(rule.into());
    }

    /// Forgets all rules.
    pub fn clear(&self) {
        self.shared.state().rules.clear();
    }

    /// Makes trouble at random for flights that begin from now on, beside the rules, which go first. The
    /// same seed gives each connection the same troubles again, flight by flight.
    pub fn chaos(&self, seed: u64, plan: Chaos) {
        self.calm();
        self.shared.state().chaos = Some((seed, plan));
    }

    /// Ends what [`Proxy::chaos`] began, also for flights under way.
    pub fn calm(&self) {
        let mut state = self.shared.state();
        state.chaos = None;
        for connection in &mut state.connections {
            connection.dice = None;
            connection.fate = Fate::default();
            connection.answer = Fate::default();
        }
    }

    /// How many flights have begun so far, which is the number of the next one.
    #[must_use]
    pub fn flights(&self) -> usize {
        self.shared.state().flights
    }

    /// How many flights met trouble so far.
    #[must_use]
    pub fn troubles(&self) -> usize {
        self.shared.state().troubles
    }

    /// Delays everything by this much, each way, on all connections.
    pub fn delay(&self, each_way: Duration) {
        self.shared.state().delay = each_way;
    }

    /// Lets the server's bytes reach the client only so many at a time, as a network may.
    pub fn pieces(&self, bytes: usize) {
        self.shared.state().piece = bytes;
    }

    /// Whether new connections are closed at once, as by a database that is away.
    pub fn refuse(&self, refuse: bool) {
        self.shared.state().refuse = refuse;
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets everything frozen go on.
    pub fn thaw(&self) {
        self.shared.thaws.send_modify(|thaws| *thaws += 1);
    }

    /// Waits until a flight is frozen.
    pub async fn frozen(&self) {
        let mut frozen = self.shared.frozen.subscribe();
        frozen
            .wait_for(|count| *count > 0)
            .await
            .expect("`self` keeps the sender");
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        let state = self.shared.state();
        let open = state.connections.iter().filter(|one| !one.closed);
        open.count()
    }

    /// The server's processes behind connections that are open no more. What such a process has not read
    /// yet it still runs.
    #[must_use]
    pub fn left_behind(&self) -> Vec<i32> {
        let state = self.shared.state();
        let closed = state.connections.iter().filter(|one| one.closed);
        closed.filter_map(|one| one.process).collect()
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// What went over each connection since this was last asked.
    pub fn take_traffic(&self) -> Vec<Traffic> {
        let mut state = self.shared.state();
        state
            .connections
            .iter_mut()
            .map(|connection| std::mem::take(&mut connection.traffic))
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
