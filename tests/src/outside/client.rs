//! A thin client of the service outside, with errors that say what may be done about them.

use std::fmt;
use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use super::FENCING_TOKEN;

/// Why a call did not succeed.
#[derive(Debug)]
pub enum Error {
    /// Refused, a 4xx: there is no effect of this call, and the same call is refused again.
    Refused {
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
    /// Failed, a 5xx: there may be an effect, and the same call may succeed.
    Failed {
        /// The status.
        status: u16,
    },
    /// Nobody was there, or the answer did not come in time, or not whole: as with [`Error::Failed`].
    Unreachable(reqwest::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, body } => write!(formatter, "refused, {status}: {body}"),
            Self::Failed { status } => write!(formatter, "failed, {status}"),
            Self::Unreachable(_) => write!(formatter, "no whole answer came"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::Refused { .. } | Self::Failed { .. } => None,
        }
    }
}

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    client: reqwest::Client,
    url: String,
}

impl Client {
    /// A client of the service at this base address, which waits so long for an answer.
    pub fn new(url: impl Into<String>, wait: Duration) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(wait)
            // A second answer to one call must not be taken for the answer to the next.
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        let url = url.into();
        Self { client, url }
    }

    /// Makes the effect, and gives the answer.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put(&self, key: &str, token: u64, body: &Value) -> Result<Value, Error> {
        let request = self.client.post(self.address(key)).json(body);
        let response = send(request, token).await?;
        response.json().await.map_err(Error::Unreachable)
    }

    /// Takes the effect back.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete(&self, key: &str, token: u64) -> Result<(), Error> {
        let response = send(self.client.delete(self.address(key)), token).await?;
        response.bytes().await.map_err(Error::Unreachable)?;
        Ok(())
    }

    fn address(&self, key: &str) -> String {
        format!("{}/effects/{key}", self.url)
    }
}

async fn send(request: RequestBuilder, token: u64) -> Result<Response, Error> {
    let request = request.header(FENCING_TOKEN, token);
    let response = request.send().await.map_err(Error::Unreachable)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.map_err(Error::Unreachable)?;
    let status = status.as_u16();
    if (400..500).contains(&status) {
        return Err(Error::Refused { status, body });
    }
    Err(Error::Failed { status })
}
