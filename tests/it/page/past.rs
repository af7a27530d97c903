//! A past for a site whose clock is manual: keys that have been in use for a month.

use std::time::Duration;

use http::HeaderValue;
use keygate::clock::Clock as _;
use keygate::keys::{KeyId, Scopes};
use keygate::limits::{Limits, LimitsText};
use keygate::registry::{Created, NewKey};
use keygate::upstream::UpstreamName;
use keygate::usage::count::Class;
use keygate::usage::tally::{Ended, SecretTag};

use super::Page;

/// Hours of a month.
const HOURS: u32 = 30 * 24;
/// A core that no gateway of the suite has.
const CORE: u16 = 99;

struct User {
    name: &'static str,
    agent: &'static str,
    address: [u8; 4],
    carrier: &'static str,
    target: &'static str,
    scopes: Scopes,
    days: Option<u64>,
    limits: Limits,
    /// Requests in an hour of the day.
    busy: fn(u32) -> u32,
}

fn users() -> Vec<User> {
    let usual = |name, agent, address, carrier, target, busy| User {
        name,
        agent,
        address,
        carrier,
        target,
        scopes: Scopes::FULL,
        days: Some(365),
        limits: Limits::default(),
        busy,
    };
    let evening = |hour: u32| if (18..23).contains(&(hour % 24)) { 6 + hour % 5 } else { u32::from(hour.is_multiple_of(5)) };
    vec![
        User {
            limits: LimitsText {
                networks: Some(vec!["192.168.1.0/24".to_owned()]),
                rate: Some("10/s burst 40".to_owned()),
                streams: Some(3),
                bandwidth: Some("40Mbit".to_owned()),
                daily: Some("50GiB".to_owned()),
            }
            .try_into()
            .expect("limits"),
            ..usual("Living room Kodi", "Kodi/21.1 (X11; Linux)", [192, 168, 1, 30], "x-emby-token", "/api/items/x1/play", evening)
        },
        usual("Home Assistant", "HomeAssistant/2026.11", [192, 168, 1, 4], "bearer", "/api/me", |_| 12),
        User {
            scopes: keygate::keys::Preset::Dashboard.scopes(),
            ..usual("Homepage", "homepage/1.4", [192, 168, 1, 5], "api_key", "/api/libraries", |hour| 4 + hour % 3)
        },
        User {
            days: Some(6),
            ..usual("Dad’s phone", "Lissen/1.8", [203, 0, 113, 9], "bearer", "/api/session/x1", |hour| {
                u32::from((7..9).contains(&(hour % 24))) * 9
            })
        },
        User {
            days: None,
            ..usual("backup script", "curl/8.14", [192, 168, 1, 2], "bearer", "/api/libraries/x1/items", |hour| {
                u32::from(hour % 24 == 3) * 40
            })
        },
        usual("Music Assistant", "", [192, 168, 1, 6], "bearer", "/", |_| 0),
    ]
}

impl Page {
    /// Six keys with a month of use; the id of the first.
    pub(super) fn with_past(&self) -> String {
        let keep = self.site.rig.keep();
        let users = users();
        let make = |user: &User| {
            let expires_at = user.days.map(|days| self.site.clock.now().plus(Duration::from_secs(days * 86_400 + 60)));
            let (name, account, scopes) = (user.name.to_owned(), self.site.rig.account.id, user.scopes);
            let new = NewKey {
                name,
                account,
                expires_at,
                is_active: true,
                scopes,
                libraries: None,
                limits: user.limits.clone(),
                created_by: "alice (uid 1000)".to_owned(),
            };
            let Created { record, key } = keep.registry.create_key(new).expect("a key");
            let now = self.site.clock.now();
            if let Some(live) = keep.registry.find(&key).expect("it is there").limits() {
                live.count(12_300 << 20, now);
                (0..6).for_each(|_| live.request(self.site.clock.monotonic(), now).expect("below its rate"));
            }
            (record.id, SecretTag::from(&record.digest))
        };
        let keys: Vec<(KeyId, SecretTag)> = users.iter().rev().map(make).collect::<Vec<_>>().into_iter().rev().collect();
        let tally = keep.usage.tally(CORE);
        let upstream = UpstreamName::new(self.site.rig.config.upstreams[0].name.as_str());
        let now = self.site.clock.now();
        for hour in 0..HOURS {
            let at = now.minus(Duration::from_secs(u64::from(HOURS - 1 - hour) * 3600));
            for (user, key) in users.iter().zip(&keys) {
                for number in 0..(user.busy)(hour) {
                    let class = match (hour + number) % 29 {
                        7 => Class::ClientError,
                        19 if hour % 3 == 0 => Class::ServerError,
                        _ => Class::Success,
                    };
                    let agent = HeaderValue::from_static(user.agent);
                    tally.count(&Ended {
                        at,
                        key: Some(*key),
                        claimed: None,
                        upstream: Some(&upstream),
                        class,
                        carrier: Some(user.carrier),
                        refusal: None,
                        client: user.address.into(),
                        agent: Some(&agent),
                        target: Some(user.target),
                        bytes_in: 300,
                        bytes_out: 48_000,
                    });
                }
            }
            tally.hand_over(at);
        }
        for minute in 0..60_u64 {
            for number in 0..20 {
                tally.answered(
                    &upstream,
                    Duration::from_millis(if number % (7 + minute / 9) == 3 { 20 + minute * 3 } else { 3 + number % 9 }),
                );
            }
            tally.hand_over(now.minus(Duration::from_secs((59 - minute) * 60)));
        }
        keep.usage.enter().expect("entered");
        keys[0].0.to_string()
    }
}
