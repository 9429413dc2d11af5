//! TLS for a server that serves connections of any kind.
//!
//! The certificate is made at the start and vouched for by nobody: the API server, which is the client, verifies none when
//! it passes requests on to pods. So TLS keeps tokens from who can only listen on the wire; see docs/design/operators.md.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, anyhow};
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::serve::Listen;

pub(super) struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsListener {
    pub(super) fn over(tcp: TcpListener) -> anyhow::Result<Self> {
        Ok(Self { tcp, acceptor: TlsAcceptor::from(Arc::new(config()?)) })
    }
}

impl Listen for TlsListener {
    type Stream = TlsConnection;

    async fn accept(&self) -> io::Result<(Self::Stream, Option<IpAddr>)> {
        let (stream, source) = Listen::accept(&self.tcp).await?;
        Ok((TlsConnection::Handshake(self.acceptor.accept(stream)), source))
    }
}

/// Shakes hands when it is first read: nobody else waits for a client that is slow at it, and whatever bounds the reading
/// of a request bounds this too.
pub(super) enum TlsConnection {
    Handshake(Accept<TcpStream>),
    Open(TlsStream<TcpStream>),
    Failed,
}

impl TlsConnection {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<TcpStream>>>> {
        if let Self::Handshake(handshake) = self {
            let done = ready!(Pin::new(handshake).poll(cx));
            *self = Self::Failed;
            *self = Self::Open(done?);
        }
        match self {
            Self::Open(stream) => Poll::Ready(Ok(Pin::new(stream))),
            Self::Handshake(_) | Self::Failed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_shutdown(cx)
    }
}

fn config() -> anyhow::Result<ServerConfig> {
    let (certificate, key) = identity().map_err(|Unspecified| anyhow!("no random numbers for a key"))?;
    let config = ServerConfig::builder().with_no_client_auth();
    let (certificates, key) = (vec![certificate.into()], PrivatePkcs8KeyDer::from(key).into());
    config.with_single_cert(certificates, key).context("TLS refuses our certificate")
}

/// A certificate and its key (PKCS #8). The least that X.509 allows (RFC 5280 §4.1): version 3, number 1, no names, no end,
/// signed with the key itself.
fn identity() -> Result<(Vec<u8>, Vec<u8>), Unspecified> {
    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    const VERSION_AND_NUMBER: &[u8] = &[0xa0, 3, 2, 1, 2, 2, 1, 1];
    const ECDSA_WITH_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    const P256: &[u8] =
        b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    const NO_NAME: &[u8] = &[SEQUENCE, 0];
    const ALWAYS: &[u8] = b"\x30\x20\x17\x0d700101000000Z\x18\x0f99991231235959Z";

    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random)?;
    let public = der(SEQUENCE, &[P256, &der(BIT_STRING, &[&[0], key.public_key().as_ref()])]);
    let fields = [VERSION_AND_NUMBER, ECDSA_WITH_SHA256, NO_NAME, ALWAYS, NO_NAME, &public];
    let signed = der(SEQUENCE, &fields);
    let signature = key.sign(&random, &signed)?;
    let signature = der(BIT_STRING, &[&[0], signature.as_ref()]);
    let certificate = der(SEQUENCE, &[&signed, ECDSA_WITH_SHA256, &signature]);
    Ok((certificate, pkcs8.as_ref().to_vec()))
}

/// X.690 §8.1 and §10.1, for less than 256 octets.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u8::try_from(content.len()).expect("a certificate of ours has some 240 octets");
    let head: &[u8] = if length < 0x80 { &[tag, length] } else { &[tag, 0x81, length] };
    [head, &content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With its key in it, readable for TLS; each its own; in DER a length is said as shortly as it can be.
    #[test]
    fn a_certificate_is_one_and_is_made_anew() {
        config().unwrap();
        let [(one, _), (other, _)] = [(); 2].map(|()| identity().unwrap());
        assert_ne!(one, other);
        assert_eq!((one[1], usize::from(one[2]) + 3), (0x81, one.len()));
    }
}
