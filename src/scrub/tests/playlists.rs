//! Playlists.

use super::*;

fn rewritten(text: &str) -> String {
    let plan = ticket(Kind::Jellyfin, Text::Playlist);
    assert!(!plan.keeps_length());
    scrubbed(&plan, text)
}

#[test]
fn every_line_of_the_upstreams_own_has_one_credential() {
    for (line, expected) in [
        // None yet.
        ("hls1/main/0.ts", "hls1/main/0.ts?ApiKey=T"),
        ("/Videos/1/hls1/x/0.ts?runtimeTicks=0&a=%41", "/Videos/1/hls1/x/0.ts?runtimeTicks=0&a=%41&ApiKey=T"),
        ("0.ts?", "0.ts?ApiKey=T"),
        ("0.ts?a&", "0.ts?a&ApiKey=T"),
        ("0.ts#f?x", "0.ts?ApiKey=T#f?x"),
        ("0.ts?a=1#f", "0.ts?a=1&ApiKey=T#f"),
        ("?a=1", "?a=1&ApiKey=T"),
        ("../a:b.ts", "../a:b.ts?ApiKey=T"),
        // One of any spelling, or several.
        ("0.ts?api_key=M", "0.ts?ApiKey=T"),
        ("0.ts?ApiKey=M&a=1", "0.ts?ApiKey=T&a=1"),
        ("0.ts?a=1&X-Emby-Token=whatever&b=2", "0.ts?a=1&ApiKey=T&b=2"),
        ("0.ts?a&api%5Fkey=x&b&API_KEY=y&%61pikey[]=z&c", "0.ts?a&ApiKey=T&b&c"),
        ("0.ts?api_key", "0.ts?ApiKey=T"),
        ("0.ts?token=x&access_token=y", "0.ts?ApiKey=T"),
        ("0.ts?myapi_key=x", "0.ts?myapi_key=x&ApiKey=T"),
        // Absolute, to the upstream.
        ("http://127.0.0.1:8096/v/0.ts?ApiKey=M", "/v/0.ts?ApiKey=T"),
        ("HTTP://127.0.0.1:8096", "/?ApiKey=T"),
        ("//127.0.0.1:8096/v/0.ts", "/v/0.ts?ApiKey=T"),
        // To others.
        ("https://tv.example/0.ts?token=theirs", "https://tv.example/0.ts?token=theirs"),
        ("https://tv.example/0.ts?x=Y", "https://tv.example/0.ts?x=********************************"),
        ("https://tv.example/0.ts?x=M", "https://tv.example/0.ts?x=********************************"),
        (r#"#EXT-X-KEY:URI="//tv.example/?x=M""#, r#"#EXT-X-KEY:URI="//tv.example/?x=********************************""#),
        ("//tv.example/0.ts", "//tv.example/0.ts"),
        ("/\\tv.example/0.ts", "/\\tv.example/0.ts"),
        ("http://127.0.0.1:80961/0.ts", "http://127.0.0.1:80961/0.ts"),
        ("http://127.0.0.1:8096@tv.example/0.ts", "http://127.0.0.1:8096@tv.example/0.ts"),
        ("data:text/plain,x", "data:text/plain,x"),
        // No URLs.
        ("#EXTINF:6.000000,", "#EXTINF:6.000000,"),
        ("#EXTINF:6,URL=\"x\"", "#EXTINF:6,URL=\"x\""),
        ("# URI=\"x\"", "# URI=\"x\""),
        ("# M", "# T"),
        ("", ""),
        ("  ", "  "),
        // In tags.
        (
            r#"#EXT-X-MEDIA:TYPE=SUBTITLES,URI="a/Subtitles.m3u8?SegmentLength=30&ApiKey=M",LANGUAGE="eng""#,
            r#"#EXT-X-MEDIA:TYPE=SUBTITLES,URI="a/Subtitles.m3u8?SegmentLength=30&ApiKey=T",LANGUAGE="eng""#,
        ),
        (r#"#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0x1"#, r#"#EXT-X-KEY:METHOD=AES-128,URI="key?ApiKey=T",IV=0x1"#),
        (r#"#EXT-X-KEY:METHOD=X,URI="data:text/plain;base64,AA==""#, r#"#EXT-X-KEY:METHOD=X,URI="data:text/plain;base64,AA==""#),
        (r#"#EXT-X-MAP:URI="a",B="URI=",X-ASSET-URI="b""#, r#"#EXT-X-MAP:URI="a?ApiKey=T",B="URI=",X-ASSET-URI="b?ApiKey=T""#),
    ] {
        let given = |text: &str| {
            // The one-letter names stand for values: after `=`, or alone in a comment.
            let mut out = text.to_owned();
            for (short, long) in [("=M", MINE), ("=T", TICKET), ("=Y", YOURS), ("# M", MINE), ("# T", TICKET)] {
                let ends = |rest: &str| rest.chars().next().is_none_or(|next| "&#\"".contains(next));
                while let Some(at) = out.match_indices(short).map(|(at, _)| at).find(|at| ends(&out[at + short.len()..])) {
                    out.replace_range(at + short.len() - 1..at + short.len(), long);
                }
            }
            out
        };
        for end in ["\n", "\r\n"] {
            let playlist = |line: &str| format!("\u{feff}#EXTM3U{end}{line}{end}#EXT-X-ENDLIST");
            assert_eq!(rewritten(&playlist(&given(line))), playlist(&given(expected)), "{line}");
        }
        assert_eq!(rewritten(&given(line)), given(expected), "{line} alone");
        assert_eq!(rewritten(&format!("\u{feff}{}", given(line))), format!("\u{feff}{}", given(expected)), "{line} after a mark");
    }
}

#[test]
fn the_parameter_is_named_as_each_kind_names_it() {
    assert_eq!(scrubbed(&ticket(Kind::Emby, Text::Playlist), "0.ts"), format!("0.ts?api_key={TICKET}"));
    // Audiobookshelf's segments are capability URLs.
    assert_eq!(scrubbed(&ticket(Kind::Audiobookshelf, Text::Playlist), "/hls/1/output-0.ts\n"), "/hls/1/output-0.ts\n");
}

#[test]
fn without_a_credential_to_give_there_is_none() {
    let plan = blank(Kind::Jellyfin, Text::Playlist, &[MINE]);
    assert_eq!(
        scrubbed(&plan, &format!("0.ts?ApiKey={MINE}\n1.ts?a=1&ApiKey=x\n2.ts?\n/{MINE}/3.ts")),
        format!("0.ts\n1.ts?a=1\n2.ts?\n/{}/3.ts", "*".repeat(32))
    );
}

#[test]
fn a_rewritten_playlist_stays_as_it_is() {
    let text = "#EXTM3U\n#EXTINF:6,\nhls1/0.ts?a=1\nhttp://127.0.0.1:8096/1.ts\n#EXT-X-KEY:URI=\"k\"";
    let once = rewritten(text);
    assert_eq!(rewritten(&once), once);
}

#[test]
fn a_line_that_is_too_long_is_refused_however_it_comes() {
    let plan = ticket(Kind::Jellyfin, Text::Playlist);
    let fits = format!("#{}\n", "x".repeat(65_534));
    assert_eq!(whole(&plan, fits.as_bytes()).expect("fits"), fits.as_bytes());
    let long = format!("#{}", "x".repeat(65_536));
    for places in [&[][..], &[7, 40_000], &[65_536]] {
        assert_eq!(chunked(&plan, long.as_bytes(), places), Err(Leak::LongLine));
    }
}
