//! `[traces]`: where spans go, how many, and what shows the collector who sends them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{UPSTREAM, assert_says, environment, message, read, read_with};
use crate::config::source::SecretSource;
use crate::config::{Config, Outside, Share, Traces};

fn traces(lines: &str) -> Option<Traces> {
    read(&format!("[traces]\n{lines}\n{UPSTREAM}")).unwrap().traces
}

fn warnings(lines: &str) -> String {
    read_with(&format!("[traces]\n{lines}\n{UPSTREAM}"), &[]).unwrap().1.join("\n")
}

#[test]
fn there_are_none_until_a_collector_is_named() {
    assert_eq!(read(UPSTREAM).unwrap().traces, None);
    assert_eq!(traces("endpoint = \"\"\nsample = 1\nheaders = { file = \"/nowhere\" }"), None);
    let of_default = traces("endpoint = \"http://127.0.0.1:4318\"").unwrap();
    assert_eq!((of_default.sample.millionths(), of_default.endpoint.to_string()), (100_000, "http://127.0.0.1:4318/v1/traces".to_owned()));
    assert!(of_default.endpoint.tls.is_none() && of_default.headers.is_none());
    assert!(traces("endpoint = \"https://otlp.example.org\"").unwrap().endpoint.tls.is_some());
}

#[test]
fn a_share_is_a_number_from_none_to_all() {
    for (text, share) in [("0", 0), ("1", 1_000_000), ("0.25", 250_000), ("1.0", 1_000_000), ("0.000001", 1), ("1e-3", 1000)] {
        let found = traces(&format!("endpoint = \"http://x\"\nsample = {text}")).unwrap();
        assert_eq!(found.sample.millionths(), share, "{text}");
    }
    for wrong in ["1.5", "-0.1", "10", "nan", "inf", "\"half\"", "true"] {
        let text = message(&format!("[traces]\nsample = {wrong}\n{UPSTREAM}"));
        assert_says(&text, &["traces.sample must be a number from 0 to 1", "config.toml:2:10", "0.1 for one in ten"]);
    }
    let variables = [("KEYGATE_TRACES__ENDPOINT", "http://x"), ("KEYGATE_TRACES__SAMPLE", "0.5"), ("KEYGATE_TRACES__HEADERS__ENV", "H")];
    let found = read_with(UPSTREAM, &variables).unwrap().0.traces.unwrap();
    assert_eq!((found.sample.to_string(), found.headers), ("50 %".to_owned(), Some(SecretSource::Env("H".to_owned()))));
    assert_eq!(Share::ALL.to_string(), "100 %");
}

#[test]
fn a_wrong_endpoint_is_told_with_what_to_write() {
    for (endpoint, parts) in [
        ("127.0.0.1:4318", ["is not a URL", "http://127.0.0.1:4318"]),
        ("grpc://x:4317", ["is not an http or https address", "http://127.0.0.1:4318"]),
        ("https://ann:hunter2@x", ["holds a user name or password", "headers = { file = "]),
        ("https://x/?token=hunter2", ["has a query or a fragment", "end the address"]),
    ] {
        let text = message(&format!("[traces]\nendpoint = \"{endpoint}\"\n{UPSTREAM}"));
        assert_says(&text, &["traces.endpoint", "config.toml:2:12"]);
        assert_says(&text, &parts);
    }
    assert_says(&warnings("endpoint = \"http://x:4317\""), &["gRPC", "4318"]);
    let clear = "endpoint = \"http://collector.lan\"\nheaders = { file = \"/h\" }";
    assert_says(&warnings(clear), &["traces.headers travel in clear text to collector.lan", "https://"]);
    for quiet in ["endpoint = \"http://collector.lan\"", "endpoint = \"http://[::1]:4318\"\nheaders = { file = \"/h\" }"] {
        assert_eq!(warnings(quiet), "");
    }
    assert_says(&warnings("endpoint = \"http://localhost\"\nheaders = { env = \"H\" }"), &["environment variable H"]);
}

#[test]
fn headers_are_lines_of_a_file_and_nothing_of_them_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("headers");
    let look = |lines: &str| {
        std::fs::write(&file, lines).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(folder.path().join("master.key"), "").unwrap();
        let text = format!(
            "[store]\npath = \"none\"\nmaster_key = {{ file = \"no\" }}\n[traces]\nendpoint = \"http://[::1]\"\nheaders = {{ file = \"headers\" }}\n{UPSTREAM}"
        );
        Config::read(&folder.path().join("config.toml"), &text, &environment(&[]), Outside::Look).map_err(|problems| problems.to_string())
    };
    let (config, _) = look("Authorization: Bearer hunter2\r\nX-A: b\n\n").unwrap();
    let headers = config.traces.unwrap().read_headers().unwrap();
    assert_eq!((headers.len(), headers["authorization"].to_str().unwrap(), &headers["x-a"]), (2, "Bearer hunter2", &"b".parse().unwrap()));
    assert!(!format!("{headers:?}").contains("hunter2"));
    for (lines, says) in [
        ("X-A: b\nhunter2", "line 2 is not \"Name: value\""),
        ("hunter 2: x", "line 1 is not"),
        ("Host: hunter2", "line 1 sets host, which keygate sets itself"),
        ("\n", "is empty"),
    ] {
        let text = look(lines).unwrap_err();
        assert_says(&text, &["traces.headers: ", says, "lines like"]);
        assert!(!text.contains("hunter"), "{text}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(!Path::new(&file).exists());
}
