//! What `.dockerignore` lets through is enough for a build: cargo wants each workspace member, and
//! each file that Cargo.toml names.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

#[test]
fn the_build_context_holds_everything_cargo_wants() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = fs::read_to_string(repository.join(".dockerignore")).unwrap();
    let mut rules = rules.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    // As it is written: nothing, but for what the lines after it name.
    assert_eq!(rules.next(), Some("*"));
    let context = TempDir::new().unwrap();
    for rule in rules {
        let path = rule.strip_prefix('!').unwrap_or_else(|| panic!("{rule}: another kind of rule"));
        let (from, to) = (repository.join(path), context.path().join(path));
        if from.exists() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
            assert!(copied.success());
        }
    }
    let output = Command::new(env!("CARGO"))
        // Unlike `cargo metadata` it minds a missing target.
        .args(["fetch", "--locked", "--offline", "--target=x86_64-unknown-linux-gnu"])
        .current_dir(context.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
