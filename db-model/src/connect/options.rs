//! What a connection string says: tokio-postgres parses it, but for the options of TLS that it does not know.

use super::ConnectError;
use super::text::take_own_options;
use crate::types::limits;
use std::fmt;
use std::path::{Path, PathBuf};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode as Lending, SslNegotiation, TargetSessionAttrs};

/// How a session is encrypted, and what the server must prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    fn parse(value: &str) -> Result<Self, ConnectError> {
        match value {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            other => Err(ConnectError::Options(format!(
                "sslmode {other:?} is not known"
            ))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub mode: SslMode,
    pub root_certificate: Option<PathBuf>,
}

/// Where the database is and how to reach it.
///
/// Parsed from a URL (`postgres://user:password@host:5432/name?sslmode=require`) or from `key=value` pairs. The
/// options are those of libpq as far as tokio-postgres knows them, and:
///
/// - `sslmode`: `disable` never encrypts. `prefer` (the default) encrypts if the server can, `require` always; both
///   accept any certificate unless `sslrootcert` is given. `verify-ca` requires a certificate of that root,
///   `verify-full` one that also carries the host's name. Both need `sslrootcert`.
/// - `sslrootcert`: a PEM file with the accepted root certificates. With `prefer` and `require` it makes an
///   encrypted session verify as `verify-ca` does.
/// - `target_session_attrs`: `read-write` unless said otherwise, so that a stand-by is refused and the next host of
///   a list is tried.
/// - A Unix socket stands alone; it cannot be mixed with other hosts, and is not encrypted.
///
/// Neither `Debug` nor `Display` shows the password.
#[derive(Clone)]
pub struct ConnectOptions {
    config: Config,
    tls: Tls,
}

impl ConnectOptions {
    /// Parses a URL or `key=value` pairs.
    ///
    /// # Errors
    /// If the string is malformed, an option is unknown, or options contradict each other.
    pub fn parse(url: &str) -> Result<Self, ConnectError> {
        let (rest, own) = take_own_options(url)?;
        // The text of the error names the option and never shows the string, which holds the password.
        let mut config: Config = rest.parse().map_err(|error: tokio_postgres::Error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            ConnectError::Options(source.unwrap_or_else(|| error.to_string()))
        })?;
        let mode = own
            .ssl_mode
            .as_deref()
            .map_or(Ok(SslMode::Prefer), SslMode::parse)?;
        let tls = Tls {
            mode,
            root_certificate: own.root_certificate,
        };
        if matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) && tls.root_certificate.is_none()
        {
            return Err(ConnectError::Options(format!(
                "sslmode {:?} needs sslrootcert",
                mode.name()
            )));
        }
        if config.get_ssl_negotiation() == SslNegotiation::Direct {
            return Err(ConnectError::Options(
                "sslnegotiation=direct is not supported".into(),
            ));
        }
        if !own.names_session_attributes {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_hosts().is_empty() {
            // TLS wants a name; an address is one.
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string());
            }
        }
        // The rest of a password with an unescaped `@`, which would be shown as a host.
        let is_rest = |host: &Host| matches!(host, Host::Tcp(name) if name.contains(['@', '/']));
        if config.get_hosts().iter().any(is_rest) {
            return Err(ConnectError::Options(
                "a host cannot contain @ or /: in a password write %40 and %2F".into(),
            ));
        }
        let sockets = config
            .get_hosts()
            .iter()
            .filter(|host| matches!(host, Host::Unix(_)))
            .count();
        match (config.get_hosts().len(), sockets) {
            (0, _) => return Err(ConnectError::Options("no host is given".into())),
            (1, _) | (_, 0) => {}
            _ => {
                return Err(ConnectError::Options(
                    "a Unix socket cannot be one of several hosts".into(),
                ));
            }
        }
        if sockets == 1
            && matches!(
                mode,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull
            )
        {
            return Err(ConnectError::Options(
                "a Unix socket is never encrypted".into(),
            ));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(limits::CONNECT_HOST_TIMEOUT);
        }
        Ok(Self { config, tls })
    }

    /// Sets the name under which the sessions are listed on the server.
    #[must_use]
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.config.application_name(name);
        self
    }

    /// The user who connects, if it is given; else the server is told the name of the process's user.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.config.get_user()
    }

    /// The name of the database, if it is given; else the server takes the user's name.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.config.get_dbname()
    }

    /// The same server and user, another database.
    #[must_use]
    pub fn with_database(mut self, name: impl Into<String>) -> Self {
        self.config.dbname(name);
        self
    }

    /// Where this connects to, without the password: for logs and messages.
    #[must_use]
    pub fn display(&self) -> String {
        self.to_string()
    }

    /// The same as libpq reads it (`host=db port=5432 ..`), without the password: psql asks for that.
    #[must_use]
    pub fn conninfo(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Unix(folder) => folder.to_string_lossy().into_owned(),
            Host::Tcp(name) => name.clone(),
        });
        let hosts: Vec<_> = hosts.collect();
        let ports = self.config.get_ports().iter().map(ToString::to_string);
        let ports: Vec<_> = ports.collect();
        let certificate = self.tls.root_certificate.as_ref();
        let certificate = certificate.map(|path| path.to_string_lossy().into_owned());
        let pairs = [
            ("host", Some(hosts.join(","))),
            ("port", Some(ports.join(","))),
            ("user", self.user().map(str::to_owned)),
            ("dbname", self.database().map(str::to_owned)),
            ("sslmode", Some(self.tls.mode.name().to_owned())),
            ("sslrootcert", certificate),
        ];
        let pairs: Vec<_> = pairs
            .into_iter()
            .filter_map(|(name, value)| value.filter(|value| !value.is_empty()).map(|v| (name, v)))
            .map(|(name, value)| format!("{name}={}", in_pairs(&value)))
            .collect();
        pairs.join(" ")
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    pub(super) fn session_attributes(&self) -> TargetSessionAttrs {
        self.config.get_target_session_attrs()
    }

    /// The options as tokio-postgres gets them: whatever TLS there is, we speak it.
    pub(super) fn lending_config(&self) -> Config {
        let mut config = self.config.clone();
        config
            .ssl_mode(Lending::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        config
    }

    /// The path of the Unix socket, if that is how the server is reached.
    pub(super) fn unix_socket(&self) -> Option<PathBuf> {
        match self.config.get_hosts().first() {
            Some(Host::Unix(folder)) => Some(socket_in(folder, self.config.get_ports())),
            _ => None,
        }
    }
}

