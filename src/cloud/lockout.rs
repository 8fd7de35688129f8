//! Logins that don't lock the user out.
//!
//! Keystone counts refused passwords of a user without decay, and may lock the user. An accepted
//! password resets the count; a wrong project or a missing role doesn't count. Its answer is the
//! same for all of them, so a refused login is followed by one without a project, which tells a
//! wrong password from a wrong project. A wrong password is tried a few more times at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::contrabass::Provider;
use super::error::CloudError;
use super::keystone::DomainSpelling;
use crate::secret::Secret;
use crate::threads::lock;

/// How often Keystone may refuse one password before only a forced login tries it again.
const MAX_REFUSALS: usize = 5;
/// Waits before a refused password is tried again, in minutes.
const WAITS_MINUTES: [u64; 3] = [1, 5, 30];
/// How many refused passwords of a user are kept.
const MAX_PASSWORDS: usize = 16;

/// What is known of each user's password, by Keystone URL, user name and domain.
pub(super) type Accounts = Mutex<HashMap<(String, String, String), Arc<Mutex<Account>>>>;

/// The provider's user. Its lock is held during a login: logins at the same time would all try a
/// password before one of them learns that it is wrong.
pub(super) fn account(accounts: &Accounts, provider: &Provider) -> Arc<Mutex<Account>> {
    let Provider { keystone_url, user, domain, .. } = provider;
    let key = (keystone_url.clone(), user.clone(), domain.clone());
    Arc::clone(lock(accounts).entry(key).or_default())
}

/// A user of a Keystone, and the passwords that were refused since they were last accepted.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// How the domain was spelled when a password was accepted.
    spelling: Option<DomainSpelling>,
    refused: Vec<Refused>,
    /// The last login that brought neither a token nor a refusal, and when it ended.
    failed: Option<(Duration, CloudError)>,
}

/// A password that Keystone refused.
#[derive(Debug)]
struct Refused {
    password: Secret,
    /// Refused logins.
    refusals: usize,
    /// Those among them without a project.
    checks: usize,
    /// Uptime of the last one.
    last_at: Duration,
}

/// What may be done with a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Log in to the project.
    LogIn(DomainSpelling),
    /// Log in without a project.
    CheckPassword(DomainSpelling),
    /// Keystone isn't asked.
    Wait {
        /// Refused logins with this password.
        refusals: usize,
        /// Minutes from the last of them to the next; none if only a forced one follows.
        minutes: Option<u64>,
    },
}

impl Account {
    /// What may be done with this password at the uptime `now`. A forced login doesn't wait.
    /// `likely` is the likelier spelling of the domain, as long as none is known to work.
    pub(super) fn next(
        &self,
        password: &Secret,
        likely: DomainSpelling,
        now: Duration,
        forced: bool,
    ) -> Attempt {
        let first = self.spelling.unwrap_or(likely);
        let Some(refused) = self.refused.iter().find(|refused| refused.password == *password)
        else {
            return Attempt::LogIn(first);
        };
        // The password is wrong once each possible spelling was refused without a project.
        let spellings = if self.spelling.is_some() { 1 } else { 2 };
        // Later tries take turns, the likelier spelling first.
        let is_odd = !refused.checks.is_multiple_of(2);
        let is_other = spellings == 2 && (refused.checks == 0 || refused.checks > 2 && is_odd);
        let spelling = if is_other { first.other() } else { first };
        let Some(retries) = refused.checks.checked_sub(spellings) else {
            return Attempt::CheckPassword(spelling);
        };
        let allowed = refused.refusals < MAX_REFUSALS;
        let minutes = WAITS_MINUTES.get(retries).copied().filter(|_| allowed);
        let is_due = minutes
            .is_some_and(|minutes| now >= refused.last_at + Duration::from_secs(60 * minutes));
        if is_due || forced {
            return Attempt::CheckPassword(spelling);
        }
        Attempt::Wait { refusals: refused.refusals, minutes }
    }

    /// Keystone refused an attempt with this password.
    pub(super) fn refuse(&mut self, password: &Secret, attempt: Attempt, now: Duration) {
        let known = self.refused.iter().position(|refused| refused.password == *password);
        let mut refused = match known {
            Some(at) => self.refused.remove(at),
            None => Refused { password: password.clone(), refusals: 0, checks: 0, last_at: now },
        };
        refused.refusals += 1;
        refused.checks += usize::from(matches!(attempt, Attempt::CheckPassword(_)));
        refused.last_at = now;
        if self.refused.len() == MAX_PASSWORDS {
            self.refused.remove(0);
        }
        self.refused.push(refused);
    }

    /// Keystone accepted this password, with the domain spelled so.
    pub(super) fn accept(&mut self, password: &Secret, spelling: DomainSpelling) {
        self.spelling = Some(spelling);
        self.refused.retain(|refused| refused.password != *password);
    }

