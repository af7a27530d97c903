//! Logins with a good key while the upstream is in trouble: never a wrong password.

use ::http::StatusCode;
use keygate::secret::Secret;
use keygate::upstream::{Credential, Kind};

use super::{log_in, token};
use crate::support::{Rig, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_or_refuses_the_account_is_no_wrong_password() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        assert_eq!(log_in(&rig, kind, rig.secret()).await.status, StatusCode::OK, "{kind}");
        rig.standin.control().faults(|faults| faults.refuse_connections = true);
        let answer = log_in(&rig, kind, rig.secret()).await;
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (StatusCode::BAD_GATEWAY, true), "{kind}: {}", answer.text());
        rig.standin.control().faults(|faults| faults.refuse_connections = false);
        for status in [500, 503, 403] {
            rig.standin.control().faults(|faults| faults.status = Some((status, None)));
            assert_eq!(log_in(&rig, kind, rig.secret()).await.status, StatusCode::BAD_GATEWAY, "{kind} {status}");
        }
        let rig = Setup::new(kind).credential(Credential::Password(Secret::from("wrong"))).start().await;
        assert_eq!(log_in(&rig, kind, rig.secret()).await.status, StatusCode::SERVICE_UNAVAILABLE, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_died_is_renewed_and_the_login_succeeds() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        assert_eq!(log_in(&rig, kind, rig.secret()).await.status, StatusCode::OK, "{kind}");
        rig.standin.control().kill_all_tokens();
        let answer = log_in(&rig, kind, rig.secret()).await;
        assert_eq!(answer.status, StatusCode::OK, "{kind}: {}", answer.text());
        assert_eq!(token(kind, &answer.json()), rig.secret(), "{kind}");
        assert_eq!(rig.standin.control().counters().logins, 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_with_a_static_token_log_in_where_the_token_has_a_user() {
    for (kind, status) in [(Kind::Audiobookshelf, 200), (Kind::Emby, 502), (Kind::Jellyfin, 502)] {
        let rig = Rig::new(kind).await;
        let token = rig.standin.control().create_api_key("alice").unwrap();
        let credential = Credential::Token(Secret::new(token.clone()));
        let account = rig.keep().registry.add_account(rig.config.upstreams[0].name.clone(), "robot".to_owned(), credential).unwrap();
        let key = crate::support::make_key(rig.keep(), "robot's", &account);
        let answer = log_in(&rig, kind, key.expose()).await;
        assert_eq!(answer.status.as_u16(), status, "{kind}: {}", answer.text());
        assert!(!answer.text().contains(&token));
    }
}
