//! What the text of a variable means, or what is wrong with it. Pure.

use std::fmt::Display;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ureq::http::Uri;

use super::LogFormat;
use crate::go_duration;
use crate::http::url::has_bad_port;
use crate::notifications::connection::UseTls;
use crate::resources::OBJECT_CREATION;
use crate::secret::Secret;

/// The shortest interval and timeout; a shorter one is a mistake.
const SHORTEST: Duration = Duration::from_millis(1);

/// Any text, as a text or a path.
pub(super) fn text<T: for<'a> From<&'a str>>(text: &str) -> Result<T, String> {
    Ok(text.into())
}

/// The text, if it is valid.
fn valid(text: &str, is_valid: bool, problem: &str) -> Result<String, String> {
    is_valid.then(|| text.to_owned()).ok_or_else(|| problem.to_owned())
}

pub(super) fn one_of(text: &str, values: &[&str]) -> Result<String, String> {
    valid(text, values.contains(&text), &format!("{text:?} is none of {}", values.join(", ")))
}

/// Must a port be younger than its object?
pub(super) fn created_after(text: &str) -> Result<bool, String> {
    match text {
        "" => Ok(false),
        OBJECT_CREATION => Ok(true),
        _ => Err(format!("{text:?} is neither empty nor {OBJECT_CREATION}")),
    }
}

/// Which of the catalog's URLs are used.
pub(super) fn interface(text: &str) -> Result<String, String> {
    one_of(text, &["public", "internal", "admin"])
}

/// A boolean as Go's `strconv.ParseBool` reads it.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn whole_number<T>(text: &str, low: T, high: T) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.parse().ok().filter(|number| (&low..=&high).contains(&number));
    number.ok_or_else(|| format!("{text:?} isn't a whole number from {low} to {high}"))
}

/// A share such as `50%`; none for `off`.
pub(super) fn percentage(text: &str) -> Result<Option<u8>, String> {
    if text == "off" {
        return Ok(None);
    }
    let number = text.strip_suffix('%').and_then(|number| whole_number(number, 0, 100).ok());
    number.map(Some).ok_or_else(|| format!("{text:?} is neither off nor a share from 0% to 100%"))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = go_duration::parse(text);
    duration.ok_or_else(|| format!("{text:?} isn't a duration such as 90s, 1h30m or 500ms"))
}

/// A duration that isn't zero.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    let [shown, shortest] = [interval, SHORTEST].map(go_duration::show);
    let long_enough = (interval >= SHORTEST).then_some(interval);
    long_enough.ok_or_else(|| format!("{shown} is shorter than {shortest}"))
}

/// `:18081` means all addresses, by IPv6's wildcard; the server makes it accept IPv4 as well.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let address = match text.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port: u16| (Ipv6Addr::UNSPECIFIED, port).into()),
        None => text.replace("localhost:", "127.0.0.1:").parse().ok(),
    };
    address.ok_or_else(|| format!("{text:?} isn't an address such as :18081 or 127.0.0.1:18081"))
}

/// The base URL without a slash at its end. An error doesn't show the text: it may hold a password.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    let url = text.trim().trim_end_matches('/');
    let is_valid = url.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.query().is_none()
            && !has_bad_port(&uri)
    });
    let problem = "must be an http(s) base URL without user, query or fragment, and with a port \
                   of at most 65535 if any";
    // `Uri` drops a fragment without an error.
    valid(url, is_valid && !url.contains('#'), problem)
}

/// A web origin exactly as browsers send it; written otherwise it would never match theirs.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let usual_port = if text.starts_with("https:") { ":443" } else { ":80" };
    let is_origin = text.parse::<Uri>().is_ok_and(|uri| {
        let parts = uri.scheme_str().zip(uri.authority());
        parts.is_some_and(|(scheme, authority)| format!("{scheme}://{authority}") == text)
    });
    let is_exact = is_origin
        && text == text.to_lowercase()
        && !text.contains('@')
        && !text.ends_with(usual_port);
    let problem = "is neither * nor an origin such as https://ui.example.com: scheme and host in \
                   lower case, a port only if it isn't the default, no path, no slash at the end";
    valid(text, is_exact || ["*", "null"].contains(&text), problem)
}

/// A name that Kubernetes accepts for a namespace: a label by RFC 1123.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_valid = (1..=63).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-');
    valid(text, is_valid, &format!("{text:?} isn't a valid namespace name"))
}

/// Names without those that occur twice, in alphabetical order.
pub(super) fn namespaces(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let (good, bad): (Vec<_>, Vec<_>) = names.map(namespace).partition(Result::is_ok);
    let mut good: Vec<String> = good.into_iter().flatten().collect();
    let bad: Vec<String> = bad.into_iter().filter_map(Result::err).collect();
    good.sort_unstable();
    good.dedup();
    match (bad.as_slice(), good.as_slice()) {
        // To watch all of them is more than was asked for.
        ([], []) => Err(format!("{text:?} names no namespace; leave it empty for all")),
        ([], _) => Ok(good),
        (bad, _) => Err(bad.join("; ")),
    }
}

/// Upper-case port statuses; none, for all statuses, if the list is empty or contains `*`.
pub(super) fn port_statuses(text: &str) -> Result<Option<Vec<String>>, String> {
    let statuses = text.split(',').map(|status| status.trim().to_ascii_uppercase());
    let statuses: Vec<String> = statuses.filter(|status| !status.is_empty()).collect();
    let all = statuses.is_empty() || statuses.iter().any(|status| status == "*");
    Ok((!all).then_some(statuses))
}

pub(crate) fn aes_key(text: &str) -> Result<Secret, String> {
    match text.len() {
        16 | 24 | 32 => Ok(Secret::new(text.to_owned())),
        length => Err(format!("has {length} bytes; AES needs 16, 24 or 32")),
    }
}

/// A filter of which env_logger understands every part; it would ignore the others, with only a
/// line on standard error. A lone word that isn't a level is the name of a module.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    let (directives, pattern) = text.split_once('/').unwrap_or((text, ""));
    let is_bad = |directive: &&str| {
        let level = directive.split_once('=').map_or("", |(_, level)| level.trim());
        !level.is_empty() && level.parse::<log::LevelFilter>().is_err()
    };
    let bad = directives.split(',').map(str::trim).find(is_bad);
    let bad = bad.or(pattern.contains('/').then_some(text));
    let example = "info,multinic_operator=debug";
    valid(text, bad.is_none(), &format!("{:?} isn't a filter such as {example}", bad.unwrap_or("")))
}

/// AMQP has one byte for its length.
pub(super) fn vhost(text: &str) -> Result<String, String> {
    valid(text, text.len() <= 255, "is longer than 255 bytes")
}

pub(super) fn use_tls(text: &str) -> Result<UseTls, String> {
    match (text, boolean(text)) {
        ("auto", _) => Ok(UseTls::Auto),
        (_, Ok(true)) => Ok(UseTls::Always),
        (_, Ok(false)) => Ok(UseTls::Never),
        _ => Err(format!("{text:?} is neither auto nor true nor false")),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is neither text nor json")),
    }
}
