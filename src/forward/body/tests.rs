//! Bodies that are too slow, and bodies that are sent again.

use std::cell::Cell;

use super::*;

#[test]
fn only_a_long_wait_for_few_bytes_is_an_attack() {
    let seconds = Duration::from_secs;
    assert!(!is_too_slow(0, seconds(59)), "everybody may be slow for a minute");
    assert!(is_too_slow(0, seconds(60)) && is_too_slow(60 * 1024 - 1, seconds(60)));
    assert!(!is_too_slow(60 * 1024, seconds(60)));
    assert!(!is_too_slow(1 << 40, seconds(86_400)), "an upload may take a day");
}

#[test]
fn a_body_is_given_again_only_once_all_of_it_went() {
    let half = Sent { held: RefCell::new(Some(Vec::new())), ..Sent::default() };
    half.note(&Bytes::from_static(b"half"));
    let half = Rc::new(half);
    assert!(half.replay().is_none());
    half.complete.set(true);
    assert!(half.replay().is_some_and(|body| body.size_hint().exact() == Some(4)));
}

#[test]
fn a_body_that_is_too_large_to_hold_is_let_go() {
    let sent = Sent { held: RefCell::new(Some(Vec::new())), complete: Cell::new(true), ..Sent::default() };
    sent.note(&Bytes::from(vec![0; HELD_BYTES]));
    sent.note(&Bytes::from_static(b"x"));
    assert!(sent.held.borrow().is_none() && Rc::new(sent).replay().is_none());
}
