//! What a login's body may be, and what may stand beside it.

use ::http::StatusCode;
use keygate::upstream::Kind;
use serde_json::json;

use super::{JSON, PATH, form, login_path, post, token};
use crate::support::Rig;
use crate::support::http;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_every_kind_that_the_servers_read_log_in() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let k = rig.secret();
        let forms = match kind {
            Kind::Audiobookshelf => vec![
                (JSON, form(kind, "alice", k)),
                (FORM, format!("username=anybody+else&password={k}")),
                (JSON, json!({"password": k}).to_string()),
            ],
            Kind::Emby | Kind::Jellyfin => vec![
                (JSON, form(kind, "", k)),
                (JSON, json!({"Username": "x", "Password": k}).to_string()),
                (JSON, json!({"Username": "x", "Pw": k, "Password": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}).to_string()),
                (("content-type", "application/xml"), format!("<A><Username>x</Username><Pw>{k}</Pw></A>")),
                (FORM, format!("Username=x&Pw={k}")),
            ],
        };
        for (content_type, body) in forms {
            for path in [login_path(kind).to_owned(), format!("/{}/", login_path(kind)).to_ascii_uppercase()] {
                let answer = post(&rig, &path, &[content_type], body.clone()).await;
                assert_eq!(answer.status, StatusCode::OK, "{kind} {path} {body}: {}", answer.text());
                assert_eq!(token(kind, &answer.json()), k);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_the_forms_key_stands_the_same_key_or_none() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let (other, k) = (rig.another_key("other"), rig.secret());
        for (name, value, status) in [
            ("authorization", format!("Bearer {k}"), 200),
            ("x-emby-token", k.to_owned(), 200),
            ("authorization", r#"MediaBrowser Client="a", Device="b", DeviceId="c", Version="d""#.to_owned(), 200),
            ("x-emby-authorization", r#"Emby Client="a", Device="b", DeviceId="c", Version="d""#.to_owned(), 200),
            ("authorization", "Basic YTpi".to_owned(), 200),
            ("authorization", format!("Bearer {}", other.expose()), 400),
            ("x-emby-token", "0123456789abcdef0123456789abcdef".to_owned(), 400),
            ("x-emby-token", "kg_nonsense".to_owned(), 400),
        ] {
            let answer = post(&rig, login_path(kind), &[JSON, (name, &value)], form(kind, "x", k)).await;
            assert_eq!(answer.status.as_u16(), status, "{kind} {name}: {value}: {}", answer.text());
        }
        let two = json!({"Pw": k, "Password": other.expose()}).to_string();
        assert_eq!(post(&rig, login_path(kind), &[JSON], two).await.status, StatusCode::BAD_REQUEST, "{kind}");
        // A key in a carrier does not stand for a password.
        let lines = [JSON, ("x-emby-token", k)];
        assert_eq!(post(&rig, login_path(kind), &lines, form(kind, "x", "alice-password")).await.status, StatusCode::BAD_REQUEST, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_form_is_refused_before_anything_is_asked() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        for (body, status) in [
            ("not JSON".to_owned(), 400),
            (String::new(), 401),
            ("{}".to_owned(), 401),
            (form(kind, "x", ""), 401),
            ("x".repeat(17 << 10), 413),
        ] {
            let answer = post(&rig, login_path(kind), &[JSON], body.clone()).await;
            assert_eq!(answer.status.as_u16(), status, "{kind} {:.20}: {}", body, answer.text());
        }
        let padded = form(kind, "x", rig.secret()).replace('{', &format!("{{\"pad\":\"{}\",", "x".repeat(12 << 10)));
        let host = rig.address.to_string();
        let mut chunked = http::head(
            "POST",
            login_path(kind),
            &[
                ("Host", host.as_bytes()),
                ("Content-Type", b"application/json"),
                ("Transfer-Encoding", b"chunked"),
                ("Connection", b"close"),
            ],
        );
        let mut large = chunked.clone();
        chunked.extend_from_slice(format!("{:x}\r\n{padded}\r\n0\r\n\r\n", padded.len()).as_bytes());
        assert_eq!(http::status_of(&http::raw(rig.address, &chunked).await), 200, "{kind}");
        for _ in 0..2 {
            large.extend_from_slice(format!("{:x}\r\n{}\r\n", 40 << 10, "x".repeat(40 << 10)).as_bytes());
        }
        assert_eq!(http::status_of(&http::raw(rig.address, &large).await), 413, "{kind}: it is not waited for the rest");
        assert_eq!(http::get(rig.address, PATH, &[]).await.status, StatusCode::UNAUTHORIZED);
    }
}
