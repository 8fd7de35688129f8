//! The programs the tests ask: kubectl, and Python with the validators.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::repository;
use crate::skip::skipped;

/// What a program said.
pub(crate) struct Answer {
    pub(crate) success: bool,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// Renders a folder of `manifests/`; none without kubectl.
pub(crate) fn kustomize(folder: &str) -> Option<String> {
    kustomize_at(&repository("manifests").join(folder))
}

/// Renders a folder; none without kubectl.
pub(crate) fn kustomize_at(folder: &Path) -> Option<String> {
    let mut command = Command::new("kubectl");
    command.arg("kustomize").arg(folder);
    if !runs(Command::new("kubectl").args(["version", "--client"])) {
        return missing("kubectl");
    }
    let answer = ask(&mut command, "");
    assert!(answer.success, "kubectl kustomize {}: {}", folder.display(), answer.errors);
    Some(answer.output)
}

/// Asks `tools/manifests/validate.py`; none where it or a validator isn't installed.
pub(crate) fn validator(arguments: &[&str], input: &str) -> Option<Answer> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let python = PYTHON.get_or_init(|| {
        // `python -m venv target/manifest-tools` is where CI puts them.
        let candidates = [
            std::env::var_os("MANIFEST_PYTHON").map(PathBuf::from),
            Some(repository("target/manifest-tools/bin/python")),
            Some(PathBuf::from("python3")),
        ];
        let imports = "import kubernetes_validate, yaml, cel_expr_python, helm_python";
        candidates
            .into_iter()
            .flatten()
            .find(|python| runs(Command::new(python).args(["-c", imports])))
    });
    let Some(python) = python else {
        return missing("Python with tools/manifests/requirements.txt");
    };
    let script = repository("tools/manifests/validate.py");
    Some(ask(Command::new(python).arg(script).args(arguments), input))
}

fn missing<T>(tool: &str) -> Option<T> {
    let required = std::env::var_os("MANIFEST_TOOLS").is_some_and(|value| value == "required");
    assert!(!required, "{tool} is not installed");
    skipped(&format!("{tool} is not installed"));
    None
}

fn runs(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

pub(crate) fn ask(command: &mut Command, input: &str) -> Answer {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // All of these read their input before they write, so this can't block both sides.
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let result = child.wait_with_output().unwrap();
    Answer {
        success: result.status.success(),
        output: String::from_utf8(result.stdout).unwrap(),
        errors: String::from_utf8(result.stderr).unwrap(),
    }
}
