//! What a client calls itself, short enough for a table and without what could be a credential.

use crate::redact::Redacted;

/// Longest name that is kept, in characters.
const LONGEST: usize = 40;
/// What browsers call themselves, the more telling first: each of them also claims to be some of those below it.
const BROWSERS: [&str; 6] = ["Firefox/", "Edg/", "OPR/", "Chromium/", "Chrome/", "Safari/"];

/// The product of a `User-Agent` (RFC 9110, section 10.1.5): `Kodi/20.2`, `Firefox/128.0`. Empty where there is none.
pub fn short(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let product = if text.starts_with("Mozilla/") { browser(&text) } else { text.split('(').next().unwrap_or_default() };
    let printable: String = Redacted(product.trim()).to_string();
    printable.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect::<String>().trim_end().to_owned()
}

fn browser(text: &str) -> &str {
    let known = BROWSERS.iter().find_map(|name| text.split(' ').find(|word| word.starts_with(name)));
    known.unwrap_or_else(|| text.split(' ').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_product_stays_and_the_rest_goes() {
        for (agent, shown) in [
            ("Kodi/20.2 (X11; Linux x86_64) App_Bitness/64", "Kodi/20.2"),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox/128.0"),
            ("Mozilla/5.0 (Windows) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0", "Edg/126.0"),
            ("HomeAssistant/2026.1 aiohttp/3.9 Python/3.12", "HomeAssistant/2026.1 aiohttp/3.9 Python/"),
            ("", ""),
            ("Mozilla/5.0", "Mozilla/5.0"),
        ] {
            assert_eq!(short(agent.as_bytes()), shown);
        }
        assert_eq!(short(b"app?api_key=hunter2"), "app?api_key=***");
    }

    proptest! {
        #[test]
        fn it_is_short_and_printable_whatever_comes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let shown = short(&bytes);
            prop_assert!(shown.chars().count() <= LONGEST && !shown.chars().any(char::is_control));
        }
    }
}
