//! The list of licences is that of the crates which are compiled in.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const LIST: &str = "docs/THIRD-PARTY-LICENSES.txt";

/// `name version` of each crate that the shipped programs hold.
fn compiled_in() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges=normal,no-proc-macro", "--prefix=none"])
        .args(["--package=multinic-operator", "--target=x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates = text.lines().filter_map(|line| {
        let (name, version) = line.split_once(" v")?;
        Some(format!("{name} {}", version.split(' ').next()?))
    });
    crates.filter(|each| !each.starts_with("multinic-operator ")).collect()
}

#[test]
fn the_list_of_licences_names_every_crate_that_is_compiled_in() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(LIST)).unwrap();
    let section = text.split("\nCrates\n------\n").nth(1).unwrap();
    let section = section.split("\nTexts\n-----\n").next().unwrap();
    let lines = section.lines().filter_map(|line| Some(line.split_once(": ")?.0.to_owned()));
    let listed: BTreeSet<String> = lines.collect();
    let wanted = compiled_in();
    assert!(wanted.len() > 30, "{wanted:?}");
    let missing: Vec<&String> = wanted.difference(&listed).collect();
    assert!(missing.is_empty(), "{LIST} lacks {missing:?}; `make licences` writes it anew");
    // Macros' crates may be there too, but nothing that is no longer in Cargo.lock.
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    for each in &listed {
        let (name, version) = each.split_once(' ').unwrap();
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&entry), "{LIST} has {each}, Cargo.lock hasn't");
    }
}