    /// A login ended without a token or a refusal.
    pub(super) fn fail(&mut self, error: &CloudError, now: Duration) {
        self.failed = Some((now, error.clone()));
    }

    /// The failure of a login that ended after the uptime `since`: whoever waited for it needn't
    /// wait for the same failure once more.
    pub(super) fn failure_after(&self, since: Duration) -> Option<CloudError> {
        let (at, error) = self.failed.as_ref()?;
        (*at > since).then(|| error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Attempt, MAX_PASSWORDS};
    use crate::cloud::keystone::DomainSpelling::{self, Id, Name};
    use crate::secret::Secret;
    use std::time::Duration;

    const OLD: &str = "old";

    fn next(account: &Account, password: &str, minute: u64, forced: bool) -> Attempt {
        let now = Duration::from_secs(60 * minute);
        account.next(&Secret::new(password.to_owned()), Id, now, forced)
    }

    /// Every minute of two days Keystone refuses whatever may be tried; when it was.
    fn refusals(account: &mut Account, password: &str) -> Vec<(u64, Attempt)> {
        let mut refused = Vec::new();
        for minute in 0..2880 {
            loop {
                let attempt = next(account, password, minute, false);
                if matches!(attempt, Attempt::Wait { .. }) {
                    break;
                }
                let now = Duration::from_secs(60 * minute);
                account.refuse(&Secret::new(password.to_owned()), attempt, now);
                refused.push((minute, attempt));
            }
        }
        refused
    }

    fn accepted(spelling: DomainSpelling) -> Account {
        let mut account = Account::default();
        account.accept(&Secret::new(OLD.to_owned()), spelling);
        account
    }

    #[test]
    fn a_wrong_password_is_refused_five_times_at_most() {
        let mut account = accepted(Name);
        let check = Attempt::CheckPassword(Name);
        let expected =
            vec![(0, Attempt::LogIn(Name)), (0, check), (1, check), (6, check), (36, check)];
        assert_eq!(refusals(&mut account, OLD), expected);
        assert_eq!(refusals(&mut account, OLD), Vec::new());
        let end = Attempt::Wait { refusals: 5, minutes: None };
        assert_eq!(next(&account, OLD, 1 << 30, false), end);
    }

    #[test]
    fn both_spellings_of_the_domain_are_counted_together() {
        let expected = vec![
            (0, Attempt::LogIn(Id)),
            (0, Attempt::CheckPassword(Name)),
            (0, Attempt::CheckPassword(Id)),
            (1, Attempt::CheckPassword(Id)),
            (6, Attempt::CheckPassword(Name)),
        ];
        assert_eq!(refusals(&mut Account::default(), OLD), expected);
    }

    #[test]
    fn another_password_is_tried_at_once_and_the_refused_one_stays_refused() {
        let mut account = accepted(Name);
        refusals(&mut account, OLD);
        assert_eq!(next(&account, "new", 2880, false), Attempt::LogIn(Name));
        account.accept(&Secret::new("new".to_owned()), Name);
        let end = Attempt::Wait { refusals: 5, minutes: None };
        assert_eq!(next(&account, OLD, 2880, false), end);
        account.accept(&Secret::new(OLD.to_owned()), Name);
        assert_eq!(next(&account, OLD, 2880, false), Attempt::LogIn(Name));
    }

    #[test]
    fn a_forced_login_is_one_without_a_project_and_counts() {
        let mut account = accepted(Id);
        let password = Secret::new(OLD.to_owned());
        account.refuse(&password, Attempt::LogIn(Id), Duration::ZERO);
        account.refuse(&password, Attempt::CheckPassword(Id), Duration::ZERO);
        assert_eq!(next(&account, OLD, 0, false), Attempt::Wait { refusals: 2, minutes: Some(1) });
        let forced = next(&account, OLD, 0, true);
        assert_eq!(forced, Attempt::CheckPassword(Id));
        account.refuse(&password, forced, Duration::ZERO);
        assert_eq!(next(&account, OLD, 1, false), Attempt::Wait { refusals: 3, minutes: Some(5) });
        assert_eq!(refusals(&mut account, OLD).len(), 2);
        assert_eq!(next(&account, OLD, 2880, true), Attempt::CheckPassword(Id));
    }

    #[test]
    fn few_refused_passwords_are_kept() {
        let mut account = accepted(Id);
        for number in 0..3 * MAX_PASSWORDS {
            let password = Secret::new(number.to_string());
            account.refuse(&password, Attempt::LogIn(Id), Duration::ZERO);
        }
        assert_eq!(account.refused.len(), MAX_PASSWORDS);
    }
}
