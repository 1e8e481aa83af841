//! A session without a driver: what the server says to each statement, tag and status included, which
//! every driver keeps to itself.

use bytes::BytesMut;
use nexus_tests::SOON;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::fallible_iterator::FallibleIterator;

/// What the server said to one simple query.
#[derive(Debug, Default)]
pub struct Said {
    /// The tags of the statements that completed.
    pub tags: Vec<String>,
    /// The first column of the last row.
    pub value: Option<String>,
    /// The SQLSTATE of a warning.
    pub warning: Option<String>,
    /// The SQLSTATE of the error.
    pub error: Option<String>,
    /// I is idle, T in a transaction, E in a failed one; nothing when the server hung up.
    pub status: Option<char>,
}

impl Said {
    /// Asserts that it went well, and gives the last tag.
    #[track_caller]
    pub fn tag(&self) -> &str {
        assert_eq!(self.error, None, "{self:?}");
        self.tags.last().map_or("", String::as_str)
    }
}

/// A session of the simple protocol.
pub struct Raw {
    stream: UnixStream,
    received: BytesMut,
}

impl Raw {
    /// Opens a session over the server's socket, where it trusts everybody.
    pub async fn connect(url: &str) -> Self {
        let config: Config = url.parse().unwrap();
        let Some(Host::Unix(folder)) = config.get_hosts().first() else {
            panic!("the test server is reached over a socket, not by {url}");
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let path = folder.join(format!(".s.PGSQL.{port}"));
        let stream = UnixStream::connect(path).await.unwrap();
        let mut raw = Self {
            stream,
            received: BytesMut::new(),
        };
        let parameters = [
            ("user", config.get_user().unwrap()),
            ("database", config.get_dbname().unwrap()),
        ];
        let mut startup = BytesMut::new();
        frontend::startup_message(parameters, &mut startup).unwrap();
        raw.stream.write_all(&startup).await.unwrap();
        assert_eq!(raw.read().await.status, Some('I'));
        raw
    }

    /// Sends a simple query and waits for its end.
    pub async fn say(&mut self, sql: &str) -> Said {
        self.send(sql).await;
        self.read().await
    }

    /// Sends a simple query and does not wait.
    pub async fn send(&mut self, sql: &str) {
        let mut query = BytesMut::new();
        frontend::query(sql, &mut query).unwrap();
        // A server that has hung up is heard of when its answer is read.
        drop(self.stream.write_all(&query).await);
    }

    /// What the server says until it is ready or hangs up.
    pub async fn read(&mut self) -> Said {
        let said = tokio::time::timeout(SOON, self.read_all()).await;
        said.expect("the server says nothing")
    }

    async fn read_all(&mut self) -> Said {
        let mut said = Said::default();
        loop {
            match Message::parse(&mut self.received).unwrap() {
                None => match self.stream.read_buf(&mut self.received).await {
                    Ok(0) | Err(_) => return said,
                    Ok(_) => {}
                },
                Some(Message::CommandComplete(body)) => {
                    said.tags.push(body.tag().unwrap().to_owned());
                }
                Some(Message::DataRow(body)) => {
                    let first = body.ranges().next().unwrap();
                    let text = first.flatten().map(|range| body.buffer()[range].to_vec());
                    said.value = text.map(|text| String::from_utf8(text).unwrap());
                }
                Some(Message::NoticeResponse(body)) => said.warning = code(body.fields()),
                Some(Message::ErrorResponse(body)) => said.error = code(body.fields()),
                Some(Message::ReadyForQuery(body)) => {
                    said.status = Some(char::from(body.status()));
                    return said;
                }
                Some(_) => {}
            }
        }
    }
}

fn code(mut fields: postgres_protocol::message::backend::ErrorFields<'_>) -> Option<String> {
    while let Some(field) = fields.next().unwrap() {
        if field.type_() == b'C' {
            return Some(String::from_utf8_lossy(field.value_bytes()).into_owned());
        }
    }
    None
}
