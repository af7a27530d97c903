//! The main job, for every kind of server.

use keygate::upstream::Kind;

use crate::support::{Rig, http};

/// A path that needs a credential at the upstream.
fn protected(kind: Kind) -> &'static str {
    match kind {
        Kind::Audiobookshelf => "/api/libraries",
        Kind::Emby | Kind::Jellyfin => "/System/Info",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_three_main_carriers_becomes_an_upstream_session() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let path = protected(kind);
        let bearer = rig.get(path).await;
        assert_eq!(bearer.status, 200, "{kind}: {}", bearer.text());
        let header = http::get(rig.address, path, &[("x-emby-token", rig.secret())]).await;
        assert_eq!((header.status.as_u16(), header.body), (200, bearer.body.clone()), "{kind}");
        let query = http::get(rig.address, &format!("{path}?api_key={}", rig.secret()), &[]).await;
        assert_eq!((query.status.as_u16(), query.body), (200, bearer.body), "{kind}");
        let nothing = http::get(rig.address, path, &[]).await;
        assert_eq!(nothing.status, 401, "{kind}");
    }
}
