//! Logins that don't lock the user out (docs/behaviour.md#login).
//!
//! Keystone counts refused passwords of a user without decay, and may lock the user. An accepted
//! password resets the count; a wrong project or a missing role doesn't count. Its answer is the
//! same for all of them, so a refused login is followed by one without a project, which tells a
//! wrong password from a wrong project. A wrong password is tried a few more times at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::contrabass::Provider;
use super::error::{CloudError, Step};
use super::keystone::{DomainSpelling, Keystone, Login};
use crate::http::url::ending_in;
use crate::secret::Secret;
use crate::threads::lock;

/// How often Keystone may refuse one password before only a forced login tries it again.
const MAX_REFUSALS: usize = 5;
/// Waits before a refused password is tried again, in minutes.
const WAITS_MINUTES: [u64; 3] = [1, 5, 30];
/// How many refused passwords of a user are kept.
const MAX_PASSWORDS: usize = 16;
/// For how long after Keystone accepted a password logins with it run side by side.
const PROVEN_FOR: Duration = Duration::from_secs(10);
/// How many logins run side by side, beside one that holds the account's lock. Should Keystone refuse
/// them all, and then the password without a project, one of [`MAX_REFUSALS`] is left.
const MAX_SIDE_BY_SIDE: usize = 2;

/// What is known of each user's passwords, by Keystone's URL, the user and its domain.
#[derive(Default)]
pub(super) struct Accounts(Mutex<HashMap<[String; 3], Arc<Mutex<Account>>>>);

impl Accounts {
    /// Logs in to the project, unless Keystone refused the password and it isn't yet the time to
    /// try it again. A `forced` login tries it once.
    ///
    /// The account's lock is held meanwhile, unless the password was accepted just now: logins at
    /// the same time would all be refused before one of them has learned that the password is
    /// wrong.
    pub(super) fn log_in(
        &self,
        keystone: &Keystone<'_>,
        project_id: &str,
        forced: bool,
    ) -> Result<Login, CloudError> {
        let Provider { keystone_url, user, domain, password, .. } = keystone.provider;
        let key = [ending_in(keystone_url, "v3"), user.clone(), domain.clone()];
        let account = Arc::clone(lock(&self.0).entry(key).or_default());
        let began = keystone.clock.now().uptime;
        let mut known = lock(&account);
        if let Some(error) = known.failure_after(began) {
            return Err(error);
        }
        let spellings = known.spellings(domain);
        let mut refused = None;
        if !known.has_refused(password) {
            let began = keystone.clock.now().uptime;
            let result = match known.may_run_beside_others(password, began) {
                Some(_running) => {
                    drop(known);
                    let result = keystone.log_in(project_id, spellings[0]);
                    known = lock(&account);
                    result
                }
                None => keystone.log_in(project_id, spellings[0]),
            };
            match known.note(keystone, spellings[0], false, began, result) {
                Err(error) if error.refused => refused = Some(error),
                ended => return ended,
            }
        }
        let spelling = check_password(&mut known, keystone, &spellings, forced)?;
        // The password is right: if a login is refused, it is for the project.
        let result = match refused {
            Some(error) if spelling == spellings[0] => Err(error),
            _ => keystone.log_in(project_id, spelling),
        };
        result.map_err(|error| match error.refused {
            true => project_refused(keystone.provider, project_id, error),
            false => error,
        })
    }
}

/// Finds how the domain must be spelled for Keystone to accept the password, by logins without a
/// project.
fn check_password(
    known: &mut Account,
    keystone: &Keystone<'_>,
    spellings: &[DomainSpelling],
    forced: bool,
) -> Result<DomainSpelling, CloudError> {
    let provider = keystone.provider;
    for forced in [forced, false] {
        let began = keystone.clock.now().uptime;
        let next = known.next_check(&provider.password, spellings, began, forced);
        let Some(spelling) = next else { break };
        let result = keystone.check_password(spelling);
        match known.note(keystone, spelling, true, began, result) {
            Err(error) if error.refused => {}
            ended => return ended.map(|()| spelling),
        }
    }
    Err(password_refused(provider, known, spellings))
}

