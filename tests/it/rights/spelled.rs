//! Every spelling of every route over HTTP: the narrowest preset that may gets through, and another is refused, whatever the spelling.

use super::*;

/// Narrow ones first.
const PRESETS: [Preset; 7] =
    [Preset::StreamOnly, Preset::Dashboard, Preset::ProgressSync, Preset::Upload, Preset::ReadOnly, Preset::Full, Preset::Admin];

/// Tries all spellings of all routes of a kind; how many requests that were.
async fn try_all(kind: Kind) -> u64 {
    let rig = Rig::new(kind).await;
    let keys = PRESETS.map(|preset| (preset, key_with(&rig, preset.scopes())));
    for (_, key) in &keys {
        // Each key has its session before the upstream answers nothing but 404.
        let path = if kind == Kind::Audiobookshelf { "/api/me" } else { "/System/Endpoint" };
        with_key(&rig, key, Method::GET, path).await;
    }
    rig.standin.control().faults(|faults| faults.status = Some((404, None)));
    let arrived = || rig.standin.control().counters().requests;
    let (mut connection, mut asked) = (Connection::to(rig.address).await, 0);
    for route in forwarded(kind) {
        for (turn, target) in examples(route.pattern).iter().flat_map(|path| spellings(path, kind)).enumerate() {
            let method = methods(route).nth(turn % methods(route).count()).expect("one");
            let needs = if has_ending(&target) { routed(kind, method, &target).needs } else { route.needs };
            let find = |may: bool| keys.iter().find(|(preset, _)| needs.without(preset.scopes()).is_empty() == may);
            for (may, (preset, key)) in [true, false].into_iter().filter_map(|may| Some((may, find(may)?))) {
                let before = arrived();
                let answer = connection.ask(method, &target, Some(key)).await;
                let came = (answer.status.as_u16(), arrived() - before);
                assert_eq!(came, if may { (404, 1) } else { (403, 0) }, "{kind}: {preset}: {method} {target}: {}", answer.text());
                asked += 1;
            }
        }
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn every_spelling_of_every_route_is_let_through_and_refused_alike() {
    let trying = Kind::ALL.map(|kind| tokio::spawn(try_all(kind)));
    for one in trying {
        let asked = one.await.expect("no panic");
        assert!(asked > 5000, "{asked}");
    }
}
