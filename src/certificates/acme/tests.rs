//! What is served and what is to be done, by the clock and by what was kept; without an ACME server.

mod ari;

use rcgen::{CertificateParams, KeyPair};

use super::reason::AcmeError;
use super::*;
use crate::clock::ManualClock;
use crate::config::AcmeChallenge;
use crate::secret::Secret;
use crate::store::Change;
use crate::store::acme::{AcmeCertificate, AcmeRecord};
use crate::store::memory::MemoryStore;

const DAY: Duration = Duration::from_secs(86_400);

fn settings(domains: &[&str]) -> AcmeSettings {
    AcmeSettings {
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        contact: Vec::new(),
        directory: "https://ca.test/dir".to_owned(),
        ca_file: None,
        challenge: AcmeChallenge::TlsAlpn01,
        profile: None,
        eab: None,
    }
}

/// From 2030 on, for ninety days.
fn certificate(settings: &AcmeSettings) -> AcmeCertificate {
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::new(settings.domains.clone()).expect("names");
    parameters.not_before = rcgen::date_time_ymd(2030, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2030, 4, 1);
    AcmeCertificate {
        directory: settings.directory.clone(),
        domains: settings.domains.clone(),
        profile: settings.profile.clone(),
        chain: parameters.self_signed(&key).expect("signed").pem(),
        key: Secret::new(key.serialize_pem()),
        obtained_at: new_year(),
    }
}

fn new_year() -> Timestamp {
    Timestamp::from_secs(1_893_456_000)
}

struct Setting {
    acme: Arc<Acme>,
    clock: Arc<ManualClock>,
    store: Arc<MemoryStore>,
}

impl Setting {
    /// At the beginning of 2030.
    fn new() -> Self {
        let (clock, store) = (Arc::new(ManualClock::new(new_year())), Arc::new(MemoryStore::new()));
        let acme = Acme::new(Arc::<MemoryStore>::clone(&store), Arc::<ManualClock>::clone(&clock));
        Self { acme, clock, store }
    }

    /// Another process over the same store.
    fn restarted(self) -> Self {
        let acme = Acme::new(Arc::<MemoryStore>::clone(&self.store), Arc::<ManualClock>::clone(&self.clock));
        Self { acme, ..self }
    }

    fn kept(self, settings: &AcmeSettings) -> Self {
        self.store.commit(vec![Change::PutAcme(AcmeRecord::Certificate(certificate(settings)))]).expect("kept");
        self
    }

    /// What happens at a start and at a reload.
    fn wants(&self, settings: &AcmeSettings) -> Arc<Held> {
        let held = self.acme.find(settings, self.clock.now()).expect("found");
        self.acme.adopt(Some((settings, Arc::clone(&held))));
        held
    }

    fn task(&self) -> Task {
        self.acme.task(self.clock.now())
    }

    fn is_advised(&self, window: Option<Window>) {
        let fingerprint = self.acme.held().expect("held").facts.fingerprint.clone();
        self.acme.state().advice = Some(Advice { fingerprint, window, ask_again: self.clock.now().plus(365 * DAY) });
    }
}

#[test]
fn without_a_certificate_a_temporary_one_has_the_names_and_an_order_is_due() {
    let setting = Setting::new();
    assert_eq!(setting.task(), Task::Nothing, "certificates come from elsewhere");
    let wanted = settings(&["a.example.org", "b.example.org"]);
    let held = setting.wants(&wanted);
    assert!(held.is_temporary() && held.facts.is_valid(new_year()));
    assert_eq!(held.facts.names, ["a.example.org", "b.example.org"]);
    assert_eq!(setting.task(), Task::Order);
    assert!(Arc::ptr_eq(&setting.wants(&wanted), &held), "a reload makes no other one");
    let standing = setting.acme.standing().expect("a sentence");
    assert!(
        standing.contains("until the first one comes; ca.test is asked for it, for a.example.org, b.example.org by tls-alpn-01"),
        "{standing}"
    );
}

