//! Reads variables by the lines of the table and collects all that is wrong with them.

use std::ffi::OsString;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::Required;
use crate::http::trust::Trust;

/// The variables that tell a pod where the API server is; Kubernetes sets them, people don't.
pub(super) const SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";
pub(super) const SERVICE_PORT: Setting<u16> = Setting {
    name: "KUBERNETES_SERVICE_PORT",
    default: "443",
    parse: |text| text.parse().map_err(|_| format!("{text:?} isn't a port")),
};

/// In the place of bytes that aren't UTF-8.
const NO_TEXT: char = char::REPLACEMENT_CHARACTER;

/// How one variable is read.
pub(super) struct Setting<T> {
    pub(super) name: &'static str,
    /// As the variable would have it.
    pub(super) default: &'static str,
    /// An error says what is wrong with the text, without the variable's name.
    pub(super) parse: fn(&str) -> Result<T, String>,
}

pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) problems: Vec<String>,
    /// What to trust where verification is on and no CA file is set.
    pub(super) public_roots: Trust,
}

impl Reader<'_> {
    pub(super) fn new(lookup: &dyn Fn(&str) -> Option<OsString>) -> Reader<'_> {
        Reader { lookup, problems: Vec::new(), public_roots: Trust::System }
    }

    pub(super) fn problem(&mut self, name: &str, what: &str) {
        self.problems.push(format!("{name}: {what}"));
    }

    /// A variable's value as it is. In one that isn't UTF-8 [`NO_TEXT`] stands for what can't be read.
    fn given(&self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?.into_string();
        Some(value.unwrap_or_else(|value| value.to_string_lossy().into_owned()))
    }

    /// A variable's trimmed value; blank counts as not set, as in a ConfigMap's empty entry.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.given(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn parsed<T>(&mut self, setting: &Setting<T>, text: &str) -> Option<T> {
        let parsed = match text.contains(NO_TEXT) {
            true => Err("is not UTF-8 text".to_owned()),
            false => (setting.parse)(text),
        };
        parsed.map_err(|problem| self.problem(setting.name, &problem)).ok()
    }

    /// None if the variable isn't set or wrong.
    pub(super) fn optional<T>(&mut self, setting: &Setting<T>) -> Option<T> {
        let text = self.text(setting.name)?;
        self.parsed(setting, &text)
    }

    /// The default if the variable isn't set or wrong.
    pub(super) fn value<T>(&mut self, setting: &Setting<T>) -> T {
        self.optional(setting).unwrap_or_else(|| setting.default())
    }

    /// As `value`, but a blank text is parsed, too.
    pub(super) fn value_or_blank<T>(&mut self, setting: &Setting<T>) -> T {
        let given = self.given(setting.name);
        let parsed = given.and_then(|text| self.parsed(setting, &text));
        parsed.unwrap_or_else(|| setting.default())
    }

    /// Not trimmed: a space may be part of a key. The line end of a file isn't.
    pub(super) fn required<T>(&mut self, setting: &Setting<T>) -> Required<T> {
        let given = Zeroizing::new(self.given(setting.name).unwrap_or_default());
        let text = given.trim_end_matches(['\r', '\n']);
        let parsed = if text.trim().is_empty() { None } else { self.parsed(setting, text) };
        parsed.ok_or(setting.name)
    }

    /// The roots in a file, which is read once so that a wrong one is reported at start.
    pub(super) fn bundle(&mut self, setting: &Setting<PathBuf>) -> Option<Trust> {
        let trust = Trust::Bundle { variable: setting.name, path: self.optional(setting)? };
        if let Err(error) = trust.load() {
            self.problem(setting.name, &error.to_string());
        }
        Some(trust)
    }

    /// What a service's `_CA_FILE` and its `_INSECURE_TLS`, which was read before, mean together.
    pub(super) fn trust(&mut self, ca_file: &Setting<PathBuf>, insecure: bool) -> Trust {
        let Some(bundle) = self.bundle(ca_file) else {
            return if insecure { Trust::Anyone } else { self.public_roots.clone() };
        };
        let flag = ca_file.name.replace("_CA_FILE", "_INSECURE_TLS");
        if insecure && self.text(&flag).is_some() {
            let what = format!("true contradicts {}, which verifies certificates", ca_file.name);
            self.problem(&flag, &what);
        }
        bundle
    }
}

impl<T> Setting<T> {
    fn default(&self) -> T {
        let parsed = (self.parse)(self.default);
        parsed.unwrap_or_else(|problem| unreachable!("default of {}: {problem}", self.name))
    }
}
