//! What ACME servers are shown in handshakes (tls-alpn-01), and everybody else is not.

use std::net::SocketAddr;
use std::sync::Arc;

use keygate::certificates::Served;
use keygate::certificates::challenges::ACME_TLS;
use keygate::upstream::Kind;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::support::authority::Authority;
use crate::support::http::PATIENCE;
use crate::support::net::TcpStream;
use crate::support::{Rig, Setup};

/// An ACME server trusts nobody: it looks at what it is shown.
#[derive(Debug)]
struct Looks(Arc<CryptoProvider>);

impl ServerCertVerifier for Looks {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // rustls' own look at a signature refuses the critical extension; pebble looks at it in the tests beside this one.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What came of a handshake: the certificate, the protocol, and what a request over it was answered.
struct Seen {
    certificate: CertificateDer<'static>,
    protocol: Option<Vec<u8>>,
    answer: String,
}

async fn looks(address: SocketAddr, name: &str, protocols: &[&[u8]]) -> std::io::Result<Seen> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Looks(provider))).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let stream = TcpStream::bare(address).await.expect("connected");
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let state = stream.get_ref().1;
    let certificate = state.peer_certificates().expect("certificates")[0].clone();
    let protocol = state.alpn_protocol().map(<[u8]>::to_vec);
    let _ = stream.write_all(b"GET /System/Info/Public HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end in time");
    Ok(Seen { certificate, protocol, answer: String::from_utf8_lossy(&answer).into_owned() })
}

async fn rig() -> (Rig, Arc<Served>, CertificateDer<'static>) {
    let pair = Authority::new().issue(&["a.test"]).pair();
    let usual = pair.cert[0].clone();
    let served = Arc::new(Served::new([pair]));
    (Setup::new(Kind::Jellyfin).served(Arc::clone(&served)).start().await, served, usual)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_challenge_is_shown_it_and_nothing_else_and_all_others_are_served() {
    let (rig, served, usual) = rig().await;
    let digest = [7; 32];
    served.challenges().set_handshake("a.test", &digest).expect("set");
    let seen = looks(rig.address, "a.test", &[ACME_TLS]).await.expect("shown");
    assert_eq!((seen.protocol.as_deref(), seen.answer.as_str()), (Some(ACME_TLS), ""), "it never reaches HTTP");
    // The extension of RFC 8737, section 3: id-pe-acmeIdentifier, critical, the digest as an octet string in an octet string.
    let extension = [&[6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 0x1f, 1, 1, 0xff, 4, 34, 4, 32][..], &digest].concat();
    assert!(seen.certificate.windows(extension.len()).any(|window| window == extension), "{:02x?}", &*seen.certificate);
    for protocols in [&[b"http/1.1".as_slice()][..], &[], &[b"http/1.1", ACME_TLS]] {
        let seen = looks(rig.address, "a.test", protocols).await.expect("served");
        assert_eq!(seen.certificate, usual, "{protocols:?}");
        assert!(seen.answer.starts_with("HTTP/1.1 200") && seen.protocol.as_deref() != Some(ACME_TLS), "{}", seen.answer);
    }
    let requests = rig.standin.control().counters().requests;
    assert!(looks(rig.address, "b.test", &[ACME_TLS]).await.is_err(), "a name that nobody waits for");
    served.challenges().remove_handshake("a.test");
    assert!(looks(rig.address, "a.test", &[ACME_TLS]).await.is_err(), "over");
    assert_eq!(rig.standin.control().counters().requests, requests, "nothing is forwarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acme_server_needs_no_certificate_where_clients_do() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clients.pem");
    std::fs::write(&file, &clients.pem).expect("written");
    let served = Arc::new(Served::new([authority.issue(&["a.test"]).pair()]));
    let setup = Setup::new(Kind::Jellyfin).served(Arc::clone(&served)).with(move |config| {
        config.server.tls = Some(keygate::config::Tls {
            source: keygate::config::CertificateSource::Files(Vec::new()),
            client_ca: Some(keygate::config::ClientCa { file, listen: Vec::new() }),
            hsts: std::time::Duration::ZERO,
        });
    });
    let rig = setup.start().await;
    served.challenges().set_handshake("a.test", &[7; 32]).expect("set");
    assert_eq!(looks(rig.address, "a.test", &[ACME_TLS]).await.expect("shown").protocol.as_deref(), Some(ACME_TLS));
    let refused = looks(rig.address, "a.test", &[b"http/1.1"]).await;
    assert!(refused.is_err() || refused.is_ok_and(|seen| seen.answer.is_empty()), "a client without a certificate");
}
