//! Documents: their links and anchors exist, their commands and names are right, their lines are
//! short, and a Korean translation has the same parts as its original.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use multinic_operator::config::VARIABLES;
use multinic_operator::reconcile::report::Reason;

use crate::{read, root};

/// Documents that have a Korean translation.
const TRANSLATED: [(&str, &str); 7] = [
    ("README.md", "README.ko.md"),
    ("docs/operations.md", "docs/operations.ko.md"),
    ("docs/settings.md", "docs/settings.ko.md"),
    ("docs/commands.md", "docs/commands.ko.md"),
    ("docs/build.md", "docs/build.ko.md"),
    ("docs/helm.md", "docs/helm.ko.md"),
    ("docs/upgrade.md", "docs/upgrade.ko.md"),
];

/// Characters of a line.
const LONGEST_LINE: usize = 100;

/// Words of the README.
const LONGEST_README: usize = 1_200;

/// Documents whose lines are not yet short.
const LONG_LINES: [&str; 2] = ["docs/performance.md", "fixtures/README.md"];

/// Names in capitals that aren't ours.
const FOREIGN: [&str; 22] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ADVISORY_DB",
    "PULL_SECRET",
    "SIMULATION_SEEDS",
    "SIMULATION_SEED",
    "SOAK_SEED",
    "FOLDER_OR_URL",
    "CA_BUNDLE",
    "PAGE_AXE",
    "PAGE_SCREENSHOTS",
    "CARGO_TARGET_DIR",
    "MALLOC_ARENA_MAX",
    "MULTINIC_OPERATOR",
    "SECONDS_EACH",
    "SOAK_SECONDS",
    "RABBITMQ_URLS",
    "RABBITMQ_USER",
    "RABBITMQ_PASSWORD",
    "TARGET_NAMESPACE",
    "LISTEN_ADDR",
];

fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs", "fixtures", "manifests"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > 8, "the documents weren't found: {found:?}");
    found
}

/// The lines of fenced blocks, and all others.
fn split(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut code, mut prose, mut inside) = (Vec::new(), Vec::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
            code.push(line);
        } else if inside {
            code.push(line);
        } else {
            prose.push(line);
        }
    }
    (code, prose)
}

fn headings(text: &str) -> Vec<&str> {
    split(text).1.into_iter().filter(|line| line.starts_with('#')).collect()
}

/// As forges make it of a heading: lower case, spaces to hyphens, without punctuation.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in split(text).1 {
        for rest in line.split("](").skip(1) {
            found.push(rest.split(')').next().unwrap());
        }
    }
    found
}

/// The words between backticks, fenced blocks included.
fn code_words(text: &str) -> BTreeSet<&str> {
    let (code, prose) = split(text);
    let inline = prose.into_iter().flat_map(|line| line.split('`').skip(1).step_by(2));
    let delimiters = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
    code.into_iter().chain(inline).flat_map(|part| part.split(delimiters)).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let text = read(&document);
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(&document),
                _ => root().join(&document).parent().unwrap_or(Path::new("")).join(path),
            };
            assert!(target.exists(), "{document}: {link} leads nowhere");
            if !fragment.is_empty() {
                let anchors: Vec<String> = headings(&fs::read_to_string(&target).unwrap())
                    .into_iter()
                    .map(anchor)
                    .collect();
                assert!(
                    anchors.contains(&fragment.to_owned()),
                    "{document}: no heading for {link}"
                );
            }
        }
    }
}

#[test]
fn every_make_target_in_a_document_exists() {
    let makefile = read("Makefile");
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        let (code, prose) = split(&text);
        let inline = prose.into_iter().flat_map(|line| line.split('`').skip(1).step_by(2));
        for command in code.into_iter().chain(inline) {
            let Some(rest) = command.trim().strip_prefix("make ") else { continue };
            let target = rest.split_whitespace().next().unwrap();
            let target = target.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let rule = format!("\n{target}:");
            assert!(makefile.contains(&rule), "{document}: there is no `make {target}`");
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} commands were found");
}