#[test]
fn a_certificate_that_is_kept_is_served_at_once_and_ordered_anew_when_it_is_due() {
    let wanted = settings(&["a.example.org"]);
    let setting = Setting::new().kept(&wanted);
    assert!(!setting.wants(&wanted).is_temporary());
    assert_eq!(setting.task(), Task::AskForAdvice, "no order, only a question");
    setting.is_advised(None);
    for (days, task) in [(50, Task::Nothing), (8, Task::Nothing), (2, Task::Order)] {
        setting.clock.advance(days * DAY);
        assert_eq!(setting.task(), task, "{days}");
    }
}

#[test]
fn the_servers_advice_counts_for_the_certificate_that_it_is_about() {
    let wanted = settings(&["a.example.org"]);
    let setting = Setting::new().kept(&wanted);
    setting.wants(&wanted);
    let window = Window { start: new_year().plus(10 * DAY), end: new_year().plus(11 * DAY) };
    setting.is_advised(Some(window));
    setting.clock.advance(12 * DAY);
    assert_eq!(setting.task(), Task::Order);
    setting.acme.state().advice.as_mut().expect("advice").fingerprint = "another's".to_owned();
    assert_eq!(setting.task(), Task::AskForAdvice);
}

#[test]
fn for_other_names_the_old_certificate_is_served_while_another_is_ordered() {
    let old = settings(&["a.example.org", "b.example.org"]);
    let setting = Setting::new().kept(&old);
    let held = setting.wants(&old);
    let wanted = settings(&["b.example.org", "c.example.org"]);
    assert!(Arc::ptr_eq(&setting.wants(&wanted), &held));
    assert_eq!(setting.task(), Task::Order);
    // After a restart it is found in the store; when it is over, it is of no more use than a temporary one.
    let again = setting.restarted();
    assert_eq!(again.wants(&wanted).facts, held.facts);
    assert!(again.wants(&settings(&["d.example.org"])).is_temporary(), "it has none of these names");
    again.acme.adopt(None);
    again.clock.advance(100 * DAY);
    assert!(again.wants(&wanted).is_temporary());
    assert_eq!(again.wants(&old).facts, held.facts, "for its own names, it is the one that was meant");
    assert_eq!(again.task(), Task::Order);
}

#[test]
fn another_server_or_profile_means_another_certificate() {
    let old = settings(&["a.example.org"]);
    for wanted in [
        AcmeSettings { directory: "https://other.test/dir".to_owned(), ..old.clone() },
        AcmeSettings { profile: Some("shortlived".to_owned()), ..old.clone() },
    ] {
        let setting = Setting::new().kept(&old);
        assert!(!setting.wants(&wanted).is_temporary(), "the old one until then");
        assert_eq!(setting.task(), Task::Order);
    }
    let more = AcmeSettings { contact: vec!["ann@example.org".to_owned()], ..old.clone() };
    let setting = Setting::new().kept(&old);
    setting.wants(&more);
    assert_eq!(setting.task(), Task::AskForAdvice, "whom the server writes to is of no matter");
}

#[test]
fn a_failure_is_told_and_waited_for_and_a_changed_configuration_is_tried_at_once() {
    let (setting, wanted) = (Setting::new(), settings(&["a.example.org"]));
    setting.wants(&wanted);
    setting.acme.fail(&wanted, &AcmeError::Silent, None);
    assert_eq!(setting.task(), Task::Nothing);
    let problem = setting.acme.problem().expect("a sentence");
    assert_eq!(problem, "the ACME server turned the order down without saying why; next try at 2030-01-01T00:01:00Z");
    setting.clock.advance(Duration::from_secs(60));
    assert_eq!(setting.task(), Task::Order);
    setting.acme.fail(&wanted, &AcmeError::Silent, Some(Duration::from_secs(7200)));
    assert!(setting.acme.problem().expect("a sentence").ends_with("; failed 2 times; next try at 2030-01-01T02:01:00Z"));
    setting.wants(&wanted);
    assert_eq!(setting.task(), Task::Nothing, "a reload without a change changes nothing");
    setting.wants(&settings(&["b.example.org"]));
    assert_eq!((setting.task(), setting.acme.problem()), (Task::Order, None));
}

