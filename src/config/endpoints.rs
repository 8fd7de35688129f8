//! Which endpoints objects may name, by scheme, host and port. Pure.
//!
//! Hosts are compared as texts, so that no other spelling of an address passes for it.

use std::net::Ipv6Addr;

use ureq::http::Uri;

use crate::http::url::has_bad_port;

/// `ALLOWED_ENDPOINTS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedEndpoints(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Any,
    Exactly(Origin),
    /// One label before this host.
    Below(Origin),
}

/// Scheme, host and port in one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    /// In lower case; an IPv6 address in its shortest form, in brackets.
    host: String,
    port: u16,
}

impl AllowedEndpoints {
    /// A comma list of `scheme://host[:port]`; `*.` before the host stands for one label, and `*`
    /// alone for any endpoint.
    pub(super) fn read(text: &str) -> Result<AllowedEndpoints, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let pattern = |entry: &str| {
            // It isn't shown: it may hold a password.
            let problem = "has an entry that is no endpoint such as https://contrabass.example.com, \
                           https://*.example.com:8443 or *: scheme, host and port only";
            Pattern::read(entry).ok_or_else(|| problem.to_owned())
        };
        entries.map(pattern).collect::<Result<_, _>>().map(AllowedEndpoints)
    }

    /// May objects name this URL?
    pub(super) fn allow(&self, url: &str) -> bool {
        let Some((origin, _)) = parts(url) else { return false };
        self.0.iter().any(|pattern| match pattern {
            Pattern::Any => true,
            Pattern::Exactly(known) => *known == origin,
            Pattern::Below(parent) => origin.host.split_once('.').is_some_and(|(label, rest)| {
                let of_parent = Origin { host: rest.to_owned(), ..origin.clone() };
                !label.is_empty() && of_parent == *parent
            }),
        })
    }
}

impl Pattern {
    fn read(entry: &str) -> Option<Pattern> {
        if entry == "*" {
            return Some(Pattern::Any);
        }
        let (scheme, rest) = entry.split_once("://")?;
        let below = rest.strip_prefix("*.");
        let (origin, path) = parts(&format!("{scheme}://{}", below.unwrap_or(rest)))?;
        let last_label = origin.host.rsplit('.').next().unwrap_or_default();
        // An address has no labels.
        let is_address = origin.host.starts_with('[')
            || last_label.chars().all(|character| character.is_ascii_digit());
        match below {
            _ if path != "/" || rest.ends_with('/') => None,
            None => Some(Pattern::Exactly(origin)),
            Some(_) => (!is_address).then_some(Pattern::Below(origin)),
        }
    }
}

/// Where a URL leads, and its path; none for what isn't a plain http or https URL.
pub(super) fn parts(url: &str) -> Option<(Origin, String)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual_port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let has_more = uri.query().is_some() || url.contains(['@', '#']);
    if has_more || has_bad_port(&uri) {
        return None;
    }
    let host = uri.host()?.to_ascii_lowercase();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    let host = match address {
        Some(address) => format!("[{}]", address.parse::<Ipv6Addr>().ok()?),
        None if !host.is_empty() && host.chars().all(is_plain) => host,
        None => return None,
    };
    let port = uri.port_u16().unwrap_or(usual_port);
    Some((Origin { scheme, host, port }, uri.path().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::AllowedEndpoints;

    #[test]
    fn an_endpoint_is_allowed_by_scheme_host_and_port_whatever_else_it_says() {
        let listed = "https://contrabass.example.com, http://viola:8080,https://*.cloud.example:8443,\
                      http://[fd00::1]:5000,http://10.0.0.5";
        let allowed = AllowedEndpoints::read(listed).unwrap();
        for url in [
            "https://contrabass.example.com",
            "https://contrabass.example.com:443/gateway",
            "HTTPS://CONTRABASS.Example.Com",
            "http://viola:8080/a/../b",
            "https://neutron.cloud.example:8443/v2.0",
            "http://[FD00:0:0:0:0:0:0:1]:5000",
            "http://10.0.0.5:80",
        ] {
            assert!(allowed.allow(url), "{url}");
        }
        for url in [
            // Another scheme, another port.
            "http://contrabass.example.com",
            "https://contrabass.example.com:8443",
            "http://viola",
            // A user that looks like a host.
            "https://contrabass.example.com@evil.test",
            "https://contrabass.example.com:443@evil.test",
            "http://viola:8080@evil.test:8080",
            // Another name that begins or ends with a listed one.
            "https://contrabass.example.com.evil.test",
            "https://evil-contrabass.example.com",
            "https://evilcontrabass.example.com",
            "https://contrabass.example.com.",
            // Not exactly one label.
            "https://cloud.example:8443",
            "https://.cloud.example:8443",
            "https://a.b.cloud.example:8443",
            "https://evil.test/.cloud.example:8443",
            "https://evil.test?.cloud.example:8443",
            "https://evil.test#.cloud.example:8443",
            "https://evil.test\\.cloud.example:8443",
            "https://a%2eb.cloud.example:8443",
            "https://evil.test%2f.cloud.example:8443",
            // Another spelling of the host, or another host that looks like it.
            "https://contrabass%2eexample.com",
            "https://c\u{43e}ntrabass.example.com",
            "https://xn--cntrabass-4nf.example.com",
            "http://[fd00::2]:5000",
            "http://[::ffff:10.0.0.5]",
            "http://[fd00::1%25eth0]:5000",
            "http://167772165",
            "http://0x0a000005",
            "http://10.5",
            "http://012.0.0.5",
            // No URL that is asked.
            "viola:8080",
            "file:///etc/passwd",
            "gopher://viola:8080",
            "//viola:8080",
            "http://viola:8080:80",
            "http://viola:",
            "",
        ] {
            assert!(!allowed.allow(url), "{url}");
        }
        let none = AllowedEndpoints::read(" , ").unwrap();
        assert!(!none.allow("https://contrabass.example.com"));
        let any = AllowedEndpoints::read("https://a,*").unwrap();
        assert!(any.allow("http://anything.test:1") && !any.allow("http://u:p@anything.test"));
    }

    #[test]
    fn an_entry_that_says_more_or_less_than_an_endpoint_is_refused() {
        for entry in [
            "contrabass.example.com",
            "ftp://contrabass",
            "https://contrabass/gateway",
            "https://contrabass/",
            "https://user@contrabass",
            "https://*",
            "https://a.*.example",
            "https://a*.example",
            "https://*.*.example",
            "http://*.0.0.1",
            "http://*.[fd00::1]",
            "https://contrabass:99999",
            "https://b\u{fc}cher.example",
        ] {
            assert!(AllowedEndpoints::read(entry).is_err(), "{entry}");
            assert!(AllowedEndpoints::read(&format!("https://good.example,{entry}")).is_err());
        }
    }
}
