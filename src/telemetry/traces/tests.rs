//! The queue has an end.

use http::{HeaderValue, Method, StatusCode, Version};

use super::span::{Origin, Span};
use super::*;
use crate::clock::SystemClock;

fn ended() -> Box<Ended> {
    let place = Place::alone(Fresh::draw().expect("random bytes"), true, None);
    Box::new(Ended {
        place,
        from: Origin { peer: IpAddr::from([127, 0, 0, 1]), is_secure: false, host: None },
        span: Span { begin: 1, end: 2 },
        answered: None,
        method: Method::GET,
        version: Version::HTTP_11,
        path: "/".to_owned(),
        route: None,
        client: IpAddr::from([127, 0, 0, 1]),
        status: Some(StatusCode::OK),
        refusal: None,
        upstream: None,
        carrier: None,
        key: None,
        account: None,
        bytes_in: 0,
        bytes_out: 0,
        is_complete: true,
        ended: None,
    })
}

#[test]
fn what_finds_no_room_is_counted_and_gone() {
    // Nobody drives it: nothing is ever sent.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let authority = HeaderValue::from_static("127.0.0.1:1");
    let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: 1, authority, path: "/v1/traces".to_owned(), tls: None };
    let config = Traces { endpoint, headers: None, sample: Share::ALL };
    let tracer = Tracer::start(&config, None, &clock, runtime.handle()).expect("started");
    (0..QUEUE).for_each(|_| tracer.take(ended()));
    assert_eq!(tracer.figures().dropped(), 0);
    (0..7).for_each(|_| tracer.take(ended()));
    assert_eq!(tracer.figures().dropped(), 7);
}
