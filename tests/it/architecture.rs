//! The house rules that no compiler holds: who may mention whom (`src/lib.rs`), where tasks are spawned, how files begin and how long
//! they get. The sources are read as text; comments and unit tests do not count as mentions.

use std::fs;
use std::path::Path;

/// Longest a source file may be, in lines; tests beside the code, in files of their own, may be a little longer.
const MAX_LINES: usize = 500;
const MAX_TEST_LINES: usize = 600;

/// Rooms (files or folders below `src`) and words that must not stand in them.
const RULES: &[(&[&str], &[&str])] = &[
    // L0 and L1 are pure.
    (
        &["secret.rs", "clock.rs", "redact.rs", "lifeline.rs", "target/", "keys/", "carrier/", "policy/", "scrub/", "upstream/dialect/"],
        &["tokio::", "tokio_util::", "tokio_rustls::", "hyper::", "hyper_util::", "redb::", "tracing::", "std::fs", "std::net::Tcp"],
    ),
    (&["secret.rs", "clock.rs"], &["crate::"]),
    // The redactor decodes names as the carriers do, and knows nothing else.
    (&["redact.rs"], &["crate::upstream", "crate::gateway", "crate::forward", "crate::policy", "crate::store", "crate::config"]),
    // Carriers and placements are different axes.
    (&["carrier/"], &["crate::upstream", "crate::gateway", "crate::forward", "crate::policy", "crate::registry", "crate::store"]),
    (&["upstream/dialect/"], &["crate::carrier", "crate::gateway", "crate::forward", "crate::policy", "crate::registry", "crate::store"]),
    (
        &["scrub/"],
        &[
            "crate::upstream::session",
            "crate::gateway",
            "crate::forward",
            "crate::policy",
            "crate::registry",
            "crate::store",
            "crate::config",
        ],
    ),
    (&["target/"], &["crate::upstream", "crate::gateway", "crate::forward", "crate::policy", "crate::store", "crate::config"]),
    (&["keys/"], &["crate::upstream::session", "crate::gateway", "crate::forward", "crate::server", "crate::registry"]),
    // The request path never touches the store.
    (
        &["gateway/", "forward/", "server/"],
        &["redb::", "dyn Store", "store::memory", "store::redb", "crate::registry", "crate::admin", "crate::cli"],
    ),
    (&["store/"], &["crate::gateway", "crate::server", "crate::forward", "crate::registry", "crate::admin", "crate::cli", "hyper::"]),
    // Whatever opens media without a key is decided without knowing what a request is.
    (
        &["handouts/"],
        &[
            "crate::carrier",
            "crate::gateway",
            "crate::forward",
            "crate::policy",
            "crate::registry",
            "crate::server",
            "crate::app",
            "hyper::",
            "redb::",
        ],
    ),
    (&["upstream/", "registry/", "config/"], &["crate::admin", "crate::cli", "crate::app"]),
    // Certificates come from files and clocks, or by ACME over the network, and go to whoever shakes hands.
    (
        &["certificates/"],
        &["crate::gateway", "crate::forward", "crate::server", "crate::registry", "crate::admin", "crate::cli", "crate::app", "redb::"],
    ),
    (
        &[
            "certificates/mod.rs",
            "certificates/challenges.rs",
            "certificates/facts.rs",
            "certificates/kept.rs",
            "certificates/local.rs",
            "certificates/names.rs",
            "certificates/served.rs",
        ],
        &["dyn Store", "store::redb", "store::memory", "tokio::", "hyper::", "instant_acme::"],
    ),
    (&["certificates/acme/schedule.rs", "certificates/acme/held.rs"], &["tokio::", "hyper::", "dyn Store"]),
    (&["config/"], &["crate::certificates"]),
    // Checks are data: who asks for them and who prints them is not their business.
    (&["doctor/"], &["crate::admin", "crate::cli", "crate::app", "dyn Store", "store::redb"]),
    // Counts are made for whoever reads them, and know nobody of them.
    (
        &["usage/"],
        &[
            "crate::gateway",
            "crate::forward",
            "crate::server",
            "crate::registry",
            "crate::admin",
            "crate::cli",
            "crate::app",
            "hyper::",
            "redb::",
            "store::redb",
        ],
    ),
    // Nobody's secret has a way into a span, and what sends them is asked by nobody.
    (
        &["telemetry/"],
        &["crate::secret", "crate::carrier", "crate::registry", "crate::admin", "crate::cli", "crate::app", "dyn Store", "redb::"],
    ),
    // What the audit log says is made from records, and no secret has a way into it.
    (
        &["audit/"],
        &[
            "crate::secret",
            "crate::gateway",
            "crate::forward",
            "crate::server",
            "crate::registry",
            "crate::admin",
            "crate::cli",
            "crate::app",
            "tokio::",
            "hyper::",
            "redb::",
            "tracing::",
        ],
    ),
    // The page asks the desk of the admin room, which asks everybody else; nobody but the command line knows the page.
    (
        &["page/"],
        &[
            "crate::registry",
            "crate::store",
            "crate::upstream",
            "crate::gateway",
            "crate::forward",
            "crate::server",
            "crate::policy",
            "crate::config",
            "crate::cli",
            "tokio::",
            "PreEscaped",
        ],
    ),
    (&["admin/", "gateway/", "forward/", "server/"], &["crate::page"]),
    // Stand-ins know nothing of the gateway that they test.
    (
        &["demo/"],
        &[
            "crate::gateway",
            "crate::forward",
            "crate::carrier",
            "crate::server",
            "crate::registry",
            "crate::upstream::dialect",
            "crate::upstream::session",
        ],
    ),
];

