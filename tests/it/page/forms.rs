//! The forms of a key: limits, networks and libraries; and that nothing that was written is lost when something of it is wrong.

use keygate::keys::KeyId;
use keygate::keys::record::KeyRecord;

use super::{Page, between};

/// The record of a key, by its path.
fn record(page: &Page, path: &str) -> KeyRecord {
    let id: KeyId = path.strip_prefix("/keys/").and_then(|id| id.parse().ok()).expect("a key's path");
    page.site.rig.keep().registry.key(id).expect("a key")
}

/// Makes a key by the form with these fields beside the usual ones; its path and its secret.
async fn made(page: &Page, more: &[(&str, &str)]) -> (String, String) {
    let account = page.site.rig.account.id.0.to_string();
    let fields = [&[("name", "phone"), ("account", &*account), ("expires", "never"), ("preset", "full")], more].concat();
    let answer = page.post("/keys/new", &fields).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let path = answer.header("location").unwrap().strip_suffix("/secret").unwrap().to_owned();
    let (_, secret) = page.secret(&path).await;
    (path, secret)
}

/// What stands in a field of a page.
fn value(text: &str, name: &str) -> String {
    between(between(text, &format!("name=\"{name}\""), ">"), "value=\"", "\"").to_owned()
}

#[tokio::test]
async fn limits_are_set_by_the_form_hold_from_the_next_request_on_and_are_lifted_by_it() {
    let page = Page::open().await;
    let more = [("networks", "127.0.0.0/8, 2001:db8::/64"), ("rate", "2/h"), ("streams", "3"), ("bandwidth", "20Mbit")];
    let (key, secret) = made(&page, &more).await;
    let said = "only from 127.0.0.0/8 2001:db8::/64, rate 2/h, streams 3, bandwidth 20Mbit";
    assert_eq!(record(&page, &key).limits.to_string(), said);
    for status in [200, 200, 429] {
        assert_eq!(page.status(&secret).await, status);
    }
    let shown = page.get(&key).await.text();
    assert!(shown.contains("0 of 2 may come at once now") && shown.contains("<progress max=\"2\" value=\"2\""), "{shown}");
    let shown = page.get(&format!("{key}/edit")).await.text();
    for (name, text) in more {
        assert_eq!(value(&shown, name), text);
    }
    assert!(shown.contains("<details class=\"fold\" open>"), "what is limited is seen: {shown}");

    let account = page.site.rig.account.id.0.to_string();
    let as_it_is = [("name", "phone"), ("account", &*account), ("expires", "keep"), ("preset", "full")];
    let edit = async |more: &[(&str, &str)]| page.post(&format!("{key}/edit"), &[&as_it_is[..], more].concat()).await;
    assert_eq!(edit(&[("networks", "192.0.2.0/24"), ("rate", ""), ("streams", "3")]).await.status, 303);
    assert_eq!(record(&page, &key).limits.to_string(), "only from 192.0.2.0/24, streams 3");
    assert_eq!(page.status(&secret).await, 403, "from another network");
    assert_eq!(edit(&[]).await.status, 303);
    assert!(record(&page, &key).limits.is_none());
    assert_eq!(page.status(&secret).await, 200);
    let form = page.get(&format!("{key}/edit")).await.text();
    assert!(form.contains("<details class=\"fold\"><summary>"), "folded while there is nothing: {form}");
}