/// What is known of a user's passwords.
#[derive(Debug, Default)]
struct Account {
    /// How the domain was spelled when a password was accepted.
    spelling: Option<DomainSpelling>,
    /// The password that was accepted last, and the uptime.
    accepted: Option<(Secret, Duration)>,
    /// Those that were refused since they were accepted.
    refused: Vec<Refused>,
    /// The last login that brought neither a token nor a refusal, and the uptime of its end.
    failed: Option<(CloudError, Duration)>,
    /// Cloned for each login that runs without the account's lock.
    side_by_side: Arc<()>,
}

/// A password that Keystone refused.
#[derive(Debug)]
struct Refused {
    password: Secret,
    /// The provider that had it, by Contrabass' id.
    provider_id: String,
    /// Refused logins.
    refusals: usize,
    /// Those among them without a project.
    checks: usize,
    /// Uptime of the last refusal.
    last_at: Duration,
    /// Keystone's answer to it.
    answer: String,
}

impl Refused {
    /// Minutes from the last refusal to the next login; none if only a forced one follows.
    fn wait_minutes(&self, spellings: &[DomainSpelling]) -> Option<u64> {
        let retries = self.checks.checked_sub(spellings.len())?;
        WAITS_MINUTES.get(retries).copied().filter(|_| self.refusals < MAX_REFUSALS)
    }
}

impl Account {
    /// How the domain may have to be spelled, the likelier spelling first.
    fn spellings(&self, domain: &str) -> Vec<DomainSpelling> {
        let likely = DomainSpelling::likely(domain);
        self.spelling.map_or_else(|| vec![likely, likely.other()], |known| vec![known])
    }

    fn refused(&self, password: &Secret) -> Option<&Refused> {
        self.refused.iter().find(|refused| refused.password == *password)
    }

    fn has_refused(&self, password: &Secret) -> bool {
        self.refused(password).is_some()
    }

    /// What a login holds while it runs beside others; none if it mustn't.
    fn may_run_beside_others(&self, password: &Secret, now: Duration) -> Option<Arc<()>> {
        let (accepted, at) = self.accepted.as_ref()?;
        let is_proven = accepted == password && now < *at + PROVEN_FOR;
        let are_few = Arc::strong_count(&self.side_by_side) <= MAX_SIDE_BY_SIDE;
        (is_proven && are_few).then(|| Arc::clone(&self.side_by_side))
    }

    /// How the domain is spelled in the next login without a project; none if it has to wait, which
    /// a forced login doesn't.
    fn next_check(
        &self,
        password: &Secret,
        spellings: &[DomainSpelling],
        now: Duration,
        forced: bool,
    ) -> Option<DomainSpelling> {
        let Some(refused) = self.refused(password) else { return spellings.first().copied() };
        let is_due = refused.checks < spellings.len()
            || refused
                .wait_minutes(spellings)
                .is_some_and(|minutes| now >= refused.last_at + Duration::from_secs(60 * minutes));
        // The login to the project had the first one, so the second one is checked before it. Later
        // logins alternate.
        let at = (refused.checks + usize::from(refused.checks < 2)) % spellings.len();
        spellings.get(at).copied().filter(|_| is_due || forced)
    }

    /// Learns from a login that began at this uptime. A `check` is one without a project.
    fn note<T>(
        &mut self,
        keystone: &Keystone<'_>,
        spelling: DomainSpelling,
        check: bool,
        began: Duration,
        result: Result<T, CloudError>,
    ) -> Result<T, CloudError> {
        let (provider, now) = (keystone.provider, keystone.clock.now().uptime);
        match &result {
            Ok(_) => self.accept(provider, spelling, began, now),
            Err(error) if error.refused => self.refuse(provider, check, &error.message, now),
            Err(error) => self.failed = Some((error.clone(), now)),
        }
        result
    }