/// Words that may stand in some files only.
const ONLY_IN: &[(&str, &[&str])] = &[
    // `store/mod.rs` means its own module of that name.
    ("redb::", &["store/mod.rs", "store/redb.rs", "store/redb/"]),
    // Keys and accounts are changed where the audit log hears of it.
    ("Change::PutKey", &["registry/", "store/"]),
    ("Change::PutAccount", &["registry/", "store/", "upstream/session/"]),
    ("Change::RemoveAccount", &["registry/", "store/", "upstream/session/"]),
    ("tokio::spawn(", &[]),
    ("tokio::task::spawn(", &[]),
    ("task::spawn_local(", &["server/drain.rs"]),
    ("LocalSet", &["server/"]),
    // Work of the operator's side and of the end of the program, each awaited where it begins.
    ("task::spawn_blocking(", &["server/drain.rs", "admin/", "cli/", "certificates/acme/"]),
    // What ACME servers say stays there.
    ("instant_acme::", &["certificates/acme/"]),
    ("std::process::exit", &["cli/", "main.rs"]),
    ("SystemTime::now", &["clock.rs"]),
    ("#[allow(", &[]),
    ("unsafe ", &[]),
    ("todo!(", &[]),
];

/// The code of a file: without comments, and without the unit tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Whether a word stands in the code by itself: `redb::` is not in `super::redb::` nor in `crate::store::redb::`.
fn mentions(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let is_path_from_crate = word.starts_with("crate::");
        !before.is_some_and(|before| {
            before.is_alphanumeric() || before == '_' || (before == ':' && !is_path_from_crate && word.ends_with("::"))
        })
    })
}

fn is_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| if place.ends_with('/') { path.starts_with(place) } else { path == *place })
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// What is wrong with a file.
fn faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > if is_test(path) { MAX_TEST_LINES } else { MAX_LINES } {
        faults.push(format!("{path} has {lines} lines"));
    }
    if !text.starts_with("//! ") {
        faults.push(format!("{path} does not begin with //!"));
    }
    if is_test(path) {
        return faults;
    }
    let code = code(text);
    for (rooms, words) in RULES.iter().filter(|(rooms, _)| is_in(path, rooms)) {
        for word in words.iter().filter(|word| mentions(&code, word)) {
            faults.push(format!("{path} mentions {word}, which {rooms:?} must not"));
        }
    }
    for (word, places) in ONLY_IN.iter().filter(|(word, places)| !is_in(path, places) && mentions(&code, word)) {
        faults.push(format!("{path} mentions {word}, which belongs in {places:?}"));
    }
    faults
}

fn sources(folder: &Path, below: &str, found: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            sources(&entry.path(), &format!("{name}/"), found);
        } else if name.ends_with(".rs") {
            found.push((name, fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

#[test]
fn the_house_is_as_its_map_says() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    assert!(found.len() > 100, "{}", found.len());
    let faults: Vec<_> = found.iter().flat_map(|(path, text)| faults(path, text)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    // A rule about a room that is gone holds nothing.
    for room in RULES.iter().flat_map(|(rooms, _)| *rooms).chain(ONLY_IN.iter().flat_map(|(_, places)| *places)) {
        assert!(found.iter().any(|(path, _)| is_in(path, &[room])), "there is no {room}");
    }
}

#[test]
fn each_rule_can_be_broken() {
    for (rooms, words) in RULES {
        for room in *rooms {
            let path = if room.ends_with('/') { format!("{room}x.rs") } else { (*room).to_owned() };
            for word in *words {
                assert!(!faults(&path, &format!("//! x\nuse {word}x;\n")).is_empty(), "{path} {word}");
            }
        }
    }
    for (word, places) in ONLY_IN {
        assert!(!faults("elsewhere/x.rs", &format!("//! x\nfn x() {{ {word}x); }}\n")).is_empty(), "{word}");
        for place in *places {
            let path = if place.ends_with('/') { format!("{place}x.rs") } else { (*place).to_owned() };
            let found = faults(&path, &format!("//! x\nfn x() {{ {word}x); }}\n"));
            assert!(found.iter().all(|fault| !fault.contains("belongs in")), "{found:?}");
        }
    }
    assert!(!faults("x.rs", "use x;\n").is_empty());
    assert!(!faults("x.rs", &format!("//! x\n{}", "\n".repeat(MAX_LINES))).is_empty());
    assert!(!faults("x/tests.rs", &format!("//! x\n{}", "\n".repeat(MAX_TEST_LINES))).is_empty());
}

#[test]
fn comments_unit_tests_and_rooms_of_the_same_name_are_no_mentions() {
    for text in [
        "//! tokio::x\n/// [`tokio::x`]\nfn a() {} // tokio::spawn(x)\n",
        "//! x\nuse crate::redb::x;\n",
        "//! x\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    use tokio::x;\n}\n",
    ] {
        assert_eq!(faults("target/x.rs", text), Vec::<String>::new(), "{text}");
    }
}
