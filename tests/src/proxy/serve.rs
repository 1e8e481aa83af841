//! Moving messages between the two sides, and meeting trouble on the way.

use super::frames::{self, Frames, Start};
use super::verdict::{Ruling, Verdict, Way, received, sent};
use super::{Connection, Shared, Upstream};
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
            shared.state().connections[number].closed = true;
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
            let Ruling { delay, verdict } = sent(&mut shared.state(), number, &frame);
            if let Some(delay) = delay {
                pass_on(shared, number, Way::Up, &mut writes, &mut frames).await?;
                tokio::time::sleep(delay).await;
            }
            match verdict {
                Verdict::Pass => frames.pass(&frame),
                Verdict::Freeze => {
                    writes.write_all(&frames.take_passed()).await?;
                    freeze(shared).await;
                    frames.pass(&frame);
                }
                Verdict::Swallow => {}
                Verdict::CutBefore => return writes.write_all(&frames.take_passed()).await,
                Verdict::CutAfter => {
                    frames.pass(&frame);
                    return writes.write_all(&frames.take_passed()).await;
                }
            }
        }
        pass_on(shared, number, Way::Up, &mut writes, &mut frames).await?;
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
            let Ruling { delay, verdict } = received(&mut shared.state(), number, &frame);
            if let Some(delay) = delay {
                pass_on(shared, number, Way::Down, &mut writes, &mut frames).await?;
                tokio::time::sleep(delay).await;
            }
            match verdict {
                Verdict::Pass | Verdict::Freeze => frames.pass(&frame),
                Verdict::Swallow => {}
                Verdict::CutBefore => return writes.write_all(&frames.take_passed()).await,
                Verdict::CutAfter => {
                    frames.pass(&frame);
                    return writes.write_all(&frames.take_passed()).await;
                }
            }
        }
        pass_on(shared, number, Way::Down, &mut writes, &mut frames).await?;
    }
    Ok(())
}

/// Writes what may pass, in one piece or in several.
async fn pass_on(
    shared: &Shared,
    number: usize,
    way: Way,
    writes: &mut (impl AsyncWrite + Unpin),
    frames: &mut Frames,
) -> io::Result<()> {
    let bytes = frames.take_passed();
    let piece = shared.state().piece(number, way);
    if piece == 0 {
        return writes.write_all(&bytes).await;
    }
    for part in bytes.chunks(piece) {
        writes.write_all(part).await?;
        // Longer than the reader needs to read what is there.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
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
