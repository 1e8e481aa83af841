//! The byte stream of a session, and lending it to tokio-postgres while that connects.
//!
//! The lender follows the framing of both directions. It knows at any time whether every request was answered and
//! what the last ReadyForQuery said, which tokio-postgres does not tell; and whether a statement was sent that leaves
//! something behind in the session.

use crate::batch::flight::ServerError;
use crate::batch::text;
use crate::types::limits;
use bytes::{BufMut, BytesMut};
use postgres_protocol::message::backend::Message;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A TLS stream of rustls over a TCP socket.
pub(super) type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// A connected stream to the server.
pub(crate) enum Wire {
    Tcp(Socket),
    Unix(UnixStream),
    Tls(Box<Encrypted>),
}

impl Wire {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Self::Tls(stream) => stream.channel_binding(),
            Self::Tcp(_) | Self::Unix(_) => ChannelBinding::none(),
        }
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Wire::Tcp($stream) => $call,
            Wire::Unix($stream) => $call,
            Wire::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// A message, or as much of it as has arrived at once.
struct Part<'a> {
    tag: u8,
    /// Whether its body begins here.
    begins: bool,
    body: &'a [u8],
    /// Whether its body ends here.
    ends: bool,
}

/// Follows the messages of one direction by their headers.
struct Frames {
    header: [u8; 5],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes of the body that are still to come.
    left: usize,
}

impl Frames {
    /// A direction whose messages all carry a tag.
    fn tagged() -> Self {
        Self {
            header: [0; 5],
            have: 0,
            left: 0,
        }
    }

    /// The client's direction: its first message, the startup, has a length but no tag.
    fn from_startup() -> Self {
        Self {
            header: [0; 5],
            have: 1,
            left: 0,
        }
    }

    fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Calls `on` with the parts of each message as they arrive.
    fn feed(&mut self, mut bytes: &[u8], mut on: impl FnMut(Part<'_>)) {
        while let Some(first) = bytes.first().copied() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                on(Part {
                    tag: self.header[0],
                    begins: self.have == self.header.len(),
                    body: &bytes[..taken],
                    ends: self.left == 0,
                });
                self.have = 0;
                bytes = &bytes[taken..];
                continue;
            }
            self.header[self.have] = first;
            self.have += 1;
            bytes = &bytes[1..];
            if self.have == self.header.len() {
                let [tag, length @ ..] = self.header;
                self.left = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                if self.left == 0 {
                    on(Part {
                        tag,
                        begins: true,
                        body: &[],
                        ends: true,
                    });
                    self.have = 0;
                }
            }
        }
    }
}

struct State {
    wire: Option<Wire>,
    sent: Frames,
    received: Frames,
    /// Messages that the server answers with a ReadyForQuery: the startup, Query and Sync.
    asked: u64,
    answered: u64,
    /// The status of the last ReadyForQuery.
    status: u8,
    /// The message with a statement that is being sent.
    statement: Vec<u8>,
    /// Whether a statement was sent that may leave something behind in the session.
    changed: bool,
    error: Heard,
}

/// The last ErrorResponse, as far as it has arrived.
#[derive(Default)]
struct Heard {
    body: Vec<u8>,
    ended: bool,
}

impl Heard {
    fn hear(&mut self, part: &Part<'_>) {
        if part.tag != b'E' {
            return;
        }
        if part.begins {
            self.body.clear();
        }
        if self.body.len() + part.body.len() <= limits::SERVER_ERROR_BYTES_MAX {
            self.body.extend_from_slice(part.body);
        }
        self.ended = part.ends;
    }

    /// `None` too when it was cut, or is longer than is kept.
    fn take(&mut self) -> Option<ServerError> {
        let Self { body, ended } = std::mem::take(self);
        let length = u32::try_from(body.len()).ok()? + 4;
        let mut message = BytesMut::new();
        message.put_u8(b'E');
        message.put_u32(length);
        message.put_slice(&body);
        match Message::parse(&mut message) {
            Ok(Some(Message::ErrorResponse(body))) if ended => {
                ServerError::parse(body.fields()).ok()
            }
            _ => None,
        }
    }
}

impl State {
    fn new(wire: Option<Wire>) -> Self {
        Self {
            wire,
            sent: Frames::from_startup(),
            received: Frames::tagged(),
            asked: 1,
            answered: 0,
            status: 0,
            statement: Vec::new(),
            changed: false,
            error: Heard::default(),
        }
    }

