//! Answers in the shapes of the real servers.

use super::*;

/// `""` and spaces in the place of a string of a length.
fn empty(value: &str) -> String {
    format!("\"\"{}", " ".repeat(value.len()))
}

fn stars(value: &str) -> String {
    "*".repeat(value.len())
}

#[test]
fn a_user_of_audiobookshelf_loses_every_token_and_keeps_its_length() {
    let plan = blank(Kind::Audiobookshelf, Text::Json, &[ACCESS]);
    assert!(plan.keeps_length());
    let text = format!(
        r#"{{"user":{{"id":"5bbb2046","token":"{PERMANENT}","pash":"$2a$08$abc\"def","isOldToken":true,"refreshToken":null,"accessToken" : "{ACCESS}"}},"x":["token","{REFRESH}"],"url":"/a?token={PERMANENT}&b","Source":"debian"}}"#
    );
    let expected = format!(
        r#"{{"user":{{"id":"5bbb2046","token":{},"pash":{},"isOldToken":true,"refreshToken":null,"accessToken" : {}}},"x":["token","{}"],"url":"/a?token={}&b","Source":"debian"}}"#,
        empty(PERMANENT),
        empty(r#"$2a$08$abc\"def"#),
        empty(ACCESS),
        stars(REFRESH),
        stars(PERMANENT),
    );
    assert_eq!(scrubbed(&plan, &text), expected);
    assert_eq!(scrubbed(&plan, &expected), expected, "twice is once");
}

#[test]
fn an_event_of_the_socket_loses_the_permanent_token() {
    let plan = blank(Kind::Audiobookshelf, Text::Json, &[]);
    let text = format!(r#"42["user_updated",{{"id":"5bbb2046","type":"root","token":"{PERMANENT}","mediaProgress":[]}}]"#);
    let expected = format!(r#"42["user_updated",{{"id":"5bbb2046","type":"root","token":{},"mediaProgress":[]}}]"#, empty(PERMANENT));
    assert_eq!(scrubbed(&plan, &text), expected);
}

#[test]
fn an_api_key_of_audiobookshelf_goes_and_its_description_stays() {
    let plan = blank(Kind::Audiobookshelf, Text::Json, &[]);
    let text = format!(r#"{{"apiKey":{{"apiKey":"{ACCESS}","name":"x"}},"apiKeys":["token"]}}"#);
    let expected = format!(r#"{{"apiKey":{{"apiKey":{},"name":"x"}},"apiKeys":["token"]}}"#, empty(ACCESS));
    assert_eq!(scrubbed(&plan, &text), expected);
}

#[test]
fn a_login_of_audiobookshelf_gets_the_key_for_its_own_tokens_and_for_no_others() {
    let plan = login(Kind::Audiobookshelf, Text::Json);
    assert!(!plan.keeps_length());
    let other = PERMANENT.replace("0000", "1111");
    let text = format!(
        r#"{{"user":{{"token":"{PERMANENT}","isOldToken": true,"refreshToken":"{REFRESH}","accessToken":"{ACCESS}"}},"y":{{"refreshToken":null,"token":"{other}","isOldToken":false,"x":"{ACCESS}"}}}}"#
    );
    let expected = format!(
        r#"{{"user":{{"token":"{KEY}","isOldToken": null,"refreshToken":"{KEY}","accessToken":"{KEY}"}},"y":{{"refreshToken":null,"token":{},"isOldToken":false,"x":"{}"}}}}"#,
        empty(&other),
        stars(ACCESS),
    );
    assert_eq!(scrubbed(&plan, &text), expected);
}

#[test]
fn a_playback_info_gets_the_ticket_and_keeps_its_length() {
    let plan = ticket(Kind::Jellyfin, Text::Json);
    assert!(plan.keeps_length());
    let text = |token: &str, other: &str| {
        format!(
            r#"{{"MediaSources":[{{"Id":"4c7ceae610323043b01ae60b4bb38b01","TranscodingUrl":"/videos/4c7ceae6/master.m3u8?DeviceId=d&ApiKey={token}&a=b","MediaStreams":[{{"DeliveryUrl":"/Videos/x/Stream.vtt?ApiKey={token}"}}]}}],"x":"{other}"}}"#
        )
    };
    assert_eq!(scrubbed(&plan, &text(MINE, YOURS)), text(TICKET, &stars(YOURS)));
}

#[test]
fn a_ticket_of_another_length_is_said_beforehand() {
    let own = Own { tokens: vec![secret("a-static/token")], in_urls: Some(secret(TICKET)), ..Own::default() };
    let plan = Plan::new(Text::Json, secrets(Kind::Emby, &["a-static/token"]), own);
    assert!(!plan.keeps_length());
    assert_eq!(
        scrubbed(&plan, r#"{"a":"/x?api_key=a-static/token","b":"/x?api_key=a-static%2Ftoken&c","c":"a-static\/token"}"#),
        format!(r#"{{"a":"/x?api_key={TICKET}","b":"/x?api_key={TICKET}&c","c":"{TICKET}"}}"#)
    );
}

#[test]
fn absolute_urls_to_the_upstream_point_at_keygate() {
    let own = Own { public_origin: Some("https://media.example".to_owned()), ..Own::default() };
    let plan = Plan::new(Text::Json, secrets(Kind::Emby, &[]), own);
    assert!(!plan.keeps_length());
    assert_eq!(
        scrubbed(
            &plan,
            r#"["http://127.0.0.1:8096/videos/1","http://127.0.0.1:80961/x","http:\/\/127.0.0.1:8096\/y","http://127.0.0.1:8096","http://127.0.0.1:809"]"#
        ),
        r#"["https://media.example/videos/1","http://127.0.0.1:80961/x","https://media.example\/y","https://media.example","http://127.0.0.1:809"]"#
    );
}

#[test]
fn devices_and_keys_lose_their_tokens_in_json_and_xml() {
    let plan = blank(Kind::Jellyfin, Text::Json, &[]);
    let text = format!(r#"{{"Items":[{{"AccessToken":"{YOURS}","Id":1}},{{"AccessToken":"","accessToken" :"{MINE}"}}]}}"#);
    let expected =
        format!(r#"{{"Items":[{{"AccessToken":{},"Id":1}},{{"AccessToken":"","accessToken" :{}}}]}}"#, empty(YOURS), empty(MINE));
    assert_eq!(scrubbed(&plan, &text), expected);
    let plan = blank(Kind::Emby, Text::Xml, &[MINE]);
    let text = format!(
        "<Items>\r\n<A><AccessToken>{YOURS}</AccessToken>\n</A><a:AccessToken>x y</a:AccessToken> <AccessTokenX>x</AccessTokenX><AccessToken i:nil=\"true\" /><B x=\"{MINE}\">{MINE}</B></Items>"
    );
    let expected = format!(
        "<Items>\r\n<A><AccessToken>{}</AccessToken>\n</A><a:AccessToken>   </a:AccessToken> <AccessTokenX>x</AccessTokenX><AccessToken i:nil=\"true\" /><B x=\"{}\">{}</B></Items>",
        " ".repeat(32),
        stars(MINE),
        stars(MINE)
    );
    assert_eq!(scrubbed(&plan, &text), expected);
}

#[test]
fn a_login_in_xml_gets_the_key() {
    let plan = login(Kind::Emby, Text::Xml);
    assert_eq!(
        scrubbed(&plan, &format!("<R><AccessToken>{MINE}</AccessToken><AccessToken>{YOURS}</AccessToken></R>")),
        format!("<R><AccessToken>{KEY}</AccessToken><AccessToken>{}</AccessToken></R>", " ".repeat(32))
    );
}

#[test]
fn plain_texts_are_searched_by_value() {
    let plan = ticket(Kind::Jellyfin, Text::Plain);
    assert_eq!(
        scrubbed(&plan, &format!("WEBVTT\n\n{YOURS}{MINE} \"AccessToken\":\"x\"")),
        format!("WEBVTT\n\n{}{TICKET} \"AccessToken\":\"x\"", stars(YOURS))
    );
}

#[test]
fn spellings_that_only_a_decoder_sees_are_a_leak() {
    let json = blank(Kind::Jellyfin, Text::Json, &[MINE]);
    let books = blank(Kind::Audiobookshelf, Text::Json, &[]);
    let xml = blank(Kind::Emby, Text::Xml, &[MINE]);
    for (plan, text) in [
        (&json, MINE.replacen('a', "%61", 1)),
        (&json, MINE.replace('0', "\\u0030")),
        (&json, MINE.bytes().map(|byte| format!("%{byte:02x}")).collect()),
        (&json, format!("%33{}", MINE.replacen('6', "%36", 1))),
        (&books, ACCESS.replacen('.', "%2E", 1)),
        (&books, ACCESS.replacen('e', "\\u0065", 1)),
        (&xml, MINE.replacen('d', "&#100;", 1)),
        (&xml, MINE.replacen('d', "&#x64;", 1)),
    ] {
        let text = format!("{{\"a\":\"/x?y={text}&z\",\"b\":\"%20%2F\\u4e2d\\n\"}}");
        for place in 0..text.len() {
            assert_eq!(chunked(plan, text.as_bytes(), &[place]), Err(Leak::Spelling), "{text} cut at {place}");
        }
        let everywhere: Vec<_> = (0..text.len()).collect();
        assert_eq!(chunked(plan, text.as_bytes(), &everywhere), Err(Leak::Spelling), "{text}");
    }
}

#[test]
fn escapes_that_hide_nothing_stay() {
    let plan = blank(Kind::Jellyfin, Text::Json, &[MINE]);
    let text = r#"{"a":"%61%62%3","b":"\u0061\u4e2d\/\\u00","c":"100%","d":"&#97;","e":"%"#;
    assert_eq!(scrubbed(&plan, text), text);
}

#[test]
fn what_only_looks_like_a_jwt_stays() {
    let plan = blank(Kind::Audiobookshelf, Text::Json, &[]);
    for text in ["eyJ", "eyJhbGci.eyK", "eyJhbGci", "xeyJeyJeyJ.a", "\"eyJ", "eyJhbGci."] {
        assert_eq!(scrubbed(&plan, text), text);
    }
    let long = format!("\"{}\"", "eyJ0".repeat(2000));
    assert_eq!(whole(&plan, long.as_bytes()).expect("no leak"), long.as_bytes());
}

#[test]
fn a_clean_chunk_is_not_copied_and_holds_nothing_back() {
    let mut scrubber = Scrubber::new(Arc::new(ticket(Kind::Jellyfin, Text::Json)));
    let chunk = Bytes::from_static(br#"{"Id":"4c7ceae610323043b01ae60b4bb38b01"}"#);
    let out = scrubber.push(chunk.clone()).expect("no leak");
    assert_eq!((out.as_ptr(), out.len()), (chunk.as_ptr(), chunk.len()));
    assert_eq!(scrubber.held(), 0);
    assert!(size_of::<Scrubber>() <= 48, "{}", size_of::<Scrubber>());
}

#[test]
fn urls_in_headers_point_at_keygate_and_carry_the_clients_credential() {
    let plan = ticket(Kind::Jellyfin, Text::Plain);
    for (value, expected) in [
        ("/web/".to_owned(), "/web/".to_owned()),
        (format!("{ORIGIN}/a?ApiKey={MINE}&b=1#f"), format!("/a?ApiKey={TICKET}&b=1#f")),
        ("HTTP://127.0.0.1:8096".to_owned(), "/".to_owned()),
        (format!("//127.0.0.1:8096?api%5Fkey={YOURS}&X-Emby-Token=x"), format!("/?ApiKey={TICKET}")),
        (format!("https://elsewhere.example/?a={YOURS}"), format!("https://elsewhere.example/?a={}", stars(YOURS))),
        (format!("https://elsewhere.example/?a={MINE}"), format!("https://elsewhere.example/?a={}", stars(MINE))),
        (format!("{ORIGIN}1/?a"), format!("{ORIGIN}1/?a")),
        (format!("/x/{YOURS}"), format!("/x/{}", stars(YOURS))),
    ] {
        let out = plan.location(value.as_bytes()).expect("no leak");
        assert_eq!(String::from_utf8_lossy(&out), expected, "{value}");
    }
    let plan = blank(Kind::Jellyfin, Text::Plain, &[]);
    assert_eq!(&*plan.location(b"/a?api_key=x").expect("no leak"), b"/a");
    assert_eq!(&*plan.location(b"/a?api_key=x&b").expect("no leak"), b"/a?b");
    assert!(matches!(plan.header(b"0; url=/a?b=c"), Ok(Cow::Borrowed(_))));
    let plan = blank(Kind::Audiobookshelf, Text::Plain, &[]);
    assert_eq!(
        &*plan.header(format!("refresh_token={REFRESH}; Path=/").as_bytes()).expect("no leak"),
        format!("refresh_token={}; Path=/", stars(REFRESH)).as_bytes()
    );
    let public = Own { public_origin: Some("https://media.example".to_owned()), ..Own::default() };
    let plan = Plan::new(Text::Plain, secrets(Kind::Emby, &[]), public);
    assert_eq!(&*plan.location(format!("{ORIGIN}/web?x").as_bytes()).expect("no leak"), b"https://media.example/web?x");
}

#[test]
fn a_credential_that_begins_with_another_one_goes_whole() {
    let plan = blank(Kind::Emby, Text::Plain, &["static-token", "static-token-of-bob"]);
    assert_eq!(scrubbed(&plan, "a static-token-of-bob, static-token-of-ann"), format!("a {}, {}-of-ann", "*".repeat(19), "*".repeat(12)));
}
