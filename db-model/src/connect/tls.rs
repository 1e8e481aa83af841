//! TLS by rustls, decided by our own `sslmode`: tokio-postgres knows neither `verify-ca` nor `verify-full`.

use super::ConnectError;
use super::options::{SslMode, Tls};
use super::stream::{Lent, Shared, Wire};
use futures::future::BoxFuture;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_postgres::Socket;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Takes the bare socket from tokio-postgres, speaks TLS on it or not, and lends the result back.
#[derive(Clone)]
pub(super) struct Lend {
    mode: SslMode,
    rustls: Option<MakeRustlsConnect>,
    shared: Arc<Shared>,
    host: String,
}

impl Lend {
    pub(super) fn new(tls: &Tls, shared: Arc<Shared>) -> Result<Self, ConnectError> {
        let rustls = match tls.mode {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(client_config(tls)?)),
        };
        Ok(Self {
            mode: tls.mode,
            rustls,
            shared,
            host: String::new(),
        })
    }

    async fn over_tcp(self, mut socket: Socket) -> io::Result<Lent> {
        let Some(mut rustls) = self.rustls else {
            return Ok(Lent::new(Wire::Tcp(socket), self.shared));
        };
        socket.write_all(&SSL_REQUEST).await?;
        let wire = match socket.read_u8().await? {
            b'S' => {
                let connect =
                    MakeTlsConnect::<Socket>::make_tls_connect(&mut rustls, &self.host)
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                Wire::Tls(Box::new(connect.connect(socket).await?))
            }
            b'N' if self.mode == SslMode::Prefer => Wire::Tcp(socket),
            b'N' => return Err(io::Error::other("server does not support TLS")),
            _ => return Err(io::Error::other("unexpected answer to the request for TLS")),
        };
        Ok(Lent::new(wire, self.shared))
    }
}

/// The request for TLS: its length, and a code in place of a protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

impl MakeTlsConnect<Socket> for Lend {
    type Stream = Lent;
    type TlsConnect = Self;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Self> {
        Ok(Self {
            host: domain.to_owned(),
            ..self.clone()
        })
    }
}

impl TlsConnect<Socket> for Lend {
    type Stream = Lent;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Lent>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(self.over_tcp(socket))
    }
}

impl TlsConnect<UnixStream> for Lend {
    type Stream = Lent;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Lent>>;

    /// PostgreSQL speaks no TLS on a Unix socket; file permissions guard it.
    fn connect(self, stream: UnixStream) -> Self::Future {
        std::future::ready(Ok(Lent::new(Wire::Unix(stream), self.shared)))
    }
}

fn client_config(tls: &Tls) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match &tls.root_certificate {
        Some(path) => {
            let unusable = |source| ConnectError::RootCertificate {
                path: path.clone(),
                source,
            };
            let roots = Arc::new(root_certificates(path).map_err(unusable)?);
            let full = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| unusable(error.into()))?;
            match tls.mode {
                SslMode::VerifyFull => full,
                _ => Arc::new(AnyName(full)),
            }
        }
        None => Arc::new(AnyCertificate(Arc::clone(&provider))),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Options(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn root_certificates(
    path: &Path,
) -> Result<RootCertStore, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err("the file holds no certificate".into());
    }
    Ok(roots)
}

/// `verify-ca`: the chain must end in a root of ours; the name in the certificate may be any.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at only after the chain was found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `prefer`, and `require` without a root certificate: encrypted, but nothing says with whom.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
