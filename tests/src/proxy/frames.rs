//! Splitting a byte stream of the PostgreSQL protocol into messages.

use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
const HEADER: usize = 5;

/// How a client begins.
pub enum Start {
    /// With a startup message.
    Session(Bytes),
    /// With a request to cancel; nothing follows.
    Cancel(Bytes),
}

/// Reads a client's first message, telling it that there is no encryption if it asks.
pub async fn start(
    reads: &mut (impl AsyncRead + Unpin),
    writes: &mut (impl AsyncWrite + Unpin),
) -> io::Result<Start> {
    loop {
        let length = reads.read_u32().await?;
        let rest = (length as usize)
            .checked_sub(4)
            .filter(|rest| (4..=10_000).contains(rest));
        let mut body = vec![0; rest.ok_or_else(|| io::Error::other("not a startup message"))?];
        reads.read_exact(&mut body).await?;
        let code = (&body[..]).get_u32();
        if matches!(code, SSL_REQUEST | GSS_REQUEST) {
            writes.write_all(b"N").await?;
            continue;
        }
        let message = [&length.to_be_bytes()[..], &body].concat().into();
        return Ok(if code == CANCEL_REQUEST {
            Start::Cancel(message)
        } else {
            Start::Session(message)
        });
    }
}

/// Messages of one direction: what was read and not yet split, and what may pass.
#[derive(Default)]
pub struct Frames {
    read: BytesMut,
    passed: BytesMut,
}

impl Frames {
    /// Where bytes are read to.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.read.reserve(64 * 1024);
        &mut self.read
    }

    /// The next whole message.
    pub fn next(&mut self) -> Option<Bytes> {
        let length = self.read.get(1..HEADER)?.get_u32() as usize + 1;
        (self.read.len() >= length).then(|| self.read.split_to(length.max(HEADER)).freeze())
    }

    /// Lets a message pass.
    pub fn pass(&mut self, frame: &[u8]) {
        self.passed.extend_from_slice(frame);
    }

    /// What may pass since this was last asked.
    pub fn take_passed(&mut self) -> Bytes {
        self.passed.split().freeze()
    }
}