#[tokio::test]
async fn a_restart_is_no_reason_to_try_again_before_the_time() {
    let (mut setting, wanted) = (Setting::new(), settings(&["a.example.org"]));
    let minutes = |count: u64| Duration::from_secs(count * 60);
    for (count, wait) in [(1, minutes(1)), (2, minutes(2)), (3, minutes(5))] {
        setting.wants(&wanted);
        assert_eq!(setting.task(), Task::Order, "{count}");
        setting.acme.begin().expect("settings");
        setting.acme.fail(&wanted, &AcmeError::Silent, None);
        setting.acme.remember_as_it_is().await;
        let problem = setting.acme.problem().expect("a sentence");
        setting = setting.restarted();
        setting.wants(&wanted);
        assert_eq!((setting.task(), setting.acme.problem()), (Task::Nothing, Some(problem)), "{count}");
        setting.clock.advance(wait - Duration::from_secs(1));
        assert_eq!(setting.task(), Task::Nothing, "{count}");
        setting.clock.advance(Duration::from_secs(1));
    }
    setting.acme.remember_as_it_is().await;
    let other = setting.restarted();
    other.wants(&AcmeSettings { challenge: AcmeChallenge::Http01, ..wanted.clone() });
    assert_eq!(other.task(), Task::Order, "what was changed meanwhile is tried at once");
    other.acme.vault.keep_certificate(certificate(&wanted)).expect("kept");
    assert_eq!(other.acme.vault.failure().expect("read"), None, "it has come");
}

#[tokio::test]
async fn orders_that_a_crash_cuts_off_are_waited_for_as_failures_are() {
    let (mut setting, wanted) = (Setting::new(), settings(&["a.example.org"]));
    for (count, wait) in [(1, 60), (2, 120), (3, 300), (4, 900), (5, 3600)] {
        setting.wants(&wanted);
        assert_eq!(setting.task(), Task::Order, "{count}");
        setting.acme.begin().expect("settings");
        setting.acme.remember(Some((&wanted, setting.acme.if_cut_off()))).await;
        setting = setting.restarted();
        setting.wants(&wanted);
        assert!(setting.acme.problem().expect("a sentence").starts_with("keygate ended while it was asking for one"));
        setting.clock.advance(Duration::from_secs(wait - 1));
        assert_eq!(setting.task(), Task::Nothing, "{count}");
        setting.clock.advance(Duration::from_secs(1));
    }
    // One that was not wanted any more, as at a stop, leaves nothing.
    let stopped = setting.restarted();
    stopped.acme.remember_as_it_is().await;
    let setting = stopped.restarted();
    setting.wants(&wanted);
    assert_eq!((setting.task(), setting.acme.problem()), (Task::Order, None));
}

#[tokio::test]
async fn a_clock_that_was_wrong_keeps_nobody_from_a_certificate_for_longer_than_a_day() {
    let (setting, wanted) = (Setting::new(), settings(&["a.example.org"]));
    setting.wants(&wanted);
    setting.clock.advance(3650 * DAY);
    setting.acme.fail(&wanted, &AcmeError::Silent, None);
    setting.acme.remember_as_it_is().await;
    setting.clock.set(new_year());
    let setting = setting.restarted();
    setting.wants(&wanted);
    assert_eq!(setting.task(), Task::Nothing);
    setting.clock.advance(DAY);
    assert_eq!(setting.task(), Task::Order);
}

#[test]
fn no_server_can_have_certificates_ordered_at_each_restart() {
    let wanted = settings(&["a.example.org"]);
    let setting = Setting::new().kept(&wanted).restarted();
    setting.wants(&wanted);
    setting.is_advised(Some(Window { start: new_year().minus(2 * DAY), end: new_year().minus(DAY) }));
    assert_eq!(setting.task(), Task::Nothing, "it came just now");
    setting.clock.advance(Duration::from_secs(3600));
    assert_eq!(setting.task(), Task::Order);
}

