//! Parts of URLs: escaped once, joined without double slashes.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Uri;

/// Everything but RFC 3986's unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as one segment of a path.
pub(crate) fn path_segment(text: &str) -> String {
    match text {
        // Clients and proxies resolve these two away.
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => utf8_percent_encode(text, ESCAPED).to_string(),
    }
}

/// A text as the value of a query.
pub(crate) fn query_value(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// The base URL without slashes at its end and with `segment` as its last one, whether or not it
/// already was.
pub(crate) fn ending_in(base: &str, segment: &str) -> String {
    let base = base.trim().trim_end_matches('/');
    match base.rsplit('/').next() {
        Some(last) if last == segment => base.to_owned(),
        _ => format!("{base}/{segment}"),
    }
}

/// Does the URL name a port that is none, such as `:99999`, `:abc` or an empty one? [`Uri`] keeps such
/// a text and then says that there is no port, so that the scheme's own would be asked instead.
pub(crate) fn has_bad_port(uri: &Uri) -> bool {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    // The colons of an IPv6 address stand in brackets.
    let after_address = host_and_port.rsplit(']').next().unwrap_or_default();
    after_address.contains(':') && uri.port_u16().is_none()
}

/// The path of a URL, for messages.
pub(crate) fn path_of(url: &str) -> &str {
    let after_scheme = url.find("://").map_or(0, |start| start + 3);
    let rest = &url[after_scheme..];
    let path = rest.find('/').map_or("/", |start| &rest[start..]);
    path.split(['?', '#']).next().unwrap_or(path)
}

/// The URL as it may be shown: without the user and password, and the query, that it might hold.
pub(crate) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::{ending_in, has_bad_port, path_of, path_segment, shown};

    #[test]
    fn a_version_is_appended_exactly_once() {
        for base in ["http://h:1", "http://h:1/", "http://h:1/v3", " http://h:1/v3// "] {
            assert_eq!(ending_in(base, "v3"), "http://h:1/v3", "{base}");
        }
        assert_eq!(ending_in("https://h/identity/", "v3"), "https://h/identity/v3");
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(path_segment("a/b ?#%"), "a%2Fb%20%3F%23%25");
        assert_eq!(path_segment(".."), "%2E%2E");
    }

    #[test]
    fn a_port_is_a_number_a_connection_can_have_or_not_there_at_all() {
        let bad = |url: &str| has_bad_port(&url.parse().unwrap());
        for url in
            ["http://h", "http://h:80/a:b", "https://[fd00::1]", "https://u:p@[fd00::1]:5000"]
        {
            assert!(!bad(url), "{url}");
        }
        for url in [
            "http://h:",
            "http://h:99999/v3",
            "http://h:abc",
            "https://[fd00::1]:",
            "http://u:80@h:x",
        ] {
            assert!(bad(url), "{url}");
        }
    }

    #[test]
    fn the_path_of_a_url_has_no_query() {
        assert_eq!(path_of("https://h:1/v2.0/ports?x=1"), "/v2.0/ports");
        assert_eq!(path_of("http://h"), "/");
    }

    #[test]
    fn a_shown_url_has_no_password() {
        assert_eq!(shown("https://u:p%40x@h:5000/v3?token=x"), "https://h:5000/v3");
        assert_eq!(shown("http://h"), "http://h");
        assert_eq!(shown("u:p@h/a@b"), "h/a@b");
    }
}
