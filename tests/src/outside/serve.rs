//! The service outside on its sockets: just enough of HTTP/1.1, read and written by hand, for no server
//! answers twice or cuts its own answer.

use std::io;
use std::sync::Arc;

use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::state::Reply;
use super::{Call, FENCING_TOKEN, Fault, Shared};

/// A request with what is of interest here.
struct Request {
    method: String,
    path: String,
    token: Option<String>,
    body: Vec<u8>,
}

/// What goes back over the socket.
enum Sent {
    Once(Reply),
    Twice(Reply),
    Half(Reply),
}

/// Serves callers until it is dropped.
pub(super) async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut serving = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        serving.spawn(async move {
            // However it ends, the socket is closed; that is what the caller gets to know.
            serve(stream, &shared).await.ok();
        });
        while serving.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reads, mut writes) = stream.split();
    let mut reads = BufReader::new(reads);
    while let Some(request) = read(&mut reads).await? {
        let sent = match call(request) {
            Ok(call) => {
                shared.under_way.send_modify(|count| *count += 1);
                let sent = answer(shared, &call).await;
                shared.under_way.send_modify(|count| *count -= 1);
                sent
            }
            Err(refusal) => Sent::Once(refusal),
        };
        match sent {
            Sent::Once(reply) => writes.write_all(&message(&reply).concat()).await?,
            Sent::Twice(reply) => {
                writes
                    .write_all(&message(&reply).concat().repeat(2))
                    .await?
            }
            Sent::Half(reply) => {
                let [head, body] = message(&reply);
                let half = &body[..body.len() / 2];
                return writes.write_all(&[&head, half].concat()).await;
            }
        }
    }
    Ok(())
}

/// The next request of a connection; none at its end.
async fn read(reads: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reads.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (method, path) = (word(), word());
    let (mut token, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if reads.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
            "transfer-encoding" => return Err(io::Error::other("a body of unknown length")),
            name if name == FENCING_TOKEN => token = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reads.read_exact(&mut body).await?;
    Ok(Some(Request {
        method,
        path,
        token,
        body,
    }))
}

/// What a request asks for, or why that is not understood.
fn call(request: Request) -> Result<Call, Reply> {
    let refuse = |error: &str| Reply::error(400, error);
    let method = match request.method.as_str() {
        "POST" => Method::POST,
        "DELETE" => Method::DELETE,
        _ => return Err(refuse("the method is not POST or DELETE")),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let key = request.path.strip_prefix("/effects/");
    let key = key.filter(|key| !key.is_empty() && key.chars().all(plain));
    let key = key.ok_or_else(|| refuse("the path is not /effects/ and a key"))?;
    let token = request.token.and_then(|token| token.parse().ok());
    let token = token.ok_or_else(|| refuse("the fencing token is not a number from 0"))?;
    let body = match (&method, request.body.as_slice()) {
        (&Method::DELETE, []) => Value::Null,
        (_, body) => serde_json::from_slice(body).map_err(|_| refuse("the body is not JSON"))?,
    };
    Ok(Call {
        method,
        key: key.to_owned(),
        token,
        body,
    })
}

/// Does what a call asks for, or what its fault says.
async fn answer(shared: &Shared, call: &Call) -> Sent {
    let fault = shared.state().arrives(call);
    match fault {
        Some(Fault::Refuse) => return Sent::Once(Reply::error(422, "refused")),
        Some(Fault::FailBeforeEffect) => return Sent::Once(Reply::error(500, "failed")),
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::HangBeforeEffect) => hang(shared).await,
        _ => {}
    }
    let reply = shared.state().apply(call);
    match fault {
        Some(Fault::FailAfterEffect) => Sent::Once(Reply::error(500, "failed")),
        Some(Fault::AnswerTwice) => Sent::Twice(reply),
        Some(Fault::CutInAnswer) => Sent::Half(reply),
        Some(Fault::HangAfterEffect) => {
            hang(shared).await;
            Sent::Once(reply)
        }
        _ => Sent::Once(reply),
    }
}

async fn hang(shared: &Shared) {
    let mut releases = shared.releases.subscribe();
    shared.hanging.send_modify(|count| *count += 1);
    releases.changed().await.ok();
    shared.hanging.send_modify(|count| *count -= 1);
}

/// A response, its head and its body apart.
fn message(reply: &Reply) -> [Vec<u8>; 2] {
    let body = reply.body.to_string().into_bytes();
    // The phrase is for people, and nobody reads it here.
    let head = format!(
        "HTTP/1.1 {} \r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        reply.status,
        body.len()
    );
    [head.into_bytes(), body]
}
