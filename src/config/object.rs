//! What one object is reconciled by: its `spec.settings` over the environment's, as far as the
//! policy lets it. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::endpoints::parts;
use super::parse::{aes_key, base_url, duration, interface, port_statuses};
use super::{Config, Required, Settings};
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

impl Config {
    /// What an object is reconciled by; the environment's own where it sets nothing else. `key` is one
    /// from a Secret, and precedes that of the object.
    ///
    /// # Errors
    /// What is wrong with its settings, or not allowed and by which variable it would be.
    pub fn settings_of(&self, spec: &Spec, key: Option<&Secret>) -> Result<Arc<Settings>, String> {
        if spec.settings.is_empty() && spec.encrypt_key.is_none() && key.is_none() {
            return Ok(Arc::clone(&self.settings));
        }
        let mut own = Settings::clone(&self.settings);
        let mut merge =
            Merge { config: self, given: &spec.settings, problems: Vec::new(), notes: Vec::new() };
        let Settings { contrabass, openstack, viola, intervals, notes } = &mut own;
        merge.endpoint("contrabassEndpoint", &mut contrabass.endpoint);
        merge.key(spec.encrypt_key.as_ref(), &mut contrabass.encrypt_key);
        if let Some(key) = key {
            contrabass.encrypt_key = Ok(key.clone());
        }
        merge.timeout("contrabassTimeout", &mut contrabass.timeout);
        merge.verification("contrabassInsecureTLS", &mut contrabass.trust);
        merge.timeout("openstackTimeout", &mut openstack.timeout);
        merge.verification("openstackInsecureTLS", &mut openstack.trust);
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
        merge.verification("violaInsecureTLS", &mut viola.trust);
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

/// Puts an object's values in the place of the environment's.
struct Merge<'a> {
    config: &'a Config,
    given: &'a Overrides,
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Merge<'_> {
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
        let is_known = parts(&url).is_some_and(|new| known.and_then(parts) == Some(new));
        let is_allowed = policy.object_settings != ObjectSettings::Tuning
            || policy.allowed_endpoints.allow(&url);
        if !is_known && !is_allowed {
            let what = format!("{} isn't in ALLOWED_ENDPOINTS, so nothing is asked", shown(&url));
            self.problem(name, &what);
        }
        (!is_known && is_allowed).then_some(url)
    }

    fn verification(&mut self, name: &str, own: &mut Trust) {
        let Some(SettingValue::Flag(is_insecure)) = self.given.get(name) else { return };
        match (*is_insecure, &*own) {
            (true, Trust::Anyone) | (false, Trust::Bundle { .. } | Trust::System) => {}
            (false, Trust::Anyone) => *own = self.config.public_roots.clone(),
            (true, _) if self.config.policy.object_settings == ObjectSettings::All => {
                *own = Trust::Anyone;
            }
            (true, _) => {
                let what = "true turns verification off, which only OBJECT_SETTINGS=all allows";
                self.problem(name, what);
            }
        }
    }
}
