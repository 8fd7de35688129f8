//! What documents say agrees with the code, and every file says what it is.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, measures real time, and is nobody's library"
)]

mod documents;

use std::fs;
use std::path::{Path, PathBuf};

use multinic_operator::config::VARIABLES;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_settings_page_lists_every_variable_with_its_default_and_no_other() {
    let page = read("docs/settings.md");
    let mut rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    rows.retain(|row| {
        row.split('`').nth(1).is_some_and(|name| {
            let is_known = VARIABLES.iter().any(|variable| variable.name == name);
            let is_variable = |c: char| c.is_ascii_uppercase() || c == '_';
            is_known || (name.contains('_') && name.chars().all(is_variable))
        })
    });
    let mut wanted: Vec<String> = VARIABLES
        .iter()
        .map(|variable| {
            let default = match variable.default {
                "" => String::new(),
                default => format!(" {default}"),
            };
            format!("| `{}` |{default} | {} |", variable.name, variable.help)
        })
        .collect();
    rows.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(rows, wanted);
}

#[test]
fn the_build_page_says_why_each_production_crate_is_there() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let page = read("docs/build.md");
    let table = page.split("\n## Dependencies\n").nth(1).unwrap();
    for line in section.lines().filter(|line| line.contains('=')) {
        let name = line.split('=').next().unwrap().trim();
        assert!(table.contains(&format!("`{name}`")), "{name} has no line in docs/build.md");
    }
}

#[test]
fn every_rust_file_says_first_what_it_is() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("tests"), &mut files);
    assert!(files.len() > 60, "the files weren't found");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} doesn't begin with what it is", file.display());
    }
}

#[test]
fn arrows_go_one_way() {
    // A module, and modules that it must not use.
    let forbidden: [(&str, &[&str]); 13] = [
        ("src/amqp", &["http", "notifications", "threads", "clock", "controller", "operator"]),
        (
            "src/cloud",
            &["kube", "reconcile", "controller", "inventory", "targets", "operator", "worker"],
        ),
        (
            "src/kube",
            &["reconcile", "controller", "cloud", "inventory", "targets", "operator", "resources"],
        ),
        ("src/inventory", &["reconcile", "controller", "cloud", "kube", "targets", "operator"]),
        (
            "src/http",
            &["reconcile", "controller", "cloud", "kube", "inventory", "targets", "operator"],
        ),
        ("src/reconcile", &["controller", "kube", "operator", "worker"]),
        // The commands stand beside the operator.
        ("src/check", &["operator", "controller", "worker", "plan_command"]),
        ("src/plan_command.rs", &["operator", "controller", "worker", "check"]),
        ("src/plan_command", &["operator", "controller", "worker", "check", "kube", "cloud"]),
        ("src/controller.rs", &["kube", "operator", "worker", "threads", "targets", "http"]),
        ("src/queue.rs", &["cloud", "kube", "resources", "clock"]),
        ("src/targets", &["reconcile", "inventory", "controller"]),
        ("src/metrics.rs", &["reconcile", "cloud", "kube", "inventory", "controller", "http"]),
    ];
    for (module, others) in forbidden {
        let mut files = Vec::new();
        let path = root().join(module);
        if path.is_dir() {
            rust_files(&path, &mut files);
        } else {
            files.push(path);
        }
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for other in others {
                let uses = format!("crate::{other}::");
                let line = code.lines().find(|line| line.contains(&uses) && !line.contains("//"));
                let is_test = file.components().any(|part| part.as_os_str() == "tests");
                assert!(is_test || line.is_none(), "{}: {}", file.display(), line.unwrap());
            }
        }
    }
}
