//! Which proxy, if any, a request goes through: the rules of Go's `net/http`, which the clusters'
//! users know, from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in lower case.
//!
//! Pure: the variables come in as texts, and no connection is made here. What differs from Go: only
//! proxies that are spoken to by plain HTTP can be used, and what can't is reported, not ignored.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use ureq::http::Uri;

use super::url::has_bad_port;

/// What is read, the usual spelling first, which also comes first if both are set.
const HTTP_NAMES: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const HTTPS_NAMES: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const EXCEPTION_NAMES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The proxies of the environment; by default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<ProxyServer>,
    https: Option<ProxyServer>,
    exceptions: Vec<Exception>,
}

/// A proxy that is asked by `CONNECT` over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyServer {
    /// The variable that names it, for messages.
    pub(crate) variable: &'static str,
    /// Its address, and who we are there. Its `Debug` shows neither user nor password.
    pub(crate) proxy: ureq::Proxy,
}

/// A variable, and what is wrong with it; never its value, which may hold a password.
pub(crate) type Problem = (&'static str, String);

/// What goes directly.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    /// An address, and how many of its first bits count.
    Network(IpAddr, u8, Option<u16>),
    /// Lower case, beginning with a dot; the name without it belongs to it or not.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads the variables through `lookup`, which gives none for what is blank.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> (Proxies, Vec<Problem>) {
        let mut problems = Vec::new();
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, lookup(name)?)))
        };
        let mut server = |names| {
            let (name, text) = first(names)?;
            match ProxyServer::read(name, &text) {
                Ok(server) => Some(server),
                Err(problem) => {
                    problems.push((name, problem));
                    None
                }
            }
        };
        let (http, https) = (server(HTTP_NAMES), server(HTTPS_NAMES));
        let mut exceptions = Vec::new();
        // Without a proxy the exceptions mean nothing, whatever they say.
        if (http.is_some() || https.is_some())
            && let Some((name, text)) = first(EXCEPTION_NAMES)
        {
            for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
                match Exception::read(&entry.to_lowercase()) {
                    Some(exception) => exceptions.push(exception),
                    None => problems.push((name, format!("{entry:?} names no host or network"))),
                }
            }
        }
        (Proxies { http, https, exceptions }, problems)
    }

    /// The proxy for this URL; none to go directly, as `localhost` and loopback addresses always
    /// do.
    pub(crate) fn for_url(&self, url: &str) -> Option<&ProxyServer> {
        let uri: Uri = url.parse().ok()?;
        let (proxy, usual_port) = match uri.scheme_str()? {
            "http" => (self.http.as_ref()?, 80),
            "https" => (self.https.as_ref()?, 443),
            _ => return None,
        };
        let host = uri.host()?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(usual_port);
        (!self.is_exception(&host, port)).then_some(proxy)
    }

    fn is_exception(&self, host: &str, port: u16) -> bool {
        let ip = unbracketed(host).parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        host == "localhost"
            || ip.is_some_and(|ip| ip.is_loopback())
            || self.exceptions.iter().any(|exception| exception.covers(host, ip, port))
    }

    /// Both proxies, each with the scheme of the URLs it is for.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &ProxyServer)> {
        let both = [("http", &self.http), ("https", &self.https)];
        both.into_iter().filter_map(|(scheme, proxy)| Some((scheme, proxy.as_ref()?)))
    }
}

impl ProxyServer {
    fn read(variable: &'static str, text: &str) -> Result<ProxyServer, String> {
        let wrong = || "is no URL of a proxy such as http://proxy.example.com:3128".to_owned();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !scheme.eq_ignore_ascii_case("http") {
            let mut known = ["https", "socks5", "socks5h"].into_iter();
            let kind = known.find(|known| scheme.eq_ignore_ascii_case(known));
            return Err(kind.map_or_else(wrong, |kind| {
                format!(
                    "is a proxy of the kind {kind}://, and only http:// proxies can be used \
                     (https URLs go through them as well)"
                )
            }));
        }
        // The user may be written with characters that no URL should have, so it goes off first.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let uri: Uri = format!("http://{place}/").parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let port = uri.port_u16().unwrap_or(80);
        if port == 0 || has_bad_port(&uri) {
            return Err(wrong());
        }
        let decoded = |text| percent_decode_str(text).decode_utf8().map_err(|_| wrong());
        let mut proxy = ureq::Proxy::builder(ureq::ProxyProtocol::Http).host(host).port(port);
        if let Some((user, password)) = login.map(|it| it.split_once(':').unwrap_or((it, ""))) {
            proxy = proxy.username(&decoded(user)?);
            if !password.is_empty() {
                proxy = proxy.password(&decoded(password)?);
            }
        }
        Ok(ProxyServer { variable, proxy: proxy.build().map_err(|_| wrong())? })
    }
}

