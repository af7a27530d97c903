//! What scrubbing costs: MB/s of one core over texts as media servers write them. `cargo bench --bench scrub`.

use std::hint::black_box;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use keygate::scrub::{Own, Plan, Scrubber, Secrets, Text};
use keygate::secret::Secret;
use keygate::upstream::Kind;

/// Length of each text, and of the chunks in which it comes, in bytes.
const LENGTH: usize = 5_000_000;
const CHUNK: usize = 64 * 1024;
const ROUNDS: usize = 40;

/// A small generator, so that each run measures the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn hexadecimal(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }

    fn letters(&mut self, count: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..count).map(|_| char::from(LETTERS[usize::try_from(self.next() % 64).unwrap_or_default()])).collect()
    }

    fn jwt(&mut self) -> String {
        format!("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VySWQi{}.{}", self.letters(200), self.letters(43))
    }
}

fn repeated(mut piece: impl FnMut(usize) -> String) -> Bytes {
    let mut text = String::with_capacity(LENGTH + 4096);
    text.push_str("{\"Items\":[");
    let mut count = 0;
    while text.len() < LENGTH {
        text.push_str(&piece(count));
        text.push(',');
        count += 1;
    }
    text.push_str("null]}");
    Bytes::from(text)
}

/// As Jellyfin's `/Items`.
fn items(random: &mut Random, title: &str) -> Bytes {
    repeated(|count| {
        format!(
            r#"{{"Name":"{title} {count}","ServerId":"515ea3f6137f4{0}","Id":"{1}","HasSubtitles":true,"Container":"mkv","PremiereDate":"2020-05-01T00:00:00.0000000Z","CriticRating":91,"OfficialRating":"PG-13","ChannelId":null,"CommunityRating":7.4,"RunTimeTicks":72000000000,"ProductionYear":2020,"VideoType":"VideoFile","ImageTags":{{"Primary":"{2}","Logo":"{3}","Thumb":"{4}"}},"BackdropImageTags":["{5}"],"ImageBlurHashes":{{"Backdrop":{{"{5}":"WB8gQ]WB00j[~qayIUj[Rjj[Rjay%MayRjj["}}}},"LocationType":"FileSystem","MediaType":"Video","UserData":{{"PlaybackPositionTicks":0,"PlayCount":0,"IsFavorite":false,"Played":false,"Key":"tt{count}","ItemId":"{1}"}}}}"#,
            &random.hexadecimal()[..19],
            random.hexadecimal(),
            random.hexadecimal(),
            random.hexadecimal(),
            random.hexadecimal(),
            random.hexadecimal()
        )
    })
}

/// As Audiobookshelf's `/api/libraries/<id>/items`.
fn books(random: &mut Random) -> Bytes {
    repeated(|count| {
        let id = random.hexadecimal();
        format!(
            r#"{{"id":"{}-{}-4aa7","ino":"{count}","path":"/srv/books/Author {count}/Title","relPath":"Author/Title","mtimeMs":1795303100301,"isMissing":false,"mediaType":"book","media":{{"id":"{id}","metadata":{{"title":"Title {count}","subtitle":null,"publishedYear":"1999","publisher":"Publisher","description":"A description of some length, with words and \"quotes\" in it.","isbn":null,"language":"English","explicit":false,"authorName":"Author {count}"}},"coverPath":"/srv/books/cover.jpg","tags":["fantasy"],"numTracks":12,"duration":43210.5,"size":741233000,"ebookFormat":null}},"numFiles":14,"size":741233900}}"#,
            &id[..8],
            &id[8..12]
        )
    })
}

fn devices(random: &mut Random) -> Bytes {
    repeated(|count| {
        format!(
            r#"{{"Name":"Device {count}","AccessToken":"{}","Id":"{}","LastUserName":"bob","AppName":"x"}}"#,
            random.hexadecimal(),
            random.hexadecimal()
        )
    })
}

fn scrub(plan: &Arc<Plan>, text: &Bytes) -> usize {
    let mut scrubber = Scrubber::new(plan.clone());
    let mut length = 0;
    let mut at = 0;
    while at < text.len() {
        let end = text.len().min(at + CHUNK);
        length += scrubber.push(black_box(text.slice(at..end))).map_or(0, |out| black_box(out).len());
        at = end;
    }
    length + scrubber.finish().map_or(0, |out| out.len())
}

#[expect(clippy::disallowed_methods, reason = "what is measured here is time itself")]
fn measure(out: &mut impl Write, name: &str, text: &Bytes, mut work: impl FnMut() -> usize) -> io::Result<()> {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        black_box(work());
        best = best.min(begin.elapsed().as_secs_f64());
    }
    let speed = text.len() as f64 / 1e6 / best;
    writeln!(out, "{name:<58} {speed:>8.0} MB/s")
}

fn plan(kind: Kind, values: &[String]) -> Arc<Plan> {
    let values: Vec<_> = values.iter().map(|value| Secret::from(value.as_str())).collect();
    let own = Own { tokens: values[..1].to_vec(), in_urls: Some(Secret::from("kgt_AAAABBBBCCCCDDDDEEEEFFFFGGGG")), ..Own::default() };
    Arc::new(Plan::new(Text::Json, Arc::new(Secrets::new(kind, &values, &["http://127.0.0.1:8096".to_owned()])), own))
}

fn main() -> io::Result<()> {
    let random = &mut Random(0x9e37_79b9_7f4a_7c15);
    let mut out = io::stdout();
    let tokens: Vec<_> = (0..1000).map(|_| random.hexadecimal()).collect();
    let jwts: Vec<_> = (0..40).map(|_| random.jwt()).collect();
    let items_text = items(random, "Movie");
    let mut copy = vec![0; LENGTH + 8192];
    measure(&mut out, "copy in memory", &items_text, || {
        copy[..items_text.len()].copy_from_slice(black_box(&items_text));
        black_box(&copy).len()
    })?;
    for count in [1, 30, 100, 1000] {
        let plan = plan(Kind::Jellyfin, &tokens[..count]);
        measure(&mut out, &format!("Jellyfin, /Items, {count} tokens"), &items_text, || scrub(&plan, &items_text))?;
    }
    let thirty = plan(Kind::Jellyfin, &tokens[..30]);
    for (name, text) in [
        ("Jellyfin, /Items with escaped titles, 30 tokens", items(random, "\\u4E2D\\u6587\\u7535\\u5F71 &amp; x%20y")),
        ("Jellyfin, /Devices, 30 tokens", devices(random)),
        ("Jellyfin, nothing but ids, 30 tokens", repeated(|_| format!("\"{}\"", random.hexadecimal()))),
        ("Jellyfin, nothing but its own tokens, 30 tokens", repeated(|count| format!("\"{}\"", tokens[count % 30]))),
        (
            "Jellyfin, with one letter escaped per chunk, 30 tokens",
            repeated(|count| if count % 800 == 0 { "\"%61\"".to_owned() } else { "\"an ordinary text\"".to_owned() }),
        ),
    ] {
        measure(&mut out, name, &text, || scrub(&thirty, &text))?;
    }
    let forty = plan(Kind::Audiobookshelf, &jwts);
    for (name, text) in [
        ("Audiobookshelf, /items, 10 accounts of 4 JWTs", books(random)),
        ("Audiobookshelf, nothing but JWTs", repeated(|count| format!("\"{}\"", jwts[count % 40]))),
    ] {
        measure(&mut out, name, &text, || scrub(&forty, &text))?;
    }
    Ok(())
}