#[test]
fn a_renewal_that_was_asked_for_before_its_time_is_not_tried_again_before_that() {
    let wanted = settings(&["a.example.org"]);
    let setting = Setting::new().kept(&wanted);
    setting.wants(&wanted);
    setting.is_advised(None);
    setting.acme.state().is_asked = true;
    assert_eq!(setting.task(), Task::Order);
    assert!(setting.acme.begin().is_some_and(|(_, replaces)| replaces.is_none()));
    setting.acme.fail(&wanted, &AcmeError::Silent, None);
    setting.clock.advance(55 * DAY);
    assert_eq!(setting.task(), Task::Nothing);
    setting.clock.advance(5 * DAY);
    assert_eq!(setting.task(), Task::Order);
}

#[test]
fn no_server_can_have_certificates_ordered_one_after_the_other() {
    let (setting, wanted) = (Setting::new(), settings(&["a.example.org"]));
    setting.wants(&wanted);
    let (_, held) = setting.acme.accept(certificate(&wanted)).expect("good");
    setting.acme.succeed(&held);
    setting.is_advised(Some(Window { start: new_year().minus(2 * DAY), end: new_year().minus(DAY) }));
    assert_eq!(setting.task(), Task::Nothing);
    setting.clock.advance(Duration::from_secs(3600));
    assert_eq!(setting.task(), Task::Order);
}

#[test]
fn what_cannot_be_served_today_is_not_taken() {
    let wanted = settings(&["a.example.org"]);
    let setting = Setting::new();
    let refused = |setting: &Setting, certificate| setting.acme.accept(certificate).expect_err("refused").to_string();
    let other = AcmeCertificate { domains: vec!["b.example.org".to_owned()], ..certificate(&wanted) };
    assert!(refused(&setting, other).contains("it is not for b.example.org"));
    let foreign = AcmeCertificate { key: certificate(&wanted).key, ..certificate(&wanted) };
    assert!(refused(&setting, foreign).contains("key and certificate do not go together"));
    assert!(refused(&setting, AcmeCertificate { chain: String::new(), ..certificate(&wanted) }).contains("it cannot be read"));
    setting.clock.set(new_year().minus(DAY));
    assert!(refused(&setting, certificate(&wanted)).contains("this machine's clock says 2029-12-31"));
}

#[test]
fn a_new_certificate_takes_the_place_of_all_others_in_the_store() {
    let setting = Setting::new().kept(&settings(&["a.example.org"])).kept(&settings(&["b.example.org"]));
    let wanted = settings(&["a.example.org", "b.example.org"]);
    setting.acme.vault.keep_certificate(certificate(&wanted)).expect("kept");
    let kept = setting.acme.vault.certificates().expect("read");
    assert_eq!(kept.iter().map(|one| one.domains.clone()).collect::<Vec<_>>(), [wanted.domains]);
}

#[tokio::test]
async fn a_renewal_is_waited_for_and_where_none_is_possible_it_is_refused() {
    let (setting, wanted) = (Setting::new(), settings(&["a.example.org"]));
    assert!(matches!(setting.acme.renew().await, Err(RenewError::NotAcme)));
    setting.wants(&wanted);
    let works = async {
        setting.acme.asked.notified().await;
        assert!(setting.acme.state().is_asked);
        setting.acme.begin().expect("settings");
        assert!(!setting.acme.state().is_asked && setting.acme.state().is_running);
        setting.acme.fail(&wanted, &AcmeError::Silent, None);
    };
    let (renewed, ()) = tokio::join!(setting.acme.renew(), works);
    assert_eq!(renewed.expect_err("failed").to_string(), "no new certificate: the ACME server turned the order down without saying why");
    let gone = async {
        setting.acme.asked.notified().await;
        setting.acme.adopt(None);
    };
    let (renewed, ()) = tokio::join!(setting.acme.renew(), gone);
    assert!(renewed.is_err(), "certificates come from elsewhere now");
}