impl Exception {
    /// One entry, in lower case; none if it can't mean anything.
    fn read(entry: &str) -> Option<Exception> {
        if entry == "*" {
            return Some(Exception::Everything);
        }
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Exception::Network(address, bits, None));
        }
        let (host, port) = match entry.rsplit_once(':') {
            // The colons of an IPv6 address.
            _ if unbracketed(entry).parse::<IpAddr>().is_ok() => (entry, None),
            None => (entry, None),
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.parse().ok()?)),
        };
        if let Ok(address) = unbracketed(host).parse::<IpAddr>() {
            return Some(Exception::Network(address.to_canonical(), 128, port));
        }
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
        let name = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        if name.trim_matches('.').is_empty() || !name.chars().all(is_name) {
            return None;
        }
        let itself = !name.starts_with('.');
        let suffix = if itself { format!(".{name}") } else { name.to_owned() };
        Some(Exception::Domain { suffix, itself, port })
    }

    fn covers(&self, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
        let same_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match (self, ip) {
            (Exception::Everything, _) => true,
            (Exception::Network(network, bits, wanted), Some(ip)) => {
                is_within(ip, *network, *bits) && same_port(wanted)
            }
            (Exception::Domain { suffix, itself, port: wanted }, None) => {
                let is_below = host.ends_with(suffix.as_str());
                (is_below || (*itself && host == &suffix[1..])) && same_port(wanted)
            }
            _ => false,
        }
    }
}

