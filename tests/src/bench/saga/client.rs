//! HTTP clients that create instances without pause. They do as little as can be, for they share the machine with
//! what is measured: one connection each, and of an answer they read what has to be known.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::ground::REFUSING_PROJECT;
use crate::bench::place::project_id;

/// How many projects the requests are spread over.
pub const SPREAD_PROJECTS: u64 = 64;
/// Before a request is sent again that was answered with 503.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of an answer; those of the product are far shorter.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Whose quota the requests charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// That of one project.
    Hot,
    /// That of any of [`SPREAD_PROJECTS`].
    Spread,
    /// That of a project that may have no instances.
    Refusing,
}

/// When the clients stop.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// After a time; whoever is on the way then comes to its end.
    Time(Duration),
    /// After so many requests, all clients together.
    Requests(u64),
}

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients at once.
    pub clients: u64,
    /// Whose quota.
    pub rows: Rows,
    /// Until when.
    pub extent: Extent,
    /// Whether they ask for an answer at once, and the work later.
    pub respond_async: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Requests that were answered as they must be.
    pub answered: u64,
    /// Those answered while it counted, per second.
    pub per_second: f64,
    /// How long each of them took, ascending.
    latencies: Vec<Duration>,
}

impl Done {
    /// The latency that so many percent of the requests do not exceed, in milliseconds.
    pub fn latency_ms(&self, percent: usize) -> f64 {
        let place = self.latencies.len() * percent / 100;
        let latency = self.latencies.get(place).or(self.latencies.last());
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// Lets clients at a service.
///
/// # Errors
/// When one is answered otherwise than it must be, or not at all.
pub async fn run(address: &str, load: Load) -> Result<Done> {
    let begun = Instant::now();
    let taken = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        let mut connection = Connection::open(address).await?;
        let taken = Arc::clone(&taken);
        clients.spawn(async move {
            let mut answers = Vec::new();
            while goes_on(load.extent, begun, &taken) {
                let sent = Instant::now();
                while !connection.create(load).await? {
                    sleep(BUSY_PAUSE).await;
                }
                answers.push((begun.elapsed(), sent.elapsed()));
            }
            anyhow::Ok(answers)
        });
    }
    let mut done = Done::default();
    let mut in_time = 0_u64;
    let mut last = Duration::ZERO;
    for answers in clients.join_all().await {
        for (at, latency) in answers? {
            done.answered += 1;
            in_time += u64::from(!matches!(load.extent, Extent::Time(time) if at > time));
            last = last.max(at);
            done.latencies.push(latency);
        }
    }
    done.latencies.sort_unstable();
    let seconds = match load.extent {
        Extent::Time(time) => time,
        Extent::Requests(_) => last,
    };
    done.per_second = in_time as f64 / seconds.as_secs_f64();
    Ok(done)
}

fn goes_on(extent: Extent, begun: Instant, taken: &AtomicU64) -> bool {
    let number = taken.fetch_add(1, Ordering::Relaxed);
    match extent {
        Extent::Time(time) => begun.elapsed() < time,
        Extent::Requests(requests) => number < requests,
    }
}

/// One connection that is kept.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: String,
    buffer: Vec<u8>,
}

impl Connection {
    /// To a service on an address.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            address: address.to_owned(),
            buffer: Vec::new(),
        })
    }

    /// Creates one more instance. Gives whether it was answered as it must be; else the service is busy, which only
    /// one that was asked to answer at once may be.
    async fn create(&mut self, load: Load) -> Result<bool> {
        let project = project_id(match load.rows {
            Rows::Hot => 1,
            Rows::Spread => rand::rng().random_range(1..=SPREAD_PROJECTS),
            Rows::Refusing => REFUSING_PROJECT,
        });
        let name = Uuid::now_v7().simple();
        let body = format!(r#"{{"name":"i{name}","vcpus":1,"memory_bytes":1073741824}}"#);
        let prefer = if load.respond_async {
            "prefer: respond-async\r\n"
        } else {
            ""
        };
        let request = format!(
            "POST /v1/projects/{project}/instances HTTP/1.1\r\nhost: {}\r\n{prefer}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let (status, body) = self.ask(&request).await?;
        let (expected, says) = match (load.rows, load.respond_async) {
            (Rows::Refusing, _) => (409, "\"quota_exceeded\""),
            (_, true) => (202, "\"instance-create\""),
            (_, false) => (201, "\"stopped\""),
        };
        if load.respond_async && status == 503 {
            return Ok(false);
        }
        ensure!(
            status == expected && body.contains(says),
            "not correct: answered with {status} {body}"
        );
        Ok(true)
    }

    /// The status with which a path is answered.
    ///
    /// # Errors
    /// When it is not.
    pub async fn get(&mut self, path: &str) -> Result<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        Ok(self.ask(&request).await?.0)
    }

    /// Sends a request and gives the answer's status and body.
    async fn ask(&mut self, request: &str) -> Result<(u16, &str)> {
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the service hung up");
            }
            let length = self.buffer.len();
            ensure!(length <= ANSWER_BYTES_MAX, "an answer has no end");
            if let Some((status, end)) = whole(&self.buffer)? {
                ensure!(end == length, "more came than was asked for");
                let text = std::str::from_utf8(&self.buffer)?;
                let (_, body) = text.split_once("\r\n\r\n").context("no head")?;
                return Ok((status, body));
            }
        }
    }
}

/// The status of an answer and where it ends, once its head has come and its body.
fn whole(bytes: &[u8]) -> Result<Option<(u16, usize)>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    let status = text.split(' ').nth(1).context("no status")?.parse()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    let end = head + 4 + length.context("no length")?.trim().parse::<usize>()?;
    Ok((bytes.len() >= end).then_some((status, end)))
}