#[tokio::test]
async fn a_form_with_something_wrong_comes_back_as_it_was_filled_in_with_a_sentence_at_each_such_field() {
    let page = Page::open().await;
    let account = page.site.rig.account.id.0.to_string();
    let fields = [
        ("name", "Grandma's tablet"),
        ("account", &*account),
        ("expires", "date"),
        ("date", "2020-01-31"),
        ("preset", "dashboard"),
        ("libraries", "Books, Films"),
        ("networks", "192.168.1.7/24"),
        ("rate", "\"><script>"),
        ("streams", "0"),
        ("bandwidth", "20Mbit"),
    ];
    let before = page.site.rig.keep().registry.count_living().expect("counted");
    let (key, _) = made(&page, &[]).await;
    for path in ["/keys/new".to_owned(), format!("{key}/edit")] {
        let answer = page.post(&path, &fields).await;
        let text = answer.text();
        assert_eq!(answer.status, 400, "{path}: {text}");
        let wrong = ["date", "networks", "rate", "streams"];
        for name in wrong {
            let field = between(&text, &format!("id=\"{name}\""), ">");
            assert!(field.contains("aria-invalid=\"true\"") && field.contains(&format!("{name}-wrong\"")), "{name}: {field}");
            let sentence = between(&text, &format!("id=\"{name}-wrong\">"), "<");
            let link = format!("<a href=\"#{name}\">{sentence}</a>");
            assert!(text.contains(&link), "above the form, with the way to it: {link} in {text}");
        }
        assert_eq!(text.matches("<small class=\"wrong\"").count(), wrong.len(), "{text}");
        assert!(text.contains("write 192.168.1.0/24 for the network") && !text.contains("<script>"), "{text}");
        for (name, given) in fields {
            if !["account", "expires", "preset", "rate"].contains(&name) {
                assert_eq!(value(&text, name).replace("&#39;", "'"), given, "{path}: {name}");
            }
        }
        assert_eq!(value(&text, "rate"), "&quot;&gt;&lt;script&gt;");
        assert!(text.contains("<option value=\"date\" selected>"), "{text}");
        assert!(between(&text, "value=\"dashboard\"", ">").contains("checked"));
        assert_eq!(text.matches(" autofocus").count(), 1, "the first of them");
        assert!(between(&text, "id=\"date\"", ">").contains("autofocus"));
    }
    assert_eq!(page.site.rig.keep().registry.count_living().expect("counted"), before + 1, "none was made");
    assert_eq!(record(&page, &key).name, "phone", "and nothing was changed");
    for (wrong, at) in [(("name", ""), "name"), (("account", ""), "account"), (("preset", "custom"), "preset")] {
        let good = [("name", "tv"), ("account", &*account), ("expires", "1y"), ("preset", "full")];
        let fields = good.map(|field| if field.0 == wrong.0 { wrong } else { field });
        let answer = page.post("/keys/new", &fields).await;
        assert!(answer.status == 400 && answer.text().contains(&format!("id=\"{at}-wrong\"")), "{at}: {}", answer.text());
    }
}

/// Once, names that were typed at the page were kept as if they were ids, and the key was confined to libraries that there are not.
#[tokio::test]
async fn libraries_are_named_at_the_page_and_kept_by_their_ids() {
    let page = Page::open().await;
    let there = page.site.rig.keep().sessions.libraries(page.site.rig.account.id).await.expect("libraries");
    let (key, secret) = made(&page, &[("libraries", &there[0].name.to_uppercase())]).await;
    assert_eq!(record(&page, &key).libraries.as_deref(), Some(&[there[0].id.clone()][..]));
    let headers = [("authorization", &*format!("Bearer {secret}"))];
    let of = |id: &str| format!("/api/libraries/{id}/items");
    assert_eq!(crate::support::http::get(page.site.rig.address, &of(&there[0].id), &headers).await.status, 200);

    let account = page.site.rig.account.id.0.to_string();
    let as_it_is = [("name", "phone"), ("account", &*account), ("expires", "keep"), ("preset", "full")];
    let edit = async |libraries: &str| page.post(&format!("{key}/edit"), &[&as_it_is[..], &[("libraries", libraries)]].concat()).await;
    let none = edit("Nowhere").await;
    assert_eq!(none.status, 400, "{}", none.text());
    let said = between(&none.text(), "id=\"libraries-wrong\">", "<").to_owned();
    assert!(said.contains("the account sees no library") && said.contains(&there[0].id), "{said}");
    assert_eq!(value(&none.text(), "libraries"), "Nowhere");
    assert_eq!(edit(&there[0].id).await.status, 303, "an id is one as well");
    assert_eq!(record(&page, &key).libraries.as_deref(), Some(&[there[0].id.clone()][..]));
    assert_eq!(crate::support::http::get(page.site.rig.address, &of("another"), &headers).await.status, 403);
    assert_eq!(edit("").await.status, 303);
    assert_eq!(record(&page, &key).libraries, None);
}
