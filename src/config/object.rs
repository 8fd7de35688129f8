//! What one object is reconciled by: its `spec.settings` over the environment's, as far as the
//! policy lets it. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::clouds_yaml::{CloudEntry, Located, Project, User};
use super::endpoints::parts;
use super::parse::{aes_key, base_url, duration, interface, port_statuses};
use super::{Config, Policy, Required, Settings};
use crate::go_duration::show;
use crate::http::trust::Trust;
use crate::http::url::shown;
use crate::resources::{Overrides, SettingValue, Spec};
use crate::secret::Secret;

/// Objects may not be polled more often than this, or than the environment has it.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(5);
/// No call of an object may take longer than this, or than the environment has it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);
/// As for `DOWN_PORT_FAST_RETRY_MAX`.
const MOST_RETRIES: i64 = 1_000_000;

/// `OBJECT_SETTINGS`: what objects may set otherwise than the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectSettings {
    /// Nothing, but verification may be turned on.
    None,
    /// What harms no one else; endpoints that are listed.
    Tuning,
    /// Everything: any endpoint, also without verification.
    All,
}

impl ObjectSettings {
    pub(super) fn read(text: &str) -> Result<ObjectSettings, String> {
        match text {
            "none" => Ok(ObjectSettings::None),
            "tuning" => Ok(ObjectSettings::Tuning),
            "all" => Ok(ObjectSettings::All),
            _ => Err(format!("{text:?} is none of none, tuning, all")),
        }
    }
}

/// What Secrets have for an object.
#[derive(Clone, Debug, Default)]
pub struct FoundSecrets {
    /// The key for Contrabass' secrets. Precedes that of the object.
    pub key: Option<Secret>,
    /// The cloud in place of Contrabass'.
    pub cloud: Option<Arc<FoundCloud>>,
}

/// A cloud of a `clouds.yaml`.
#[derive(Debug)]
pub struct FoundCloud {
    /// Which cloud of which Secret, for messages.
    pub place: String,
    /// What it says of itself.
    pub(crate) entry: CloudEntry,
    /// The Secret's root certificates, or the public ones.
    pub trust: Trust,
}

/// How to log in to a cloud of a `clouds.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which cloud of which Secret, for messages. Others' look-ups, logins and tokens aren't shared.
    pub place: String,
    /// Keystone's URL.
    pub auth_url: String,
    /// Who logs in.
    pub user: User,
    /// The password, or the application credential's secret.
    pub secret: Secret,
    /// The project of the token; none: that of the object, or of the application credential.
    pub project: Option<Project>,
}

impl Config {
    /// What an object is reconciled by; the environment's own where it sets nothing else.
    ///
    /// # Errors
    /// What is wrong with its settings, or not allowed and by which variable it would be.
    pub fn settings_of(&self, spec: &Spec, found: &FoundSecrets) -> Result<Arc<Settings>, String> {
        let FoundSecrets { key, cloud } = found;
        let sets_nothing = spec.settings.is_empty() && spec.encrypt_key.is_none();
        if sets_nothing && key.is_none() && cloud.is_none() {
            return Ok(Arc::clone(&self.settings));
        }
        let mut own = Settings::clone(&self.settings);
        let mut merge =
            Merge { config: self, given: &spec.settings, problems: Vec::new(), notes: Vec::new() };
        let mut openstack_roots = self.public_roots.clone();
        if let Some(cloud) = cloud {
            openstack_roots = cloud.trust.clone();
            let region = spec.identity_ref.as_ref().and_then(|named| named.region.clone());
            merge.cloud(cloud, region, &mut own);
        }
        let Settings { contrabass, openstack, viola, intervals, notes, .. } = &mut own;
        merge.endpoint("contrabassEndpoint", &mut contrabass.endpoint);
        merge.key(spec.encrypt_key.as_ref(), &mut contrabass.encrypt_key);
        if let Some(key) = key {
            contrabass.encrypt_key = Ok(key.clone());
        }
        merge.timeout("contrabassTimeout", &mut contrabass.timeout);
        let (environment, public_roots) = (&*self.settings, &self.public_roots);
        let was = &environment.contrabass.trust;
        merge.verification("contrabassInsecureTLS", &mut contrabass.trust, was, public_roots);
        merge.timeout("openstackTimeout", &mut openstack.timeout);
        let was = &environment.openstack.trust;
        merge.verification("openstackInsecureTLS", &mut openstack.trust, was, &openstack_roots);
        merge.catalog_endpoint("openstackNeutronEndpoint", &mut openstack.neutron_endpoint);
        merge.catalog_endpoint("openstackNovaEndpoint", &mut openstack.nova_endpoint);
        merge.text("openstackEndpointInterface", &mut openstack.interface, interface);
        let some = |text: &str| Ok(Some(text.to_owned()));
        merge.text("openstackEndpointRegion", &mut openstack.region, some);
        let key = &mut openstack.node_name_metadata_key;
        merge.text("openstackNodeNameMetadataKey", key, some);
        merge.statuses("openstackPortAllowedStatuses", &mut openstack.port_statuses);
        merge.endpoint("violaEndpoint", &mut viola.endpoint);
        merge.timeout("violaTimeout", &mut viola.timeout);
        let was = &environment.viola.trust;
        merge.verification("violaInsecureTLS", &mut viola.trust, was, public_roots);
        merge.retries("downPortFastRetryMax", &mut intervals.down_port_fast_retries);
        merge.interval("pollFastInterval", &mut intervals.fast);
        merge.interval("pollSlowInterval", &mut intervals.slow);
        merge.interval("pollErrorInterval", &mut intervals.error);
        merge.text("pollFastWindow", &mut intervals.fast_window, duration);
        if intervals.slow < intervals.fast {
            let [slow, fast] = [intervals.slow, intervals.fast].map(show);
            let what = format!("{slow} is shorter than the fast interval, so {fast} is used");
            merge.note("pollSlowInterval", &what);
            intervals.slow = intervals.fast;
        }
        *notes = merge.notes;
        match merge.problems.as_slice() {
            [] if own == *self.settings => Ok(Arc::clone(&self.settings)),
            [] => Ok(Arc::new(own)),
            problems => Err(problems.join("; ")),
        }
    }
}

