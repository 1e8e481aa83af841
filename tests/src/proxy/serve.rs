//! Moving messages between the two sides, and meeting trouble on the way.

use super::frames::{self, Frames, Start};
use super::{Connection, Shared, State, Trouble, Upstream};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

/// Serves clients until it is dropped, and cuts them then.
pub(super) async fn listen(listener: TcpListener, upstream: Upstream, shared: Arc<Shared>) {
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
        write_pieces(shared, &mut writes, &frames.take_passed()).await?;
    }
    Ok(())
}

async fn write_pieces(
    shared: &Shared,
    writes: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> io::Result<()> {
    let piece = shared.state().piece;
    if piece == 0 {
        return writes.write_all(bytes).await;
    }
    for part in bytes.chunks(piece) {
        writes.write_all(part).await?;
        // Longer than the client needs to read what is there.
        tokio::time::sleep(Duration::from_millis(1)).await;
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
        // A shorter answer than that goes through whole.
        Some(Trouble::CutReplyAfter(_)) if tag == b'Z' => {
            connection.reply = None;
            Reply::Pass
        }
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
    let met = state.meet(number, tag);
    let connection = &mut state.connections[number];
    if tag == b'S' {
        connection.messages = 0;
        connection.texts.clear();
    }
    match met {
        None => Verdict::Pass,
        Some(Trouble::CutBeforeSync) => Verdict::CutBefore,
        Some(Trouble::CutAtSync) => Verdict::CutAfter,
        Some(Trouble::FreezeAfter(_)) => Verdict::Freeze,
        Some(trouble @ (Trouble::LoseReply | Trouble::CutReplyAfter(_))) => {
            connection.reply = Some(trouble);
            Verdict::Pass
        }
    }
}

impl State {
    /// The trouble that the flight under way on a connection meets at this message, used up.
    fn meet(&mut self, number: usize, tag: u8) -> Option<Trouble> {
        let Connection {
            messages, texts, ..
        } = &self.connections[number];
        let index = self.rules.iter().position(|rule| {
            let here = match rule.trouble {
                Trouble::FreezeAfter(count) => *messages == count + 1,
                _ => tag == b'S',
            };
            let text = rule.containing.as_ref();
            here && rule.connection.is_none_or(|only| only == number)
                && text.is_none_or(|part| texts.iter().any(|text| text.contains(part)))
        })?;
        let rule = &mut self.rules[index];
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        let trouble = rule.trouble;
        rule.times = rule.times.saturating_sub(1);
        if rule.times == 0 {
            self.rules.remove(index);
        }
        self.troubles += 1;
        Some(trouble)
    }
}
