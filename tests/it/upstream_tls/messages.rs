//! Each certificate that is refused, and the sentence that says what was presented and which line to write.

use keygate::demo::{Options, StandIn};
use keygate::gateway::routing;
use keygate::upstream::Kind;
use keygate::upstream::call::CallError;
use keygate::upstream::survey::{Found, survey};
use keygate::upstream::tls::Trust;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support;
use crate::support::front::{Authority, Front, Pair, Style, parameters};

const HERE: &[&str] = &["localhost", "127.0.0.1"];

async fn emby() -> StandIn {
    StandIn::start(Kind::Emby, Options::default()).await.expect("a stand-in")
}

fn port(standin: &StandIn) -> u16 {
    standin.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// What keygate finds at a port.
async fn found_at(port: u16, host: &str, trust: Option<Trust>) -> Result<Found, CallError> {
    let mut config = support::upstream("films", Kind::Emby, port);
    (config.host, config.tls) = (host.to_owned(), trust);
    survey(&routing::upstream(&config)).await
}

/// What keygate finds at a stand-in behind this certificate.
async fn found(pair: &Pair, host: &str, trust: Option<Trust>) -> Result<Found, CallError> {
    found_by(Style::Usual, pair, host, trust).await
}

async fn found_by(style: Style, pair: &Pair, host: &str, trust: Option<Trust>) -> Result<Found, CallError> {
    let (standin, front) = (emby().await, Front::of(style, pair).await);
    front.leads_to(port(&standin));
    found_at(front.address.port(), host, trust).await
}

async fn is_good(pair: &Pair, host: &str, trust: Option<Trust>) {
    let found = found(pair, host, trust).await;
    assert!(matches!(found, Ok(Found::Server { kind: Kind::Emby, .. })), "{found:?}");
}

async fn is_refused(pair: &Pair, host: &str, trust: Option<Trust>, says: &[&str]) {
    let pin = format!("fingerprint = \"{}\"", pair.fingerprint());
    match found(pair, host, trust).await {
        Err(CallError::Tls { address, cause }) => {
            assert!(address.starts_with(host), "{address}");
            for part in says.iter().copied().chain([pin.as_str()]) {
                assert!(cause.contains(part), "no {part:?} in: {cause}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_trusted_authority_is_good_for_its_names_and_addresses() {
    let authority = Authority::new("Home CA");
    for host in HERE {
        is_good(&authority.leaf(), host, authority.trust()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_not_trusted_is_named_with_the_file_that_it_is_missing_from() {
    let (authority, other) = (Authority::new("Home CA"), Authority::new("Another CA"));
    let says = ["CN=media, ends 2090-02-01", "comes from an authority that is not in ca.pem: CN=Home CA", "ca_file = "];
    is_refused(&authority.leaf(), "127.0.0.1", other.trust(), &says).await;
    let nobody = Some(Trust::nobody().expect("a trust"));
    is_refused(&authority.leaf(), "127.0.0.1", nobody, &["not in the system's trust store: CN=Home CA"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_is_called_so_and_its_pin_is_ready_to_paste() {
    let trust = || Authority::new("Another CA").trust();
    let plain = Pair::self_signed(&parameters("jellyfin", HERE, (2020, 2090)));
    is_refused(&plain, "localhost", trust(), &["is self-signed (CN=jellyfin, ends 2090-02-01)"]).await;
    is_good(&plain, "localhost", plain.pin()).await;
    let usual = Pair::of_openssl("nas");
    let says = ["a self-signed CA certificate used as a server certificate (CN=nas, ends 2090-02-01)", "If it is your server's, pin it"];
    is_refused(&usual, "localhost", trust(), &says).await;
    is_good(&usual, "localhost", usual.pin()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_is_refused_with_the_names_that_the_certificate_is_for() {
    let authority = Authority::new("Home CA");
    let pair = authority.sign(&parameters("media", &["media.lan", "10.0.0.7"], (2020, 2090)));
    let says = ["is for media.lan, 10.0.0.7, not for 127.0.0.1", "url = \"https://media.lan…\""];
    is_refused(&pair, "127.0.0.1", authority.trust(), &says).await;
    is_good(&pair, "127.0.0.1", pair.pin()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_count_for_authorities_and_not_for_a_pin() {
    let authority = Authority::new("Home CA");
    let expired = authority.sign(&parameters("media", HERE, (2020, 2021)));
    is_refused(&expired, "127.0.0.1", authority.trust(), &["CN=media, ends 2021-02-01", "has expired. Renew it"]).await;
    is_good(&expired, "127.0.0.1", expired.pin()).await;
    let early = authority.sign(&parameters("media", HERE, (2080, 2090)));
    is_refused(&early, "127.0.0.1", authority.trust(), &["is not valid yet", "clocks"]).await;
    is_good(&early, "127.0.0.1", early.pin()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_than_the_pinned_one_is_refused_whoever_signed_it() {
    let authority = Authority::new("Home CA");
    let (pinned, presented) = (authority.leaf(), authority.leaf());
    let says = [&*format!("is not the pinned one, {}", pinned.fingerprint()), "CN=media", "something else answers there"];
    is_refused(&presented, "127.0.0.1", pinned.pin(), &says).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pinned_certificate_without_its_key_is_refused() {
    let pair = Pair::of_openssl("home");
    for style in [Style::Usual, Style::Old] {
        let good = found_by(style, &pair, "127.0.0.1", pair.pin()).await;
        assert!(matches!(good, Ok(Found::Server { kind: Kind::Emby, .. })), "{good:?}");
        match found_by(style, &pair.stolen(), "127.0.0.1", pair.pin()).await {
            Err(CallError::Tls { cause, .. }) => assert!(cause.contains("the TLS handshake failed"), "{cause}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_where_tls_is_spoken_is_said_with_the_url_to_write() {
    let pair = Pair::of_openssl("home");
    for front in [Front::start(&pair).await, Front::of(Style::Nginx, &pair).await] {
        let error = found_at(front.address.port(), "127.0.0.1", None).await.expect_err("no HTTP");
        let says = format!("it speaks TLS, not plain HTTP. Write url = \"https://{}\"", front.address);
        assert!(matches!(error, CallError::Tls { .. }) && error.to_string().contains(&says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_where_plain_http_is_spoken_is_said_with_the_url_to_write() {
    let standin = emby().await;
    let error = found_at(port(&standin), "127.0.0.1", Authority::new("Home CA").trust()).await.expect_err("no TLS");
    let says = format!("it speaks plain HTTP, not TLS. Write url = \"{}\"", standin.url);
    assert!(matches!(error, CallError::Tls { .. }) && error.to_string().contains(&says), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_up_or_speaks_something_else_is_not_mistaken_for_either() {
    for (greeting, tls, plain) in
        [("", "closed the connection", "no usable answer"), ("SSH-2.0-x\r\n", "does not speak TLS", "no usable answer")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(greeting.as_bytes()).await;
            }
        });
        for (trust, says) in [(Authority::new("Home CA").trust(), tls), (None, plain)] {
            let error = found_at(port, "127.0.0.1", trust).await.expect_err("nothing").to_string();
            assert!(error.contains(says) && !error.contains("Write url"), "{greeting:?}: {error}");
        }
    }
}