    /// Keystone accepted the provider's password. What it refused since the login began may be
    /// newer.
    fn accept(
        &mut self,
        provider: &Provider,
        spelling: DomainSpelling,
        began: Duration,
        now: Duration,
    ) {
        self.spelling = Some(spelling);
        self.accepted = Some((provider.password.clone(), now));
        // Should Contrabass give an earlier password again, that is another answer of it.
        self.refused.retain(|refused| {
            refused.last_at > began
                || (refused.password != provider.password && refused.provider_id != provider.id)
        });
    }

    /// Keystone refused the provider's password.
    fn refuse(&mut self, provider: &Provider, check: bool, answer: &str, now: Duration) {
        let Provider { id, password, .. } = provider;
        let before = self.refused.iter().position(|refused| refused.password == *password);
        let before = before.map(|at| self.refused.remove(at));
        let counts = before.map_or((0, 0), |before| (before.refusals, before.checks));
        if self.refused.len() == MAX_PASSWORDS {
            self.refused.remove(0);
        }
        self.refused.push(Refused {
            password: password.clone(),
            provider_id: id.clone(),
            refusals: counts.0 + 1,
            checks: counts.1 + usize::from(check),
            last_at: now,
            answer: answer.to_owned(),
        });
    }

    /// The failure of a login that ended after the uptime `since`: a login that waited for it
    /// needn't wait for the same failure once more.
    fn failure_after(&self, since: Duration) -> Option<CloudError> {
        let (error, at) = self.failed.as_ref()?;
        (*at > since).then(|| error.clone())
    }
}

fn project_refused(provider: &Provider, project_id: &str, error: CloudError) -> CloudError {
    let Provider { user, domain, .. } = provider;
    let message = format!(
        "{error}; the password of user {user:?} of domain {domain:?} is right, but project \
         {project_id} doesn't exist, was deleted or is disabled, or the user has no role in it"
    );
    CloudError { message, ..error }
}

fn password_refused(
    provider: &Provider,
    known: &Account,
    spellings: &[DomainSpelling],
) -> CloudError {
    let Provider { user, domain, password, .. } = provider;
    let refused = known.refused(password);
    let (answer, times) = refused.map_or(("", 0), |refused| (&*refused.answer, refused.refusals));
    let next = match refused.and_then(|refused| refused.wait_minutes(spellings)) {
        Some(minutes) => format!("the next login follows {minutes} min after the last"),
        None => "no login follows".to_owned(),
    };
    let message = format!(
        "{answer}; the user {user:?} of domain {domain:?} or its password is wrong (refused {times} \
         times, also without a project); so that Keystone doesn't lock the user, {next}, unless \
         Contrabass has another password or a sync is forced"
    );
    CloudError { refused: true, ..CloudError::new(Step::Keystone, message) }
}

#[cfg(test)]
mod tests {
    use super::{Account, MAX_PASSWORDS, MAX_SIDE_BY_SIDE, PROVEN_FOR};
    use crate::cloud::contrabass::Provider;
    use crate::cloud::keystone::DomainSpelling::{self, Id, Name};
    use crate::secret::Secret;
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A provider whose domain is likelier an id.
    fn provider(id: &str, password: &str) -> Provider {
        Provider {
            id: id.to_owned(),
            keystone_url: "http://keystone.test".to_owned(),
            user: "admin".to_owned(),
            password: Secret::new(password.to_owned()),
            domain: "default".to_owned(),
            rabbitmq: Ok(None),
        }
    }

    fn accepted(provider: &Provider, spelling: DomainSpelling) -> Account {
        let mut account = Account::default();
        account.accept(provider, spelling, Duration::ZERO, Duration::ZERO);
        account
    }

    fn next_check(
        account: &Account,
        provider: &Provider,
        minute: u32,
        forced: bool,
    ) -> Option<DomainSpelling> {
        let spellings = account.spellings(&provider.domain);
        account.next_check(&provider.password, &spellings, minute * MINUTE, forced)
    }