    fn on_sent(&mut self, bytes: &[u8]) {
        let Self {
            sent,
            asked,
            statement,
            changed,
            ..
        } = self;
        sent.feed(bytes, |part| {
            if part.begins && matches!(part.tag, b'Q' | b'S') {
                *asked += 1;
            }
            if !matches!(part.tag, b'Q' | b'P') {
                return;
            }
            statement.extend_from_slice(part.body);
            if part.ends {
                *changed |= changes_session(part.tag, statement);
                *statement = Vec::new();
            }
        });
    }

    fn on_received(&mut self, bytes: &[u8]) {
        let Self {
            received,
            answered,
            status,
            error,
            ..
        } = self;
        received.feed(bytes, |part| {
            error.hear(&part);
            if let (b'Z', true, [first, ..]) = (part.tag, part.begins, part.body) {
                *answered += 1;
                *status = *first;
            }
        });
    }
}

/// Whether the text of a Query or Parse message leaves something behind in the session.
fn changes_session(tag: u8, body: &[u8]) -> bool {
    // In a Parse, the name of the statement comes first.
    let place = usize::from(tag == b'P');
    let text = body.split(|byte| *byte == 0).nth(place).unwrap_or_default();
    text::changes_session(&String::from_utf8_lossy(text))
}

/// A stream that two parties know: tokio-postgres, which reads and writes it, and the one who lends it.
pub(crate) struct Shared(Mutex<State>);

impl Shared {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State::new(None)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock; and if something did, the counters would only say "not idle".
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every request was answered, the last answer was read to its end, and no transaction is open.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        state.wire.is_some()
            && state.asked == state.answered
            && state.received.at_boundary()
            && state.status == b'I'
    }

    /// Whether every request was answered.
    pub(crate) fn is_answered(&self) -> bool {
        let state = self.state();
        state.asked == state.answered
    }

    /// Whether the session is as it was settled, as far as the texts sent since then tell.
    pub(crate) fn is_unchanged(&self) -> bool {
        !self.state().changed
    }

    /// What was set so far belongs to the session.
    pub(crate) fn settle(&self) {
        self.state().changed = false;
    }

    /// What the server said last when it refused something, if nobody has taken it yet: Diesel keeps no SQLSTATE.
    pub(crate) fn take_error(&self) -> Option<ServerError> {
        self.state().error.take()
    }

    /// Takes the stream back. Whoever still reads or writes through the loan gets an error from now on.
    pub(crate) fn take(&self) -> Option<Wire> {
        self.state().wire.take()
    }
}

/// What tokio-postgres holds in place of the stream.
pub(super) struct Lent(Arc<Shared>);

impl Lent {
    /// Puts `wire` into `shared` and gives the loan on it. With several hosts the last one counts.
    pub(super) fn new(wire: Wire, shared: Arc<Shared>) -> Self {
        *shared.state() = State::new(Some(wire));
        Self(shared)
    }
}

fn taken_back() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the stream was taken back")
}

impl AsyncRead for Lent {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut guard = self.0.state();
        let wire = guard.wire.as_mut().ok_or_else(taken_back)?;
        let before = buf.filled().len();
        let polled = Pin::new(wire).poll_read(cx, buf);
        guard.on_received(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut guard = self.0.state();
        let wire = guard.wire.as_mut().ok_or_else(taken_back)?;
        let polled = Pin::new(wire).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            guard.on_sent(&bytes[..*written]);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.state().wire.as_mut().ok_or_else(taken_back)?).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.state().wire.as_mut().ok_or_else(taken_back)?).poll_shutdown(cx)
    }
}

impl TlsStream for Lent {
    fn channel_binding(&self) -> ChannelBinding {
        self.0
            .state()
            .wire
            .as_ref()
            .map_or_else(ChannelBinding::none, Wire::channel_binding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_heard_however_the_bytes_arrive() {
        let mut stream = b"Z\0\0\0\x05I".to_vec();
        for code in ["22012", "57014"] {
            let body = format!("SERROR\0C{code}\0Mno\0\0");
            stream.push(b'E');
            stream.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            stream.extend_from_slice(body.as_bytes());
            stream.extend_from_slice(b"Z\0\0\0\x05I");
        }
        for piece in 1..stream.len() {
            let (mut frames, mut error) = (Frames::tagged(), Heard::default());
            for bytes in stream.chunks(piece) {
                frames.feed(bytes, |part| error.hear(&part));
            }
            assert_eq!(error.take().unwrap().sqlstate, "57014", "pieces of {piece}");
            assert_eq!(error.take(), None);
        }
    }
}
