//! Logins that don't lock the user out (docs/behaviour.md#login).
//!
//! Keystone counts refused passwords of a user without decay, and may lock the user. An accepted
//! password resets the count; a wrong project or a missing role doesn't count. Its answer is the
//! same for all of them, so a refused login is followed by one without a project, which tells a
//! wrong password from a wrong project. A wrong password is tried a few more times at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::{CloudError, Step};
use super::keystone::{DomainSpelling, Keystone, Login};
use super::provider::Provider;
use crate::config::{Domain, Project, User};
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

/// What is known of each user's passwords.
#[derive(Default)]
pub(super) struct Accounts(Mutex<ByUser>);

/// By Keystone's URL and the user.
type ByUser = HashMap<(String, User), Arc<Mutex<Account>>>;

impl Accounts {
    /// Logs in to the project, unless Keystone refused the password and it isn't yet the time to
    /// try it again. A `forced` login tries it once. An application credential names no project, and
    /// its secret is tried as rarely as a password.
    ///
    /// The account's lock is held meanwhile, unless the password was accepted just now: logins at
    /// the same time would all be refused before one of them has learned that the password is
    /// wrong.
    pub(super) fn log_in(
        &self,
        keystone: &Keystone<'_>,
        project: Option<&Project>,
        forced: bool,
    ) -> Result<Login, CloudError> {
        let Provider { keystone_url, user, secret, .. } = keystone.provider;
        let key = (ending_in(keystone_url, "v3"), account(user));
        let account = Arc::clone(lock(&self.0).entry(key).or_default());
        let began = keystone.clock.now().uptime;
        let mut known = lock(&account);
        if let Some(error) = known.failure_after(began) {
            return Err(error);
        }
        let spellings = known.spellings(keystone.provider.domain());
        if project.is_none() {
            let log_in = |spelling| keystone.log_in(None, spelling);
            return check(&mut known, keystone, &spellings, forced, log_in).map(|(_, login)| login);
        }
        let mut refused = None;
        if !known.has_refused(secret) {
            let began = keystone.clock.now().uptime;
            let result = match known.may_run_beside_others(secret, began) {
                Some(_running) => {
                    drop(known);
                    let result = keystone.log_in(project, spellings[0]);
                    known = lock(&account);
                    result
                }
                None => keystone.log_in(project, spellings[0]),
            };
            match known.note(keystone, spellings[0], false, began, result) {
                Err(error) if error.refused => refused = Some(error),
                ended => return ended,
            }
        }
        let check_password = |spelling| keystone.check_password(spelling);
        let (spelling, ()) = check(&mut known, keystone, &spellings, forced, check_password)?;
        // The password is right: if a login is refused, it is for the project.
        let result = match refused {
            Some(error) if spelling == spellings[0] => Err(error),
            _ => keystone.log_in(project, spelling),
        };
        result.map_err(|error| match error.refused {
            true => project_refused(keystone.provider, project, error),
            false => error,
        })
    }
}

/// Whose password it is: the same user, however the domain is spelled.
fn account(user: &User) -> User {
    let either = |domain: &Domain| match domain {
        Domain::Id(text) | Domain::Name(text) | Domain::Either(text) => {
            Domain::Either(text.to_lowercase())
        }
    };
    match user {
        User::Name { name, domain } => User::Name { name: name.clone(), domain: either(domain) },
        User::ApplicationCredentialOf { name, user } => {
            let (name, user) = (name.clone(), Box::new(account(user)));
            User::ApplicationCredentialOf { name, user }
        }
        User::Id(_) | User::ApplicationCredential(_) => user.clone(),
    }
}

