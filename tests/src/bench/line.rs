//! A line between clients and the server that takes its time, the same each way, and counts how often a client waits.
//!
//! Bytes only: it parses nothing, so that all programs meet the same line. Threads, not tasks: the runtime's timer is
//! as coarse as the delay.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A line on a loopback port. It stands as long as the process.
#[derive(Debug)]
pub struct Line {
    port: u16,
    waits: Arc<Waits>,
}

/// How often a client that had its answer sent something again.
#[derive(Debug, Default)]
struct Waits {
    count: AtomicU64,
    asked: AtomicBool,
}

/// Bytes under way; none is the end of the stream.
struct Chunk {
    due: Instant,
    to: Arc<End>,
    bytes: Vec<u8>,
    is_answer: bool,
}

enum End {
    Client(TcpStream),
    Server(UnixStream),
}

impl Line {
    /// A line to the server's socket.
    ///
    /// # Errors
    /// When no port can be opened.
    pub fn start(socket: &Path, delay: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let waits = Arc::<Waits>::default();
        let (sender, receiver) = channel();
        let (socket, counted) = (socket.to_owned(), Arc::clone(&waits));
        thread::spawn(move || deliver(&receiver, &counted));
        let counted = Arc::clone(&waits);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A connection that fails is closed, which is what its client gets to know.
                connect(client, &socket, delay, &sender, &counted).ok();
            }
        });
        Ok(Self { port, waits })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How often a client has waited since this was last asked. It makes sense for one client whose
    /// messages that do not wait for each other are sent within the delay.
    pub fn take_waits(&self) -> u64 {
        self.waits.asked.store(false, Ordering::SeqCst);
        self.waits.count.swap(0, Ordering::SeqCst)
    }
}

fn connect(
    client: TcpStream,
    socket: &PathBuf,
    delay: Duration,
    sender: &Sender<Chunk>,
    waits: &Arc<Waits>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = UnixStream::connect(socket)?;
    let to_server = Arc::new(End::Server(server.try_clone()?));
    let to_client = Arc::new(End::Client(client.try_clone()?));
    let (up, down) = (sender.clone(), sender.clone());
    let waits = Arc::clone(waits);
    thread::spawn(move || {
        forward(client, &to_server, delay, &up, || {
            if !waits.asked.swap(true, Ordering::SeqCst) {
                waits.count.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    thread::spawn(move || forward(server, &to_client, delay, &down, || ()));
    Ok(())
}

/// Reads one direction to its end and puts it on the line.
fn forward(
    mut from: impl Read,
    to: &Arc<End>,
    delay: Duration,
    line: &Sender<Chunk>,
    on_read: impl Fn(),
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        if read > 0 {
            on_read();
        }
        let chunk = Chunk {
            due: Instant::now() + delay,
            to: Arc::clone(to),
            bytes: buffer[..read].to_vec(),
            is_answer: matches!(**to, End::Client(_)),
        };
        if line.send(chunk).is_err() || read == 0 {
            return;
        }
    }
}

/// Hands chunks over when they are due; all take the same time, so they arrive in the order in which they left.
fn deliver(line: &Receiver<Chunk>, waits: &Waits) {
    for chunk in line {
        thread::sleep(chunk.due.saturating_duration_since(Instant::now()));
        if chunk.is_answer {
            waits.asked.store(false, Ordering::SeqCst);
        }
        // What cannot be written has nobody left to read it; its reader ends by itself.
        chunk.to.write(&chunk.bytes).ok();
    }
}

impl End {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Client(stream) if bytes.is_empty() => stream.shutdown(Shutdown::Write),
            Self::Server(stream) if bytes.is_empty() => stream.shutdown(Shutdown::Write),
            Self::Client(stream) => (&*stream).write_all(bytes),
            Self::Server(stream) => (&*stream).write_all(bytes),
        }
    }
}
