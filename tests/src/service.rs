//! The service in the test's own process, with a database of its own and a real HTTP client.

use std::time::Duration;

use db_model::Database;
use nexus::config::Config;
use nexus::server::Server;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use sagas::Executor;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::TestDatabase;

/// A service that answers, until [`TestService::end`].
#[derive(Debug)]
pub struct TestService {
    /// Its database.
    pub database: TestDatabase,
    /// A client that keeps connections.
    pub client: Client,
    api: String,
    admin: String,
    executor: Executor,
    pools: Database,
    shutdown: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body as JSON; null when there is none.
    pub body: Value,
}

impl Answer {
    /// A header as text; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Reads an answer whole. A body that is not JSON becomes a JSON string.
    pub async fn read(response: reqwest::Response) -> Self {
        Self::try_read(response).await.unwrap()
    }

    /// The same of a server that may end meanwhile.
    ///
    /// # Errors
    /// When the connection does.
    pub async fn try_read(response: reqwest::Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        };
        Ok(Self {
            status,
            headers,
            body,
        })
    }
}

impl TestService {
    /// A service with default limits.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A service configured as the test says.
    pub async fn start_with(configure: impl FnOnce(&mut Config)) -> Self {
        let database = TestDatabase::new().await;
        let loopback = "127.0.0.1:0".parse().unwrap();
        let mut config = Config {
            listen: loopback,
            admin_listen: loopback,
            ..Config::default()
        };
        config.database.url = Some(database.url().await);
        config.database.write_pool_size = 8;
        config.database.read_pool_size = 4;
        configure(&mut config);
        let server = Server::start(config).await.unwrap();
        let api = format!("http://{}", server.api_address());
        let admin = format!("http://{}", server.admin_address());
        let executor = server.app().executor().clone();
        let pools = server.app().database().clone();
        let (shutdown, told) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let told = async {
                told.await.ok();
            };
            server.run(told).await.unwrap();
        });
        // No proxy of the machine's, and a bound on every answer.
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self {
            database,
            client,
            api,
            admin,
            executor,
            pools,
            shutdown: Some(shutdown),
            running,
        }
    }

    /// The address of a path of the API.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.api)
    }

    /// The address of a path of the admin listener.
    pub fn admin_url(&self, path: &str) -> String {
        format!("{}{path}", self.admin)
    }

    /// Its executor.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Its pools.
    pub fn pools(&self) -> &Database {
        &self.pools
    }

    /// A request to be completed.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// Sends a request and reads the answer.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::read(request.send().await.unwrap()).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Shuts the service down as SIGTERM would, and looks at the books.
    pub async fn end(mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
        (&mut self.running).await.unwrap();
        self.database.assert_books_balance().await;
    }
}