/// Finds how the domain must be spelled for Keystone to accept the password, by logins without a
/// project.
fn check<T>(
    known: &mut Account,
    keystone: &Keystone<'_>,
    spellings: &[DomainSpelling],
    forced: bool,
    log_in: impl Fn(DomainSpelling) -> Result<T, CloudError>,
) -> Result<(DomainSpelling, T), CloudError> {
    let provider = keystone.provider;
    for forced in [forced, false] {
        let began = keystone.clock.now().uptime;
        let next = known.next_check(&provider.secret, spellings, began, forced);
        let Some(spelling) = next else { break };
        match known.note(keystone, spelling, true, began, log_in(spelling)) {
            Err(error) if error.refused => {}
            ended => return ended.map(|accepted| (spelling, accepted)),
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
    fn spellings(&self, domain: Option<&Domain>) -> Vec<DomainSpelling> {
        match domain {
            None | Some(Domain::Id(_)) => vec![DomainSpelling::Id],
            Some(Domain::Name(_)) => vec![DomainSpelling::Name],
            Some(Domain::Either(domain)) => {
                let likely = DomainSpelling::likely(domain);
                self.spelling.map_or_else(|| vec![likely, likely.other()], |known| vec![known])
            }
        }
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
        self.accepted = Some((provider.secret.clone(), now));
        // Should Contrabass give an earlier password again, that is another answer of it.
        self.refused.retain(|refused| {
            refused.last_at > began
                || (refused.password != provider.secret && refused.provider_id != provider.id)
        });
    }

    /// Keystone refused the provider's password.
    fn refuse(&mut self, provider: &Provider, check: bool, answer: &str, now: Duration) {
        let Provider { id, secret: password, .. } = provider;
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

fn project_refused(
    provider: &Provider,
    project: Option<&Project>,
    error: CloudError,
) -> CloudError {
    let who = provider.who();
    let project = match project {
        Some(Project::Id(id)) if !provider.is_of_secret => &format!("project {id}"),
        _ => "the project",
    };
    let message = format!(
        "{error}; the password of {who} is right, but {project} doesn't exist, was deleted or is \
         disabled, or the user has no role in it"
    );
    CloudError { message, ..error }
}

fn password_refused(
    provider: &Provider,
    known: &Account,
    spellings: &[DomainSpelling],
) -> CloudError {
    let (who, refused) = (provider.who(), known.refused(&provider.secret));
    let (answer, times) = refused.map_or(("", 0), |refused| (&*refused.answer, refused.refusals));
    let next = match refused.and_then(|refused| refused.wait_minutes(spellings)) {
        Some(minutes) => format!("the next login follows {minutes} min after the last"),
        None => "no login follows".to_owned(),
    };
    let (what, without) = match provider.has_application_credential() {
        true => ("its secret is wrong, or it or its user is gone or disabled", ""),
        false => ("its password is wrong", ", also without a project"),
    };
    let source = if provider.is_of_secret { "the Secret" } else { "Contrabass" };
    let message = format!(
        "{answer}; the {who} or {what} (refused {times} times{without}); so that Keystone doesn't \
         lock the user, {next}, unless {source} has another password or a sync is forced"
    );
    CloudError { refused: true, ..CloudError::new(Step::Keystone, message) }
}

#[cfg(test)]
mod tests {
    use super::{Account, MAX_PASSWORDS, MAX_SIDE_BY_SIDE, PROVEN_FOR};
    use crate::cloud::keystone::DomainSpelling::{self, Id, Name};
    use crate::cloud::provider::Provider;
    use crate::config::{Domain, User};
    use crate::secret::Secret;
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A provider whose domain is likelier an id.
    fn provider(id: &str, password: &str) -> Provider {
        Provider {
            id: id.to_owned(),
            is_of_secret: false,
            keystone_url: "http://keystone.test".to_owned(),
            user: User::Name {
                name: "admin".to_owned(),
                domain: Domain::Either("default".to_owned()),
            },
            secret: Secret::new(password.to_owned()),
            project: None,
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
        let spellings = account.spellings(provider.domain());
        account.next_check(&provider.secret, &spellings, minute * MINUTE, forced)
    }

    /// A login, and then, every minute of two days, whatever may be tried; Keystone refuses it all.
    /// The minutes and spellings of the logins without a project.
    fn refused_checks(account: &mut Account, provider: &Provider) -> Vec<(u32, DomainSpelling)> {
        let mut checks = Vec::new();
        if !account.has_refused(&provider.secret) {
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
        assert!(!account.has_refused(&new.secret));
        // Another provider of the same user is right; this one's answer is as wrong as before.
        account.accept(&provider("q", "new"), Name, 2880 * MINUTE, 2880 * MINUTE);
        assert!(account.has_refused(&old.secret));
        // A password that is used again, after another one was right.
        account.accept(&new, Name, 2880 * MINUTE, 2880 * MINUTE);
        assert!(!account.has_refused(&old.secret));
    }

    #[test]
    fn a_late_answer_to_an_earlier_login_does_not_undo_a_refusal() {
        let old = provider("p", "old");
        let mut account = accepted(&old, Name);
        account.refuse(&old, false, "", 2 * MINUTE);
        account.accept(&old, Name, MINUTE, 3 * MINUTE);
        assert!(account.has_refused(&old.secret));
        account.accept(&old, Name, 2 * MINUTE, 3 * MINUTE);
        assert!(!account.has_refused(&old.secret));
    }

    #[test]
    fn logins_run_side_by_side_with_a_password_that_was_accepted_just_now() {
        let right = provider("p", "right");
        let account = accepted(&right, Id);
        let other = Secret::new("other".to_owned());
        assert!(account.may_run_beside_others(&other, Duration::ZERO).is_none());
        assert!(account.may_run_beside_others(&right.secret, PROVEN_FOR).is_none());
        let run = || account.may_run_beside_others(&right.secret, Duration::ZERO);
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