    /// A login, and then, every minute of two days, whatever may be tried; Keystone refuses it all.
    /// The minutes and spellings of the logins without a project.
    fn refused_checks(account: &mut Account, provider: &Provider) -> Vec<(u32, DomainSpelling)> {
        let mut checks = Vec::new();
        if !account.has_refused(&provider.password) {
            account.refuse(provider, false, "", Duration::ZERO);
        }
        for minute in 0..2880 {
            while let Some(spelling) = next_check(account, provider, minute, false) {
                account.refuse(provider, true, "", minute * MINUTE);
                checks.push((minute, spelling));
            }
        }
        checks
    }

    #[test]
    fn a_wrong_password_is_refused_five_times_at_most() {
        let old = provider("p", "old");
        let mut account = accepted(&old, Name);
        let expected = [(0, Name), (1, Name), (6, Name), (36, Name)];
        assert_eq!(refused_checks(&mut account, &old), expected);
        assert_eq!(account.refused[0].refusals, 5);
        assert_eq!(refused_checks(&mut account, &old), []);
    }

    #[test]
    fn both_spellings_of_the_domain_are_counted_together() {
        let mut account = Account::default();
        let expected = [(0, Name), (0, Id), (1, Id), (6, Name)];
        assert_eq!(refused_checks(&mut account, &provider("p", "old")), expected);
        assert_eq!(account.refused[0].refusals, 5);
    }

    #[test]
    fn a_forced_login_is_one_more_and_counts() {
        let old = provider("p", "old");
        let mut account = accepted(&old, Id);
        account.refuse(&old, false, "", Duration::ZERO);
        account.refuse(&old, true, "", Duration::ZERO);
        assert_eq!(next_check(&account, &old, 0, false), None);
        assert_eq!(next_check(&account, &old, 0, true), Some(Id));
        account.refuse(&old, true, "", Duration::ZERO);
        assert_eq!(refused_checks(&mut account, &old), [(5, Id), (35, Id)]);
        assert_eq!(next_check(&account, &old, 2880, true), Some(Id));
    }

    #[test]
    fn another_answer_of_contrabass_is_tried_at_once_and_an_unchanged_one_is_not() {
        let (old, new) = (provider("p", "old"), provider("p", "new"));
        let mut account = accepted(&old, Name);
        refused_checks(&mut account, &old);
        assert!(!account.has_refused(&new.password));
        // Another provider of the same user is right; this one's answer is as wrong as before.
        account.accept(&provider("q", "new"), Name, 2880 * MINUTE, 2880 * MINUTE);
        assert!(account.has_refused(&old.password));
        // A password that is used again, after another one was right.
        account.accept(&new, Name, 2880 * MINUTE, 2880 * MINUTE);
        assert!(!account.has_refused(&old.password));
    }

    #[test]
    fn a_late_answer_to_an_earlier_login_does_not_undo_a_refusal() {
        let old = provider("p", "old");
        let mut account = accepted(&old, Name);
        account.refuse(&old, false, "", 2 * MINUTE);
        account.accept(&old, Name, MINUTE, 3 * MINUTE);
        assert!(account.has_refused(&old.password));
        account.accept(&old, Name, 2 * MINUTE, 3 * MINUTE);
        assert!(!account.has_refused(&old.password));
    }

    #[test]
    fn logins_run_side_by_side_with_a_password_that_was_accepted_just_now() {
        let right = provider("p", "right");
        let account = accepted(&right, Id);
        let other = Secret::new("other".to_owned());
        assert!(account.may_run_beside_others(&other, Duration::ZERO).is_none());
        assert!(account.may_run_beside_others(&right.password, PROVEN_FOR).is_none());
        let run = || account.may_run_beside_others(&right.password, Duration::ZERO);
        let running: Vec<_> = std::iter::from_fn(run).collect();
        assert_eq!(running.len(), MAX_SIDE_BY_SIDE);
        drop(running);
        assert!(run().is_some());
    }

    #[test]
    fn few_refused_passwords_are_kept() {
        let mut account = Account::default();
        for number in 0..3 * MAX_PASSWORDS {
            let provider = provider("p", &number.to_string());
            account.refuse(&provider, false, "", Duration::ZERO);
        }
        assert_eq!(account.refused.len(), MAX_PASSWORDS);
    }
}
