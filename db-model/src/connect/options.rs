//! What a connection string says: tokio-postgres parses it, but for the options of TLS that it does not know.

use super::ConnectError;
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

/// The options that tokio-postgres does not know or whose absence it does not tell.
#[derive(Default)]
struct Own {
    ssl_mode: Option<String>,
    root_certificate: Option<PathBuf>,
    names_session_attributes: bool,
}

impl Own {
    /// Takes an option over; true if tokio-postgres must not see it.
    fn takes(&mut self, key: &str, value: String) -> bool {
        match key {
            "sslmode" => self.ssl_mode = Some(value),
            "sslrootcert" => self.root_certificate = Some(PathBuf::from(value)),
            "target_session_attrs" => {
                self.names_session_attributes = true;
                return false;
            }
            _ => return false,
        }
        true
    }
}

/// Splits a connection string into what tokio-postgres parses and our own options.
fn take_own_options(text: &str) -> Result<(String, Own), ConnectError> {
    let mut own = Own::default();
    let rest = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        // As tokio-postgres reads it: credentials end at the first '@', and hold no unescaped one.
        let from = text.find('@').unwrap_or(0);
        match text[from..].find('?') {
            None => text.to_owned(),
            Some(at) => {
                let (base, query) = text.split_at(from + at);
                let kept = query[1..].split('&').filter(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    !own.takes(key, percent_decoded(value))
                });
                let kept: Vec<&str> = kept.collect();
                if kept.is_empty() {
                    base.to_owned()
                } else {
                    format!("{base}?{}", kept.join("&"))
                }
            }
        }
    } else {
        let mut rest = String::new();
        for (key, value, source) in pairs(text)? {
            if !own.takes(key, value) {
                rest.push_str(source);
                rest.push(' ');
            }
        }
        rest
    };
    Ok((rest, own))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let escaped = escape
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The `key = value` pairs of a string, each with the text it was read from. A value may stand in single quotes; a
/// backslash takes the next character as it is.
fn pairs(text: &str) -> Result<Vec<(&str, String, &str)>, ConnectError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let source = rest;
        let (key, value) = rest
            .split_once('=')
            .ok_or_else(|| ConnectError::Options("an option has no value".into()))?;
        let (value, after) = unquoted(value.trim_start())?;
        pairs.push((key.trim(), value, &source[..source.len() - after.len()]));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// Reads one value and returns it with what follows it.
fn unquoted(text: &str) -> Result<(String, &str), ConnectError> {
    let quoted = text.starts_with('\'');
    let text = text.strip_prefix('\'').unwrap_or(text);
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            character if character.is_whitespace() && !quoted => return Ok((value, &text[at..])),
            character => value.push(character),
        }
    }
    if quoted {
        Err(ConnectError::Options("a quote is not closed".into()))
    } else {
        Ok((value, ""))
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