fn is_within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    let differs = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            u128::from(ip.to_bits() ^ network.to_bits()) << (u128::BITS - u32::BITS)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => ip.to_bits() ^ network.to_bits(),
        _ => return false,
    };
    differs.leading_zeros() >= u32::from(bits)
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::{Problem, Proxies};

    fn read(variables: &[(&str, &str)]) -> (Proxies, Vec<Problem>) {
        let text = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Proxies::read(text)
    }

    fn with_exceptions(exceptions: &str) -> Proxies {
        let (proxies, problems) = read(&[
            ("HTTP_PROXY", "http://plain.proxy:3128"),
            ("HTTPS_PROXY", "http://secure.proxy:3129"),
            ("NO_PROXY", exceptions),
        ]);
        assert!(problems.is_empty(), "{problems:?}");
        proxies
    }

    fn goes_directly(exceptions: &str, url: &str) -> bool {
        with_exceptions(exceptions).for_url(url).is_none()
    }

    #[test]
    fn the_scheme_of_the_url_says_which_proxy() {
        let proxies = with_exceptions("");
        let host = |url: &str| proxies.for_url(url).map(|server| server.proxy.host().to_owned());
        assert_eq!(host("http://viola.example/x").as_deref(), Some("plain.proxy"));
        assert_eq!(host("https://viola.example/x").as_deref(), Some("secure.proxy"));
        let (only_secure, _) = read(&[("https_proxy", "secure.proxy:3129")]);
        assert!(only_secure.for_url("http://viola.example").is_none());
        assert!(only_secure.for_url("https://viola.example").is_some());
        assert!(Proxies::default().for_url("https://viola.example").is_none());
        assert!(read(&[("ALL_PROXY", "http://p:1")]).0.for_url("http://viola.example").is_none());
    }

    #[test]
    fn upper_case_comes_before_lower_case_and_both_are_read() {
        let (both, _) = read(&[("HTTP_PROXY", "upper:1"), ("http_proxy", "lower:1")]);
        assert_eq!(both.for_url("http://h").unwrap().proxy.host(), "upper");
        let (lower, _) = read(&[("http_proxy", "lower:1"), ("no_proxy", "h")]);
        assert_eq!(lower.for_url("http://other").unwrap().variable, "http_proxy");
        assert!(lower.for_url("http://h").is_none());
    }

    #[test]
    fn loopback_is_never_asked_for_elsewhere() {
        let proxies = with_exceptions("");
        for url in [
            "http://localhost:8001",
            "http://LOCALHOST",
            "https://127.0.0.1",
            "http://127.9.9.9:1/x",
            "https://[::1]:6443",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(proxies.for_url(url).is_none(), "{url}");
        }
        assert!(proxies.for_url("http://localhost.example").is_some());
    }

    /// What Go's documentation of `httpproxy.Config` says, line by line, and what clusters set.
    #[test]
    fn exceptions_are_understood_as_go_does() {
        let cases = [
            // A domain name matches that name and all subdomains; a leading dot subdomains only.
            ("foo.com", "http://foo.com", true),
            ("foo.com", "http://bar.foo.com", true),
            ("foo.com", "http://notfoo.com", false),
            ("FOO.com", "http://Bar.Foo.COM", true),
            (".y.com", "http://x.y.com", true),
            (".y.com", "http://y.com", false),
            ("*.y.com", "http://x.y.com", true),
            ("*.y.com", "http://y.com", false),
            // Within clusters.
            (".svc,.cluster.local", "http://contrabass.cloud.svc:8080", true),
            (".svc,.cluster.local", "https://viola.cloud.svc.cluster.local", true),
            ("svc", "https://kubernetes.default.svc", true),
            (".svc", "https://keystone.example.com", false),
            // Addresses and networks; a name isn't resolved for them.
            ("10.96.0.1", "https://10.96.0.1:443", true),
            ("10.96.0.1", "https://10.96.0.10:443", false),
            ("10.0.0.0/8, 192.168.0.0/16", "https://10.96.0.1", true),
            ("10.0.0.0/8, 192.168.0.0/16", "https://192.168.7.7", true),
            ("10.0.0.0/8", "https://11.0.0.1", false),
            ("10.0.0.0/8", "http://10.example", false),
            ("10.96.128.0/17", "https://10.96.127.255", false),
            ("0.0.0.0/0", "https://203.0.113.9", true),
            ("0.0.0.0/0", "https://[fd00::1]", false),
            ("10.1.2.3/32", "https://10.1.2.3", true),
            ("fd00::/8", "https://[fd12::5]:6443", true),
            ("fd00::/8", "https://[fe80::5]", false),
            ("::/0", "https://[2001:db8::1]", true),
            ("10.0.0.0/8", "http://[::ffff:10.1.1.1]", true),
            ("fd00::1", "https://[fd00:0::1]", true),
            ("[fd00::1]:443", "https://[fd00::1]", true),
            ("[fd00::1]:444", "https://[fd00::1]", false),
            // A port narrows it; the scheme stands for a port that isn't written.
            ("foo.com:80", "http://foo.com", true),
            ("foo.com:80", "https://foo.com", false),
            ("foo.com:443", "https://a.foo.com", true),
            ("10.0.0.1:8080", "http://10.0.0.1:8080", true),
            ("10.0.0.1:8080", "http://10.0.0.1", false),
            // One star alone is everything; blanks and empty entries are nothing.
            ("*", "https://203.0.113.9", true),
            ("a.example, *", "https://foo.com", true),
            (" , foo.com ,", "http://foo.com", true),
            ("", "http://foo.com", false),
        ];
        for (exceptions, url, directly) in cases {
            assert_eq!(goes_directly(exceptions, url), directly, "{exceptions:?} {url}");
        }
    }

    #[test]
    fn a_proxy_is_written_in_any_of_the_usual_ways() {
        let cases = [
            ("http://p.example:3128", "p.example", 3128, None, None),
            ("p.example:3128", "p.example", 3128, None, None),
            ("HTTP://p.example/", "p.example", 80, None, None),
            ("http://10.0.0.9:8080/x", "10.0.0.9", 8080, None, None),
            ("http://[fd00::9]:8080", "[fd00::9]", 8080, None, None),
            ("http://me@p.example:1", "p.example", 1, Some("me"), None),
            ("http://me:p%40ss%3aw@p.example:1", "p.example", 1, Some("me"), Some("p@ss:w")),
            ("me:a:b@p.example:1", "p.example", 1, Some("me"), Some("a:b")),
        ];
        for (text, host, port, user, password) in cases {
            let (proxies, problems) = read(&[("HTTPS_PROXY", text)]);
            assert!(problems.is_empty(), "{text}: {problems:?}");
            let proxy = &proxies.for_url("https://h").unwrap().proxy;
            assert_eq!((proxy.host(), proxy.port()), (host, port), "{text}");
            assert_eq!((proxy.username(), proxy.password()), (user, password), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_a_problem_of_its_variable_without_its_value() {
        for text in [
            "https://me:hunter2@p.example",
            "socks5://me:hunter2@p.example:1080",
            "http://",
            "http://me:hunter2@",
            "http://me:hunter2@p.example:port",
            "http://me:hunter2@p.example:70000",
            "http://me:hunter2@p.example:0",
            "http://me:hunter2@p exa mple",
            "http://me:%ffhunter2@p.example:1",
            "ftp://me:hunter2@p.example",
        ] {
            let (proxies, problems) = read(&[("https_proxy", text)]);
            assert_eq!(problems.len(), 1, "{text}");
            assert_eq!(problems[0].0, "https_proxy", "{text}");
            assert!(!problems[0].1.contains("hunter2"), "{}", problems[0].1);
            assert_eq!(proxies, Proxies::default(), "{text}");
        }
        let exceptions = "10.0.0.0/33,fd00::/129,http://x/,a b,*x,:80,foo.com:http,ok.example";
        let (_, problems) = read(&[("HTTP_PROXY", "p:1"), ("NO_PROXY", exceptions)]);
        assert_eq!(problems.len(), 7, "{problems:?}");
        assert!(problems.iter().all(|(name, _)| *name == "NO_PROXY"));
        // Without a proxy it doesn't matter.
        assert!(read(&[("NO_PROXY", exceptions)]).1.is_empty());
    }

    #[test]
    fn no_debug_text_shows_the_password() {
        let (proxies, _) = read(&[("HTTP_PROXY", "http://me:hunter2@p:1")]);
        assert!(!format!("{proxies:?}").contains("hunter2"));
    }
}
