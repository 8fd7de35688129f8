//! Clouds as people write them, and what must not be shown of them.

use super::{CloudEntry, Domain, Project, User, read};

const SECRET: &str = "s3cret-w0rd";

fn password(lines: &str) -> String {
    format!(
        "clouds:\n  prod:\n    auth:\n      auth_url: http://keystone:5000/v3/\n      \
         username: demo\n      password: {SECRET}\n      project_name: team\n{lines}"
    )
}

fn entry(text: &str) -> CloudEntry {
    read(text, "prod", false).unwrap()
}

/// Why it can't be read, which quotes none of it.
fn problem(text: &str) -> String {
    let problem = read(text, "prod", false).unwrap_err();
    for shown in [SECRET, "keystone:5000", "demo", "team"] {
        assert!(!problem.contains(shown), "{problem}");
    }
    problem
}

fn name(name: &str, domain: Domain) -> User {
    User::Name { name: name.to_owned(), domain }
}

fn id(id: &str) -> Domain {
    Domain::Id(id.to_owned())
}

#[test]
fn a_password_comes_with_names_or_ids() {
    let entry = entry(&password(""));
    assert_eq!(entry.auth_url.url, "http://keystone:5000/v3");
    assert_eq!(entry.user, name("demo", id("default")));
    assert_eq!(entry.secret.expose(), SECRET);
    let project = Project::Name { name: "team".to_owned(), domain: id("default") };
    assert_eq!(entry.project, Some(project));
    assert_eq!((entry.region, entry.interface, entry.unverified), (None, None, None));

    let ids = self::entry(
        "clouds: {prod: {auth: {auth_url: 'https://k', user_id: u1, username: x, password: p,\
         project_id: p1, project_name: y}, auth_type: v3password}}",
    );
    assert_eq!(ids.user, User::Id("u1".to_owned()));
    assert_eq!(ids.project, Some(Project::Id("p1".to_owned())));
}

#[test]
fn a_domain_is_that_of_the_user_or_project_or_both() {
    let domains = |lines: &str| {
        let entry = entry(&password(lines));
        let (User::Name { domain: user, .. }, Some(Project::Name { domain: project, .. })) =
            (entry.user, entry.project)
        else {
            panic!("no names");
        };
        (user, project)
    };
    let named = |text: &str| Domain::Name(text.to_owned());
    let own = domains("      user_domain_name: U\n      project_domain_id: p\n");
    assert_eq!(own, (named("U"), id("p")));
    assert_eq!(domains("      domain_name: D\n"), (named("D"), named("D")));
    let first = domains("      default_domain_id: d\n      user_domain_id: u\n");
    assert_eq!(first, (id("u"), id("d")));
}

#[test]
fn an_application_credential_comes_by_id_or_by_name_and_user() {
    let entry = |lines: &str| {
        entry(&format!(
            "clouds:\n  prod:\n    auth:\n      auth_url: http://k\n      \
             application_credential_secret: '{SECRET}'\n      project_id: ignored\n{lines}"
        ))
    };
    let by_id = entry("      application_credential_id: a1\n");
    assert_eq!(by_id.user, User::ApplicationCredential("a1".to_owned()));
    assert_eq!((by_id.secret.expose(), by_id.project), (SECRET, None));
    let by_name = entry(
        "      application_credential_name: app\n      username: demo\n      \
         user_domain_name: D\n    auth_type: v3applicationcredential\n",
    );
    let user = Box::new(name("demo", Domain::Name("D".to_owned())));
    let expected = User::ApplicationCredentialOf { name: "app".to_owned(), user };
    assert_eq!(by_name.user, expected);
}

#[test]
fn what_else_counts_is_read_and_the_rest_is_ignored() {
    let lines = "    region_name: R1\n    interface: internalURL\n    verify: False\n    \
                 network_endpoint_override: http://n:9696/\n    \
                 compute_endpoint_override: http://c:8774/v2.1\n    \
                 identity_api_version: 3\n    networks: [{name: x}]\n    profile:\n    \
                 cacert: \"\"\n  other: 7\ncache: {}\n---\nanother: document\n";
    let entry = entry(&password(lines));
    assert_eq!(entry.region.as_deref(), Some("R1"));
    assert_eq!(entry.interface.as_deref(), Some("internal"));
    assert_eq!(entry.unverified.as_deref(), Some("clouds.prod.verify (line 10) is false"));
    assert_eq!(entry.network_endpoint.unwrap().url, "http://n:9696");
    let compute = entry.compute_endpoint.unwrap();
    assert_eq!(compute.place, "clouds.prod.compute_endpoint_override (line 12)");
}