/// A value as libpq reads it back.
fn in_pairs(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:,".contains(&byte);
    if value.bytes().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

const PORT_DEFAULT: u16 = 5432;

fn socket_in(folder: &Path, ports: &[u16]) -> PathBuf {
    folder.join(format!(
        ".s.PGSQL.{}",
        ports.first().copied().unwrap_or(PORT_DEFAULT)
    ))
}

impl fmt::Display for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = self.user() {
            write!(f, "{user}@")?;
        }
        let ports = self.config.get_ports();
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match host {
                Host::Unix(folder) => write!(f, "{comma}{}", socket_in(folder, ports).display())?,
                Host::Tcp(name) => {
                    let port = ports
                        .get(index)
                        .or(ports.first())
                        .copied()
                        .unwrap_or(PORT_DEFAULT);
                    write!(f, "{comma}{name}:{port}")?;
                }
            }
        }
        write!(
            f,
            "/{} (sslmode {})",
            self.database().unwrap_or_default(),
            self.tls.mode.name()
        )
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectOptions({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ConnectOptions {
        ConnectOptions::parse(text).expect("it parses")
    }

    #[test]
    fn url_and_pairs_say_the_same_and_never_show_the_password() {
        let url = parse(
            "postgres://ann:s%3Fcret@db:5433/nexus?sslmode=verify-full&sslrootcert=%2Fetc%2Fa%20ca.pem&connect_timeout=7",
        );
        let pairs = parse(
            "host=db port = 5433 user=ann password='s?cret' dbname=nexus sslmode=verify-full \
             sslrootcert='/etc/a ca.pem' connect_timeout=7",
        );
        for options in [url, pairs] {
            assert_eq!(options.display(), "ann@db:5433/nexus (sslmode verify-full)");
            assert_eq!(
                options.tls.root_certificate.as_deref(),
                Some(Path::new("/etc/a ca.pem"))
            );
            assert_eq!(options.config.get_password(), Some(&b"s?cret"[..]));
            assert_eq!(options.session_attributes(), TargetSessionAttrs::ReadWrite);
            assert!(!format!("{options:?}").contains("cret"));
        }
    }

    #[test]
    fn what_libpq_reads_is_the_same_without_the_password() {
        let url = "postgres://a'nn:s%3Fcret@a:1,b:2/my%20data?sslmode=require&sslrootcert=/ca.pem";
        let text = parse(url).conninfo();
        assert_eq!(
            text,
            r"host=a,b port=1,2 user='a\'nn' dbname='my data' sslmode=require sslrootcert=/ca.pem"
        );
        assert_eq!(parse(&text).conninfo(), text);
        assert_eq!(
            parse("postgres://u@%2Frun%2Fpg/x").conninfo(),
            "host=/run/pg port=5432 user=u dbname=x sslmode=prefer"
        );
    }

    #[test]
    fn session_attributes_are_honoured_when_named() {
        let options = parse("postgres://a,b/x?target_session_attrs=any");
        assert_eq!(options.session_attributes(), TargetSessionAttrs::Any);
        assert_eq!(options.display(), "a:5432,b:5432/x (sslmode prefer)");
    }

    #[test]
    fn contradictions_are_refused() {
        for text in [
            "postgres://",
            "postgres:///x",
            "postgres://h/x?sslmode=allow",
            "postgres://h/x?sslmode=verify-ca",
            "postgres://h/x?sslnegotiation=direct",
            "host=/run,h user=a",
            "host=/run sslmode=require",
            "host=h password='open",
            "host",
        ] {
            assert!(
                matches!(ConnectOptions::parse(text), Err(ConnectError::Options(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn an_address_alone_is_its_own_name() {
        assert_eq!(
            parse("hostaddr=127.0.0.1 user=a").display(),
            "a@127.0.0.1:5432/ (sslmode prefer)"
        );
    }
}
