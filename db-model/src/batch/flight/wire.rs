//! Bytes out and bytes in: the messages of a pipeline, and moving them while reading what comes back.

use super::Query;
use super::cache::Plan;
use super::error::{Lost, NotSent};
use super::state::Progress;
use crate::connect::Wire;
use crate::types::limits;
use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend::{self, BindError};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWrite};

const BINARY: i16 = 1;
/// Room that is made for each read.
const RECEIVE_BYTES: usize = 16 * 1024;

/// Encodes a pipeline: Close for what the cache dropped, then each query, then the one Sync.
pub(super) fn encode(
    queries: &[Query],
    plan: &Plan,
    closing: &[String],
) -> Result<BytesMut, NotSent> {
    let mut pipeline = BytesMut::new();
    for name in closing {
        frontend::close(b'S', name, &mut pipeline)
            .map_err(|source| NotSent::Invalid { index: 0, source })?;
    }
    for (index, (query, step)) in queries.iter().zip(&plan.steps).enumerate() {
        let invalid = |source| NotSent::Invalid { index, source };
        let name = &step.statement.name;
        if step.parse {
            let oids = query.binds.iter().map(|bind| bind.oid);
            frontend::parse(name, &query.sql, oids, &mut pipeline).map_err(invalid)?;
        }
        if step.describe {
            frontend::describe(b'S', name, &mut pipeline).map_err(invalid)?;
        }
        bind(query, name, &mut pipeline).map_err(invalid)?;
        frontend::execute("", 0, &mut pipeline).map_err(invalid)?;
        if pipeline.len() > limits::FLIGHT_BYTES_MAX {
            return Err(NotSent::TooLarge {
                max: limits::FLIGHT_BYTES_MAX,
            });
        }
    }
    frontend::sync(&mut pipeline);
    Ok(pipeline)
}

fn bind(query: &Query, name: &str, pipeline: &mut BytesMut) -> io::Result<()> {
    let value = |value: Option<&bytes::Bytes>, buffer: &mut BytesMut| match value {
        Some(value) => {
            buffer.put_slice(value);
            Ok(IsNull::No)
        }
        None => Ok(IsNull::Yes),
    };
    let values = query.binds.iter().map(|bind| bind.value.as_ref());
    frontend::bind("", name, [BINARY], values, value, [BINARY], pipeline).map_err(|error| {
        match error {
            BindError::Conversion(error) => io::Error::other(error),
            BindError::Serialization(error) => error,
        }
    })
}

/// Reads what is there into `received`; 0 is the end of the stream.
pub(super) fn poll_receive(
    wire: &mut Wire,
    received: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    received.reserve(RECEIVE_BYTES);
    pin!(wire.read_buf(received)).poll(cx)
}

/// Sends `pipeline`, counting in `sent`, and reads at the same time until `advance` has seen ReadyForQuery: a server
/// whose answers nobody reads stops reading too, and both sides would wait for ever.
pub(super) async fn exchange(
    wire: &mut Wire,
    pipeline: &[u8],
    sent: &mut usize,
    received: &mut BytesMut,
    mut advance: impl FnMut(&mut BytesMut) -> Result<Progress, Lost>,
) -> Result<Progress, Lost> {
    let mut broken = None;
    let mut flushed = false;
    poll_fn(|cx| {
        loop {
            if broken.is_none() && !flushed {
                match poll_send(wire, pipeline, sent, cx) {
                    Poll::Ready(Ok(())) => flushed = true,
                    // The reason may be waiting to be read: the server says why before it closes.
                    Poll::Ready(Err(error)) => broken = Some(error),
                    Poll::Pending => {}
                }
            }
            match poll_receive(wire, received, cx) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(broken.take().map_or(Lost::Closed, Lost::Io)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Lost::Io(error))),
                Poll::Ready(Ok(_)) => match advance(received)? {
                    Progress::More => {}
                    _ if *sent < pipeline.len() => {
                        return Poll::Ready(Err(Lost::protocol(
                            "ready before everything was sent",
                        )));
                    }
                    ended => return Poll::Ready(Ok(ended)),
                },
                Poll::Pending => {
                    return match broken.take() {
                        Some(error) => Poll::Ready(Err(Lost::Io(error))),
                        None => Poll::Pending,
                    };
                }
            }
        }
    })
    .await
}

fn poll_send(
    wire: &mut Wire,
    pipeline: &[u8],
    sent: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while *sent < pipeline.len() {
        match Pin::new(&mut *wire).poll_write(cx, &pipeline[*sent..]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => *sent += written,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Pin::new(wire).poll_flush(cx)
}