impl Policy {
    /// May objects name this endpoint?
    fn allows(&self, url: &str) -> bool {
        self.object_settings == ObjectSettings::All || self.allowed_endpoints.allow(url)
    }
}

/// Do both URLs lead to the same place?
fn is_same(url: &str, known: Option<&str>) -> bool {
    parts(url).is_some_and(|new| known.and_then(parts) == Some(new))
}

/// Puts an object's values in the place of the environment's.
struct Merge<'a> {
    config: &'a Config,
    given: &'a Overrides,
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Merge<'_> {
    /// Puts a cloud of a `clouds.yaml` in the place of Contrabass'. Other endpoints than the
    /// environment's must be listed: who has the cloud's Neutron decides what nodes get.
    fn cloud(&mut self, cloud: &FoundCloud, region: Option<String>, own: &mut Settings) {
        let FoundCloud { place, entry, trust } = cloud;
        let problem = |what: &str| format!("{place}: {what}");
        let openstack = &mut own.openstack;
        openstack.trust = trust.clone();
        if let Some(unverified) = &entry.unverified {
            if !self.may_be_unverified(&self.config.settings.openstack.trust) {
                let what = "turns verification off, which only OBJECT_SETTINGS=all allows";
                self.problems.push(problem(&format!("{unverified} and {what}")));
            }
            openstack.trust = Trust::Anyone;
        }
        let endpoints = [
            (Some(&entry.auth_url), None),
            (entry.network_endpoint.as_ref(), Some(&mut openstack.neutron_endpoint)),
            (entry.compute_endpoint.as_ref(), Some(&mut openstack.nova_endpoint)),
        ];
        for (given, environment) in endpoints {
            let Some(Located { url, place }) = given else { continue };
            let known = environment.as_ref().and_then(|known| known.as_deref());
            if !is_same(url, known) && !self.config.policy.allows(url) {
                let what = "isn't in ALLOWED_ENDPOINTS, so nothing is asked";
                self.problems.push(problem(&format!("{place} {what}")));
            }
            if let Some(environment) = environment {
                *environment = Some(url.clone());
            }
        }
        if let Some(interface) = &entry.interface {
            openstack.interface = interface.clone();
        }
        if let Some(region) = region.or_else(|| entry.region.clone()) {
            openstack.region = Some(region);
        }
        own.identity = Some(Arc::new(Identity {
            place: place.clone(),
            auth_url: entry.auth_url.url.clone(),
            user: entry.user.clone(),
            secret: entry.secret.clone(),
            project: entry.project.clone(),
        }));
    }

    fn may_be_unverified(&self, environment: &Trust) -> bool {
        self.config.policy.object_settings == ObjectSettings::All || *environment == Trust::Anyone
    }

    fn problem(&mut self, name: &str, what: &str) {
        self.problems.push(format!("spec.settings.{name}: {what}"));
    }

    fn note(&mut self, name: &str, what: &str) {
        self.notes.push(format!("spec.settings.{name}: {what}"));
    }

    fn put<T: PartialEq>(&mut self, name: &str, own: &mut T, value: T) {
        if *own == value {
            return;
        }
        match self.config.policy.object_settings {
            ObjectSettings::None => {
                let what = "differs from the operator's own, which OBJECT_SETTINGS=none doesn't \
                            allow; OBJECT_SETTINGS=tuning would";
                self.problem(name, what);
            }
            ObjectSettings::Tuning | ObjectSettings::All => *own = value,
        }
    }

    fn text<T: PartialEq>(
        &mut self,
        name: &str,
        own: &mut T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) {
        let Some(SettingValue::Text(text)) = self.given.get(name) else { return };
        match parse(text) {
            Ok(value) => self.put(name, own, value),
            Err(problem) => self.problem(name, &problem),
        }
    }

    /// A time that isn't zero; what is zero counts as not set, and that is noted.
    fn time(
        &mut self,
        name: &str,
        own: &mut Duration,
        is_good: impl Fn(Duration) -> Option<String>,
    ) {
        let before = *own;
        let mut is_zero = false;
        self.text(name, own, |text| match duration(text)? {
            Duration::ZERO => {
                is_zero = true;
                Ok(before)
            }
            time => is_good(time).map_or(Ok(time), Err),
        });
        if is_zero {
            self.note(name, &format!("is zero, so {} is used", show(before)));
        }
    }

    fn interval(&mut self, name: &str, own: &mut Duration) {
        let shortest = SHORTEST_INTERVAL.min(*own);
        self.time(name, own, |time| {
            let [shown, shortest_shown] = [time, shortest].map(show);
            (time < shortest).then(|| format!("{shown} is shorter than {shortest_shown}"))
        });
    }

    fn timeout(&mut self, name: &str, own: &mut Duration) {
        let longest = LONGEST_TIMEOUT.max(*own);
        self.time(name, own, |time| {
            let [shown, longest_shown] = [time, longest].map(show);
            (time > longest).then(|| format!("{shown} is longer than {longest_shown}"))
        });
    }

    fn retries(&mut self, name: &str, own: &mut u32) {
        let Some(SettingValue::Number(number)) = self.given.get(name) else { return };
        if i64::from(*own) == *number {
            return;
        }
        match u32::try_from(*number) {
            Ok(0) | Err(_) if *number < 1 => {
                self.note(name, &format!("{number} is less than 1, so 1 is used"));
                self.put(name, own, 1);
            }
            Ok(value) if *number <= MOST_RETRIES => self.put(name, own, value),
            _ => self.problem(name, &format!("{number} is more than {MOST_RETRIES}")),
        }
    }

    fn statuses(&mut self, name: &str, own: &mut Option<Vec<String>>) {
        let Some(SettingValue::List(list)) = self.given.get(name) else { return };
        match port_statuses(&list.join(",")) {
            Ok(statuses) => self.put(name, own, statuses),
            Err(problem) => self.problem(name, &problem),
        }
    }

    fn key(&mut self, given: Option<&Secret>, own: &mut Required<Secret>) {
        match given.map(|key| aes_key(key.expose())) {
            None => {}
            Some(Ok(key)) => self.put("contrabassEncryptKey", own, Ok(key)),
            Some(Err(problem)) => self.problem("contrabassEncryptKey", &problem),
        }
    }

    fn endpoint(&mut self, name: &str, own: &mut Required<String>) {
        let known = own.as_ref().ok().cloned();
        if let Some(url) = self.other_endpoint(name, known.as_deref()) {
            self.put(name, own, Ok(url));
        }
    }

    fn catalog_endpoint(&mut self, name: &str, own: &mut Option<String>) {
        if let Some(url) = self.other_endpoint(name, own.as_deref()) {
            self.put(name, own, Some(url));
        }
    }

    /// The endpoint of the object, if it is another one than the environment's and allowed.
    fn other_endpoint(&mut self, name: &str, known: Option<&str>) -> Option<String> {
        let Some(SettingValue::Text(text)) = self.given.get(name) else { return None };
        let url = match base_url(text) {
            Ok(url) => url,
            Err(problem) => {
                self.problem(name, &problem);
                return None;
            }
        };
        let policy = &self.config.policy;
        let is_known = is_same(&url, known);
        // What `none` thinks of it, `put` says.
        let is_allowed = policy.object_settings == ObjectSettings::None || policy.allows(&url);
        if !is_known && !is_allowed {
            let what = format!("{} isn't in ALLOWED_ENDPOINTS, so nothing is asked", shown(&url));
            self.problem(name, &what);
        }
        (!is_known && is_allowed).then_some(url)
    }

    /// `environment`'s own is always allowed. `roots`: what to trust where it is turned on.
    fn verification(&mut self, name: &str, own: &mut Trust, environment: &Trust, roots: &Trust) {
        let Some(SettingValue::Flag(is_insecure)) = self.given.get(name) else { return };
        match (*is_insecure, &*own) {
            (false, Trust::Anyone) => *own = roots.clone(),
            (true, Trust::Anyone) | (false, _) => {}
            (true, _) if self.may_be_unverified(environment) => *own = Trust::Anyone,
            (true, _) => {
                let what = "true turns verification off, which only OBJECT_SETTINGS=all allows";
                self.problem(name, what);
            }
        }
    }
}
