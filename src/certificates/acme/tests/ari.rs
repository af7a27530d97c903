//! Asking an ACME server when a certificate should be renewed (RFC 9773), of a server that knows nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, IsCa, Issuer};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::store::acme::AcmeAccount;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    /// With the name of the authority's key in it, by which servers know certificates again.
    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        parameters.use_authority_key_identifier_extension = true;
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2090, 1, 1);
        (parameters.signed_by(&key, &self.issuer).expect("signed"), key)
    }
}

/// Answers the directory, and one window for every certificate, until the test is over.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, base: String, asked: Arc<Mutex<Vec<String>>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {}
        let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
        let body = match line.contains(" /dir ") {
            true => serde_json::json!({
                "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"), "newOrder": format!("{base}/order"),
                "renewalInfo": format!("{base}/ari"),
            }),
            false => serde_json::json!({ "suggestedWindow": { "start": "2030-01-11T00:00:00Z", "end": "2030-01-12T00:00:00Z" } }),
        }
        .to_string();
        asked.lock().expect("no panic").push(line);
        let answer = format!("HTTP/1.1 200 OK\r\nRetry-After: 21600\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

#[tokio::test]
async fn the_server_is_asked_when_to_renew_and_is_told_what_an_order_replaces() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let root = folder.path().join("root.pem");
    std::fs::write(&root, &authority.pem).expect("written");
    let (own, key) = authority.issue("127.0.0.1");
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_no_client_auth().with_single_cert(vec![own.der().clone()], private).expect("a pair");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let base = format!("https://{}", listener.local_addr().expect("an address"));
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let server = serve(listener, TlsAcceptor::from(Arc::new(config)), base.clone(), Arc::clone(&asked));

    let wanted = AcmeSettings { directory: format!("{base}/dir"), ca_file: Some(root), ..settings(&["a.example.org"]) };
    let setting = Setting::new();
    let (leaf, key) = authority.issue("a.example.org");
    let kept = AcmeCertificate { chain: leaf.pem(), key: Secret::new(key.serialize_pem()), ..certificate(&wanted) };
    let account = KeyPair::generate().expect("a key").serialize_der();
    let credentials = serde_json::json!({
        "id": format!("{base}/account/1"), "key_pkcs8": URL_SAFE_NO_PAD.encode(account), "directory": wanted.directory,
    });
    let account = AcmeAccount {
        directory: wanted.directory.clone(),
        eab_kid: None,
        contact: Vec::new(),
        credentials: Secret::new(credentials.to_string()),
        created_at: new_year(),
    };
    let records = [AcmeRecord::Certificate(kept), AcmeRecord::Account(account)];
    setting.store.commit(records.map(Change::PutAcme).into()).expect("kept");
    assert!(!setting.wants(&wanted).is_temporary());
    assert_eq!(setting.task(), Task::AskForAdvice);
    assert!(setting.acme.begin().is_some_and(|(_, replaces)| replaces.is_none()), "it does not know yet whether the server cares");

    tokio::select! {
        () = server => panic!("the server ended"),
        () = worker::ask_for_advice(&setting.acme) => {}
    }
    let advice = setting.acme.state().advice.clone().expect("advice");
    let day = |days: u32| new_year().plus(days * DAY);
    assert_eq!(advice.window, Some(Window { start: day(10), end: day(11) }));
    let pause = advice.ask_again.since(new_year()).as_secs();
    assert!((21_500..=21_600).contains(&pause), "the server's own pause: {pause}");
    let (_, replaces) = setting.acme.begin().expect("settings");
    let id = replaces.expect("the server wants to know").to_string();
    let lines = asked.lock().expect("no panic").clone();
    assert_eq!(lines, ["GET /dir HTTP/1.1".to_owned(), format!("GET /ari/{id} HTTP/1.1")]);
    setting.clock.advance(11 * DAY);
    assert_eq!(setting.task(), Task::Order);
}