#[test]
fn a_password_is_taken_as_it_is_written() {
    for (written, password) in [
        ("0012", "0012"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("'null'", "null"),
        ("' a '", " a "),
        ("\"\\u00e4\\\"\"", "ä\""),
        ("a#b:c", "a#b:c"),
        ("&p word", "word"),
        ("|-\n        two\n        lines", "two\nlines"),
    ] {
        let text = self::password("").replace(SECRET, written);
        assert_eq!(entry(&text).secret.expose(), password, "{written}");
    }
}

#[test]
fn an_alias_stands_for_what_it_names() {
    let text = format!(
        "base: &base\n  auth_url: http://k\n  username: u\n  project_id: p\n  \
         password: {SECRET}\nclouds:\n  prod:\n    auth: *base\n"
    );
    assert_eq!(entry(&text).secret.expose(), SECRET);
    let merged = text.replace("auth: *base", "auth:\n      <<: *base");
    assert_eq!(problem(&merged), "line 9 merges keys by <<, which isn't supported");
    let itself = text.replace("auth: *base", "auth: &loop\n      again: *loop");
    assert!(problem(&itself).starts_with("line 9 "), "{}", problem(&itself));
}

#[test]
fn aliases_of_aliases_need_no_memory() {
    let mut text = "a0: &a0 [x]\n".to_owned();
    for at in 1..500 {
        let before = format!("*a{}", at - 1);
        text += &format!("a{at}: &a{at} {{p: {before}, q: {before}, r: {before}}}\n");
    }
    assert!(read(&(text + &password("")), "prod", false).is_ok());
}

#[test]
fn what_is_not_supported_is_refused_by_key_and_line() {
    for (lines, said) in [
        ("    auth_type: v3oidcpassword\n", "clouds.prod.auth_type (line 8) is none of password"),
        ("    auth_type: token\n", "clouds.prod.auth_type (line 8) is none of password"),
        ("    profile: team\n", "clouds.prod.profile (line 8) isn't read"),
        ("    regions: [R1]\n", "clouds.prod.regions (line 8) isn't read"),
        ("    cert: /team\n", "clouds.prod.cert (line 8) isn't read"),
        ("    key: /team\n", "clouds.prod.key (line 8) isn't read"),
        ("    system_scope: all\n", "clouds.prod.system_scope (line 8) isn't read"),
        ("      system_scope: all\n", "clouds.prod.auth.system_scope (line 8) isn't read"),
        ("    cacert: /etc/team.pem\n", "clouds.prod.cacert (line 8) isn't read: put the"),
        ("    interface: team\n", "clouds.prod.interface (line 8) is none of public"),
        ("    verify: team\n", "clouds.prod.verify (line 8) is neither true nor false"),
        ("    region_name: [team]\n", "clouds.prod.region_name (line 8) is no text"),
        ("    region_name: \"a\\nteam\"\n", "clouds.prod.region_name (line 8) has a control"),
        (
            "    network_endpoint_override: team\n",
            "clouds.prod.network_endpoint_override (line 8) must be an http(s) base URL",
        ),
        ("  prod: {}\n", "line 8 has a key that its map has already"),
    ] {
        let problem = problem(&password(lines));
        assert!(problem.starts_with(said), "{lines}: {problem}");
    }
    let with_path = password("    cacert: /etc/team.pem\n");
    assert!(read(&with_path, "prod", true).is_ok(), "the Secret has the certificates");
}

#[test]
fn what_is_missing_is_named_with_the_line_of_its_map() {
    for (without, said) in [
        ("clouds:", "clouds is missing, line 1"),
        ("  prod:", "clouds.prod is missing, line 2"),
        ("    auth:", "clouds.prod.auth is missing, line 3"),
        (
            "      auth_url: http://keystone:5000/v3/",
            "clouds.prod.auth.auth_url is missing, line 4",
        ),
        ("      username: demo", "clouds.prod.auth.username is missing, line 4"),
        ("      password: s3cret-w0rd", "clouds.prod.auth.password is missing, line 4"),
    ] {
        let (key, _) = without.split_once(':').unwrap();
        let text = password("").replace(without, &format!("{key}-x:{}", &without[key.len() + 1..]));
        assert_eq!(problem(&text), said, "{text}");
    }
    let app = password("    auth_type: v3applicationcredential\n");
    let said = "clouds.prod.auth.application_credential_id is missing, line 4";
    assert_eq!(problem(&app), said);
    assert_eq!(problem(""), "the document is no map of keys, line 1");
    assert_eq!(problem("- team"), "the document is no map of keys, line 1");
    assert_eq!(problem("clouds: team"), "clouds is no map of keys, line 1");
}

#[test]
fn an_error_of_the_syntax_quotes_nothing() {
    let tab = password("\tregion_name: team\n");
    assert_eq!(problem(&tab), "line 8 is indented with a tab; YAML takes spaces only");
    let within = password("").replace("      password", "\tpassword");
    assert_eq!(problem(&within), "line 6 is indented with a tab; YAML takes spaces only");
    for (text, line) in [
        (password("").replace(SECRET, &format!("\"{SECRET}")), 6),
        (password("").replace(SECRET, &format!("%{SECRET}: {SECRET}: x")), 6),
        (password("").replace(SECRET, &format!("*{SECRET}")), 6),
        (password("").replace(SECRET, &format!("!<{SECRET} x")), 6),
        (password("").replace(SECRET, &format!("@{SECRET}")), 6),
        (password("      } team\n"), 8),
        (password("   demo: team\n"), 8),
    ] {
        let problem = problem(&text);
        let lines =
            [line, line + 1, text.lines().count() + 1].map(|at| format!("line {at} is no YAML"));
        assert!(lines.contains(&problem), "{text}: {problem}");
    }
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(problem(&deep), "line 1 is nested too deeply");
}

proptest::proptest! {
    /// Neither a panic nor a word of the text.
    #[test]
    fn any_text_is_read_or_refused(text in r#"[ \t\n:\-{}\[\],&*!|>'"%@`#?<a-c]{0,80}"#) {
        let text = password(&text);
        if let Err(problem) = read(&text, "prod", false) {
            proptest::prop_assert!(!problem.contains(SECRET) && !problem.contains("demo"));
        }
    }
}
