//! One stream that stands still is ended, whatever moves on the others.

use std::time::Duration;

use http_body_util::BodyExt;
use keygate::upstream::Kind;

use super::{exchange, get, started};
use crate::support::http::PATIENCE;
use crate::support::tls::Trust;
use crate::support::wire::eventually;
use crate::support::{Rig, Setup};

const SHORT: Duration = Duration::from_millis(300);

/// A gateway that is impatient, with a stream on `path` that its client does not read, and siblings that are busy until the
/// upstream's side of it has ended.
async fn stalled_among_busy_siblings(path: &str) -> Rig {
    let trust = Trust::new();
    let rig = Setup::new(Kind::Audiobookshelf).tls(trust.certificate()).with(|config| config.limits.idle_timeout = SHORT).start().await;
    let mut http2 = trust.http2(rig.address).await;
    let mut stalled = started(&mut http2, get(&rig, path)).await;
    let control = rig.standin.control().clone();
    let busy = {
        let (mut http2, slow) = (http2.clone(), get(&rig, "/keygate-test/slow?pause=50"));
        tokio::spawn(async move { exchange(&mut http2, slow).await.body.len() })
    };
    let limit = tokio::time::Instant::now() + PATIENCE;
    while control.counters().aborted_answers == 0 {
        assert!(tokio::time::Instant::now() < limit, "the stalled stream is never cut");
        assert_eq!(exchange(&mut http2, get(&rig, "/keygate-test/bytes/1000")).await.body.len(), 1000);
        tokio::time::sleep(SHORT / 20).await;
    }
    assert!(busy.await.expect("no panic") > 0, "a sibling that trickles ends as it should");
    let ended = async { while stalled.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("a cut stream ends for the client too");
    assert_eq!(exchange(&mut http2, get(&rig, "/keygate-test/bytes/10")).await.body.len(), 10);
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_upstream_stalls_is_cut_while_its_siblings_go_on() {
    let rig = stalled_among_busy_siblings("/keygate-test/slow?pause=3600000").await;
    assert_eq!(rig.standin.control().counters().aborted_answers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_its_client_does_not_read_is_cut_while_its_siblings_go_on() {
    let rig = stalled_among_busy_siblings("/keygate-test/bytes/1000000000").await;
    eventually("its upstream connection is given up", || rig.standin.control().counters().aborted_answers == 1).await;
}
