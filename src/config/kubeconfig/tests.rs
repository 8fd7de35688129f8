//! The current context of a kubeconfig, and what is refused without a word of it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::read;
use crate::http::trust::Trust;
use crate::kube::access::Access;

const TOKEN: &str = "t0ken-s3cret";

fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: main\nclusters:\n- name: biz\n  cluster:\n    \
         server: https://api.biz.test:6443/\n{cluster}contexts:\n- name: other\n  context: {{cluster: x, \
         user: y}}\n- name: main\n  context: {{cluster: biz, user: deployer, namespace: there}}\n\
         users:\n- name: deployer\n  user:\n{user}"
    )
}

fn access(text: &str) -> Result<Access, String> {
    read(text, "Secret team/biz", &Trust::System, &Arc::default())
}

/// Why it can't be used, which quotes none of it.
fn problem(text: &str) -> String {
    let problem = access(text).unwrap_err();
    for shown in [TOKEN, "biz.test", "deployer", "curl"] {
        assert!(!problem.contains(shown), "{problem}");
    }
    problem
}

fn token() -> String {
    format!("    token: {TOKEN}\n")
}

/// A certificate of itself, and its key, in PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["biz.test".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn the_current_context_names_server_and_token() {
    let access = access(&kubeconfig("", &token())).unwrap();
    assert_eq!(access.api_url, "https://api.biz.test:6443");
    assert_eq!(access.credentials.token.unwrap().expose(), TOKEN);
    assert_eq!((access.token_file, access.trust), (None, Trust::System));
}

#[test]
fn json_is_yaml_and_a_single_context_needs_no_name() {
    let text = r#"{"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:8001"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "only", "context": {"cluster": "c", "user": "u"}}]}"#;
    assert_eq!(access(text).unwrap().api_url, "http://127.0.0.1:8001");
    let two = text.replace(r#""contexts": ["#, r#""contexts": [{"name": "two", "context": {}}, "#);
    assert!(problem(&two).starts_with("current-context is missing"), "{}", problem(&two));
}

#[test]
fn certificates_are_inside_and_belong_together() {
    let ((pem, key), (_, other)) = (certificate(), certificate());
    let [ca, key, other] = [&pem, &key, &other].map(|text| STANDARD.encode(text));
    let cluster =
        format!("    certificate-authority-data: {ca}\n    tls-server-name: kubernetes\n");
    let with = |key: &str| {
        let user = format!("    client-certificate-data: {ca}\n    client-key-data: {key}\n");
        kubeconfig(&cluster, &user)
    };
    let good = access(&with(&key)).unwrap();
    assert!(matches!(&good.trust, Trust::Pem { pem: read, .. } if *read == pem));
    assert_eq!(good.api_url, "https://kubernetes:6443");
    let tls = good.credentials.tls;
    assert_eq!(tls.server_name.unwrap().host, "api.biz.test");
    assert!(tls.certificate.is_some() && good.credentials.token.is_none());
    assert!(problem(&with(&other)).contains("don't belong together"));
    assert!(problem(&with("!")).contains("users.user.client-key-data"), "{}", problem(&with("!")));
    let lone = kubeconfig("", &format!("    client-certificate-data: {ca}\n"));
    assert!(problem(&lone).starts_with("users.user.client-key-data is missing"));
    let broken = STANDARD.encode("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");
    let broken = kubeconfig(&format!("    certificate-authority-data: {broken}\n"), &token());
    assert!(problem(&broken).contains("certificate-authority-data"), "{}", problem(&broken));
}

#[test]
fn what_it_only_names_is_refused_by_key_and_line() {
    for (key, value) in [
        ("exec", "{command: curl, args: [a]}"),
        ("auth-provider", "{name: gcp}"),
        ("client-certificate", "/etc/curl.pem"),
        ("client-key", "/etc/curl.key"),
        ("tokenFile", "/var/run/curl"),
        ("username", "curl"),
        ("password", "curl"),
        ("as", "curl"),
        ("as-uid", "curl"),
        ("as-groups", "[curl]"),
        ("as-user-extra", "{curl: [a]}"),
    ] {
        let text = kubeconfig("", &format!("{}    {key}: {value}\n", token()));
        let said = problem(&text);
        assert!(said.starts_with(&format!("users.user.{key} (line 17) isn't read: ")), "{said}");
    }
    for (key, value) in [
        ("certificate-authority", "/etc/curl.pem"),
        ("proxy-url", "http://curl:3128"),
        ("insecure-skip-tls-verify", "true"),
    ] {
        let said = problem(&kubeconfig(&format!("    {key}: {value}\n"), &token()));
        assert!(said.starts_with(&format!("clusters.cluster.{key} (line 8) ")), "{said}");
    }
    let verified = kubeconfig("    insecure-skip-tls-verify: false\n", &token());
    assert!(access(&verified).is_ok());
}

#[test]
fn what_is_missing_or_ambiguous_is_named() {
    let good = kubeconfig("", &token());
    let cases = [
        (
            good.replace("    server: https://api.biz.test:6443/\n", "    x: y\n"),
            "clusters.cluster.server is missing",
        ),
        (
            good.replace("https://api", "ssh://api"),
            "clusters.cluster.server (line 7) must be an http(s)",
        ),
        (
            good.replace("https://", "https://deployer:pw@"),
            "clusters.cluster.server (line 7) must be",
        ),
        (
            good.replace("current-context: main", "current-context: none"),
            "current-context (line 3) names none of contexts",
        ),
        (
            good.replace("name: other", "name: main"),
            "current-context (line 3) names several of contexts",
        ),
        (
            good.replace("user: deployer", "user: nobody"),
            "contexts.context.user (line 12) names none of users",
        ),
        (good.replace(&token(), "    x: y\n"), "users.user (line 16) has no credentials"),
        (good.replace("clusters:", "clusters: {}\nothers:"), "clusters (line 4) is no list"),
        ("[]".to_owned(), "the document is no map"),
        (String::new(), "the document is no map"),
        (good.replace("  cluster:", "\tcluster:"), "line 6 is indented with a tab"),
    ];
    for (text, expected) in cases {
        let said = problem(&text);
        assert!(said.starts_with(expected), "{said}, not {expected}");
    }
}
