//! A proxy between a client and PostgreSQL that understands the messages of both: it counts and records them, and
//! makes trouble at an exact message, which no firewall can.

mod frames;

use frames::{Frames, Start};
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// What happens to a flight: the messages of the extended protocol up to and with one Sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
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
    /// The texts of its prepared statements by name.
    statements: HashMap<Vec<u8>, String>,
    /// The texts of the statements of the flight under way.
    texts: Vec<String>,
    /// Messages of the flight under way.
    messages: usize,
    /// What the answer that comes next meets.
    reply: Option<Trouble>,
}

#[derive(Default)]
struct State {
    connections: Vec<Connection>,
    rules: Vec<Rule>,
    troubles: usize,
    delay: Duration,
    refuse: bool,
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
        let listening = tokio::spawn(listen(listener, upstream, Arc::clone(&shared)));
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

    /// How many flights met trouble so far.
    #[must_use]
    pub fn troubles(&self) -> usize {
        self.shared.state().troubles
    }

    /// Delays everything by this much, each way, on all connections.
    pub fn delay(&self, each_way: Duration) {
        self.shared.state().delay = each_way;
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

async fn listen(listener: TcpListener, upstream: Upstream, shared: Arc<Shared>) {
    let mut serving = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if shared.state().refuse {
            continue;
        }
        let number = {
            let mut state = shared.state();
            state.connections.push(Connection::default());
            state.connections.len() - 1
        };
        let (upstream, shared) = (upstream.clone(), Arc::clone(&shared));
        serving.spawn(async move {
            // However it ends, both sockets are closed; that is what the two sides get to know.
            serve(client, upstream, &shared, number).await.ok();
        });
        while serving.try_join_next().is_some() {}
    }
}

async fn serve(
    client: TcpStream,
    upstream: Upstream,
    shared: &Shared,
    number: usize,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (client_reads, client_writes) = client.into_split();
    match upstream {
        Upstream::Unix(path) => {
            let (reads, writes) = UnixStream::connect(path).await?.into_split();
            pump(
                shared,
                number,
                (client_reads, client_writes),
                (reads, writes),
            )
            .await
        }
        Upstream::Tcp(host, port) => {
            let server = TcpStream::connect((host, port)).await?;
            server.set_nodelay(true)?;
            pump(
                shared,
                number,
                (client_reads, client_writes),
                server.into_split(),
            )
            .await
        }
    }
}

/// Moves messages both ways until one side ends or a trouble cuts.
async fn pump<CR, CW, SR, SW>(
    shared: &Shared,
    number: usize,
    (mut client_reads, mut client_writes): (CR, CW),
    (server_reads, server_writes): (SR, SW),
) -> io::Result<()>
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    SR: AsyncRead + Unpin,
    SW: AsyncWrite + Unpin,
{
    let mut cuts = shared.cuts.subscribe();
    let mut frames = Frames::default();
    let start = frames::start(&mut client_reads, &mut client_writes).await?;
    let startup = match start {
        Start::Session(startup) | Start::Cancel(startup) => startup,
    };
    frames.pass(&startup);
    tokio::select! {
        ended = upward(shared, number, client_reads, server_writes, frames) => ended,
        ended = downward(shared, number, server_reads, client_writes) => ended,
        _ = cuts.changed() => Ok(()),
    }
}

/// What becomes of one message of the client.
enum Verdict {
    Pass,
    Freeze,
    CutBefore,
    CutAfter,
}

async fn upward(
    shared: &Shared,
    number: usize,
    mut reads: impl AsyncRead + Unpin,
    mut writes: impl AsyncWrite + Unpin,
    mut frames: Frames,
) -> io::Result<()> {
    writes.write_all(&frames.take_passed()).await?;
    while reads.read_buf(frames.buffer()).await? > 0 {
        wait(shared).await;
        while let Some(frame) = frames.next() {
            let verdict = sent(&mut shared.state(), number, &frame);
            match verdict {
                Verdict::Pass => frames.pass(&frame),
                Verdict::Freeze => {
                    writes.write_all(&frames.take_passed()).await?;
                    freeze(shared).await;
                    frames.pass(&frame);
                }
                Verdict::CutBefore => return writes.write_all(&frames.take_passed()).await,
                Verdict::CutAfter => {
                    frames.pass(&frame);
                    return writes.write_all(&frames.take_passed()).await;
                }
            }
        }
        writes.write_all(&frames.take_passed()).await?;
    }
    Ok(())
}

async fn downward(
    shared: &Shared,
    number: usize,
    mut reads: impl AsyncRead + Unpin,
    mut writes: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut frames = Frames::default();
    while reads.read_buf(frames.buffer()).await? > 0 {
        wait(shared).await;
        while let Some(frame) = frames.next() {
            let verdict = received(&mut shared.state().connections[number], frame[0]);
            match verdict {
                Reply::Pass => frames.pass(&frame),
                Reply::Swallow => {}
                Reply::Cut => return writes.write_all(&frames.take_passed()).await,
            }
        }
        writes.write_all(&frames.take_passed()).await?;
    }
    Ok(())
}

/// What becomes of one message of the server.
enum Reply {
    Pass,
    Swallow,
    Cut,
}

/// Records a message of the server and decides what becomes of it.
fn received(connection: &mut Connection, tag: u8) -> Reply {
    connection.traffic.received.push(char::from(tag));
    match &mut connection.reply {
        None => Reply::Pass,
        Some(Trouble::CutReplyAfter(0)) => Reply::Cut,
        Some(Trouble::CutReplyAfter(left)) => {
            *left -= 1;
            Reply::Pass
        }
        Some(_) if tag == b'Z' => Reply::Cut,
        Some(_) => Reply::Swallow,
    }
}

async fn wait(shared: &Shared) {
    let delay = shared.state().delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

async fn freeze(shared: &Shared) {
    let mut thaws = shared.thaws.subscribe();
    shared.frozen.send_modify(|count| *count += 1);
    thaws.changed().await.ok();
    shared.frozen.send_modify(|count| *count -= 1);
}

/// Records a message of the client and decides what becomes of it.
fn sent(state: &mut State, number: usize, frame: &[u8]) -> Verdict {
    let connection = &mut state.connections[number];
    let tag = frame[0];
    connection.traffic.sent.push(char::from(tag));
    match tag {
        b'P' => {
            let mut parts = frame[5..].split(|byte| *byte == 0);
            let name = parts.next().unwrap_or_default().to_vec();
            let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
            connection.statements.insert(name, text);
        }
        b'B' => {
            let name = frame[5..]
                .split(|byte| *byte == 0)
                .nth(1)
                .unwrap_or_default();
            connection
                .texts
                .extend(connection.statements.get(name).cloned());
        }
        b'D' | b'E' | b'C' | b'S' | b'H' => {}
        _ => return Verdict::Pass,
    }
    connection.messages += 1;
    let (messages, texts) = (connection.messages, &connection.texts);
    let meets = state.rules.iter().position(|rule| {
        let here = match rule.trouble {
            Trouble::FreezeAfter(count) => messages == count + 1,
            _ => tag == b'S',
        };
        let text = rule.containing.as_ref();
        here && rule.connection.is_none_or(|only| only == number)
            && text.is_none_or(|part| texts.iter().any(|text| text.contains(part)))
    });
    if tag == b'S' {
        connection.messages = 0;
        connection.texts.clear();
    }
    let Some(index) = meets else {
        return Verdict::Pass;
    };
    let rule = &mut state.rules[index];
    if rule.skip > 0 {
        rule.skip -= 1;
        return Verdict::Pass;
    }
    let trouble = rule.trouble;
    rule.times -= 1;
    if rule.times == 0 {
        state.rules.remove(index);
    }
    state.troubles += 1;
    match trouble {
        Trouble::CutBeforeSync => Verdict::CutBefore,
        Trouble::CutAtSync => Verdict::CutAfter,
        Trouble::FreezeAfter(_) => Verdict::Freeze,
        Trouble::LoseReply | Trouble::CutReplyAfter(_) => {
            connection.reply = Some(trouble);
            Verdict::Pass
        }
    }
}
