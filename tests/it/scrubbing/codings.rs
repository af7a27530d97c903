//! Content codings of servers that ignore what was asked for.

use super::*;
use crate::support::wire::Scripted;

#[tokio::test(flavor = "multi_thread")]
async fn a_coded_text_is_decoded_and_scrubbed_and_says_nothing_of_its_coding() {
    let (rig, token) = warm(Setup::new(Kind::Jellyfin)).await;
    let text = format!("{{\"AccessToken\":\"{token}\",\"x\":\"{}\"}}", "filler ".repeat(30_000));
    for coding in ["gzip", "deflate", "br"] {
        for pieces in [0, 501] {
            rig.standin.control().faults(|faults| faults.coding = Some(coding.to_owned()));
            say(&rig, Canned::of("application/json", text.clone()).with("etag", "\"a\"").in_pieces(pieces));
            let answer = rig.get("/anything").await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, text.len()), "{coding}");
            assert_eq!(answer.json()["AccessToken"], "", "{coding}");
            assert_clean(&rig, &answer, coding);
            assert_eq!((answer.header("content-encoding"), answer.header("etag")), (None, None), "{coding}");
            let head = ask(&rig, Method::HEAD, "/anything", &[]).await;
            assert_eq!((head.header("content-encoding"), head.header("content-length"), head.header("etag")), (None, None, None));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_in_a_coding_that_is_not_read_here_is_502_and_media_in_it_pass() {
    let (rig, _) = warm(Setup::new(Kind::Jellyfin)).await;
    for coding in ["zstd", "gzip, br"] {
        say(&rig, Canned::of("application/json", "{}").with("content-encoding", coding));
        assert_eq!(rig.get("/anything").await.status, 502, "{coding}");
        say(&rig, Canned::of("video/mp4", "bytes").with("content-encoding", coding));
        let answer = rig.get("/Videos/1/stream").await;
        assert_eq!((answer.text().as_str(), answer.header("content-encoding")), ("bytes", Some(coding)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_coding_and_a_charset_that_hides_credentials_are_502() {
    let (rig, _) = warm(Setup::new(Kind::Jellyfin)).await;
    say(&rig, Canned::of("application/json", "no gzip at all").with("content-encoding", "gzip"));
    assert_eq!(rig.get("/anything").await.status, 502);
    say(&rig, Canned::of("application/json; charset=utf-16le", "{\0}\0"));
    assert_eq!(rig.get("/anything").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_coding_other_than_chunked_is_502() {
    let says = |coding: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: {coding}\r\n\r\n");
        [head.as_bytes(), b"5\r\nhello\r\n0\r\n\r\n"].concat()
    };
    let upstream = Scripted::start(&[("/api/coded", says("gzip, chunked")), ("/api/plain", says("Chunked"))]).await;
    let rig = upstream.rig(|_| {}).await;
    assert_eq!(rig.get("/api/coded").await.status, 502, "what is below it would pass unseen");
    assert_eq!(rig.get("/api/plain").await.text(), "hello");
}