#[test]
fn every_variable_in_a_document_is_known() {
    let known: BTreeSet<&str> =
        VARIABLES.iter().map(|variable| variable.name).chain(FOREIGN).collect();
    for document in documents() {
        let text = read(&document);
        for word in code_words(&text) {
            let shouts = word.contains('_')
                && !word.starts_with('_')
                && !word.ends_with('_')
                && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            assert!(!shouts || known.contains(word), "{document}: {word} is no variable of ours");
        }
    }
}

#[test]
fn every_reason_has_a_row_in_the_reference_and_a_section_in_the_operations_guide() {
    let reference = read("docs/behaviour.md");
    for reason in Reason::ALL {
        let row = format!("| `{}` | ", reason.name());
        assert!(reference.lines().any(|line| line.starts_with(&row)), "no row {row}");
    }
    for document in ["docs/operations.md", "docs/operations.ko.md"] {
        let text = read(document);
        for reason in Reason::ALL {
            let section = format!("### Reason: {}", reason.name());
            assert!(headings(&text).contains(&section.as_str()), "{document}: no {section}");
        }
    }
}

#[test]
fn lines_are_short() {
    for document in documents() {
        if LONG_LINES.contains(&document.as_str()) {
            continue;
        }
        // What a program prints can't be wrapped.
        let mut is_output = false;
        for (number, line) in (1..).zip(read(&document).lines()) {
            if line.starts_with("```") {
                is_output = line == "```console";
            }
            let length = line.chars().count();
            assert!(
                is_output || length <= LONGEST_LINE,
                "{document}:{number}: {length} characters"
            );
        }
    }
}

#[test]
fn the_readme_is_short() {
    let words = read("README.md").split_whitespace().count();
    assert!(words <= LONGEST_README, "{words} words");
}

#[test]
fn documents_name_the_object_that_the_sample_creates() {
    let sample = read("manifests/samples/openstackconfig.yaml");
    let name = sample.lines().find_map(|line| line.strip_prefix("  name: ")).unwrap();
    let mut seen = 0;
    for (original, translation) in TRANSLATED {
        for document in [original, translation] {
            let text = read(document);
            let console = text.split("```console").skip(1);
            let console: String = console.filter_map(|part| part.split("\n```").next()).collect();
            for (command, rest) in ["plan default/", "describe osc ", "annotate osc "]
                .into_iter()
                .flat_map(|command| text.split(command).skip(1).map(move |rest| (command, rest)))
            {
                let end = |c: char| c.is_whitespace() || c == '`';
                let named = rest.split(end).next().unwrap();
                if matches!(named, "NAME" | "-A") || console.contains(&format!("{command}{named}"))
                {
                    continue;
                }
                assert_eq!(named, name, "{document}: {command}");
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "only {seen} commands were found");
}

#[test]
fn a_translation_has_the_same_commands_and_as_many_headings_and_rows() {
    for (original, translation) in TRANSLATED {
        let (english, korean) = (read(original), read(translation));
        assert_eq!(split(&english).0, split(&korean).0, "{translation}: other commands");
        let levels = |text| -> Vec<usize> {
            headings(text)
                .into_iter()
                .map(|line| line.chars().take_while(|c| *c == '#').count())
                .collect()
        };
        assert_eq!(levels(&english), levels(&korean), "{translation}: other headings");
        let rows = |text: &str| text.lines().filter(|line| line.starts_with('|')).count();
        assert_eq!(rows(&english), rows(&korean), "{translation}: other tables");
        let hangul = korean.chars().filter(|c| ('가'..='힣').contains(c)).count();
        assert!(hangul > 300, "{translation} isn't in Korean");
    }
}

#[test]
fn every_alerts_runbook_is_there() {
    let rules = read("manifests/monitoring/rules.yaml");
    let runbooks: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
    assert!(runbooks.len() > 15, "the rules weren't found");
    for runbook in runbooks {
        let (document, wanted) = runbook.split_once('#').unwrap();
        let text = read(document);
        assert!(headings(&text).into_iter().any(|found| anchor(found) == wanted), "{runbook}");
    }
}
