//! The command line. Arguments choose the command; settings come from the environment
//! ([`crate::config`]). Pure.

use std::path::PathBuf;

use crate::config::{VARIABLES, Variable};
use crate::plan_command::Subject;
use crate::resources::ObjectKey;

/// A command of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the operator until a signal.
    Run,
    /// Try each service once and print the results.
    Check,
    /// Print what would be sent for one object, and why.
    Plan {
        /// The object.
        subject: Subject,
        /// Only the bodies of the requests, as JSON.
        json: bool,
    },
    /// Print the inventory as a document.
    Export,
    /// Bring the records of a document into the inventory.
    Import {
        /// The document.
        file: PathBuf,
        /// Write, and don't only show what would change.
        is_confirmed: bool,
    },
    /// Print this: the help or the version. It needs no settings.
    Print(String),
}

const USAGE: &str = "\
usage:
  multinic-operator                               run the operator until a signal
  multinic-operator check                         try each service once, print the results
  multinic-operator plan NAMESPACE/NAME [--json]  print what would be sent for one object, and why
  multinic-operator plan -f FILE [--json]         the same, as it would be once FILE was applied
  multinic-operator export                        print the inventory as a document
  multinic-operator import FILE [--yes]           show what a document would change; --yes does it
  multinic-operator --help | --version
";

const COMMANDS: &str = "
check asks Kubernetes, Contrabass, Keystone, Neutron, Nova and Viola, and examines the inventory's
folder. Exit code 0 means that all is well; with 1 the table says what is not, and what to do.

plan prints for each node what would be sent, how it differs from what Viola last accepted, and what
is left out. --json prints only the body of each request, one a line, and notes on standard error.
With exit code 1 there is no plan; the message begins with the Ready reason. With -f, FILE is one
object as YAML or JSON, - is standard input. The output has the hash that approves what would be held.

Neither sends or writes anything.

export prints the whole inventory. import takes such a document or a list of the inventory API. It
adds and replaces records and removes none. It refuses while an operator holds the inventory's lock.
With exit code 1 nothing was written, or the message says what.

All commands read their settings from the environment; exit code 2
means that it is wrong:

";

/// What a default of "in-cluster" means.
const IN_CLUSTER: &str = "
The Kubernetes API is reached in-cluster, unless KUBE_API_URL is set: then the pod's token and CA
aren't used, only those that KUBE_TOKEN_FILE and KUBE_CA_FILE name.
";

/// Parses the arguments after the program's name. An error is what is wrong with them, and the usage.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let arguments: Vec<String> = arguments.into_iter().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let asks = |long, short| words.iter().any(|word| *word == long || *word == short);
    if asks("--help", "-h") {
        return Ok(Command::Print(help()));
    }
    if asks("--version", "-V") {
        return Ok(Command::Print(format!("multinic-operator {}\n", env!("CARGO_PKG_VERSION"))));
    }
    match words.as_slice() {
        [] => Ok(Command::Run),
        ["check"] => Ok(Command::Check),
        ["check", surplus, ..] => Err(mistake("check takes no argument", surplus)),
        ["plan", words @ ..] => plan(words),
        ["export"] => Ok(Command::Export),
        ["export", surplus, ..] => Err(mistake("export takes no argument", surplus)),
        ["import", words @ ..] => import(words),
        [other, ..] => Err(mistake("there is no such command", other)),
    }
}

fn plan(words: &[&str]) -> Result<Command, String> {
    let mut words = words.to_vec();
    let json = words.contains(&"--json");
    words.retain(|word| *word != "--json");
    let subject = match words.as_slice() {
        [] => return Err(mistake("plan needs an object", "plan default/workers")),
        ["-f"] => return Err(mistake("plan needs a file", "plan -f workers.yaml")),
        ["-f", file] => Subject::File(file.into()),
        [option, ..] if option.starts_with('-') && *option != "-f" => {
            return Err(mistake("plan has no such option", option));
        }
        [name] => Subject::Object(object_key(name)?),
        ["-f", _, surplus, ..] | [_, surplus, ..] => {
            return Err(mistake("plan takes one object", surplus));
        }
    };
    Ok(Command::Plan { subject, json })
}

fn import(words: &[&str]) -> Result<Command, String> {
    let (options, files): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| word.starts_with('-'));
    if let Some(option) = options.iter().find(|option| **option != "--yes") {
        return Err(mistake("import has no such option", option));
    }
    match files.as_slice() {
        [] => Err(mistake("import needs a file", "import inventory.json")),
        [file] => Ok(Command::Import { file: file.into(), is_confirmed: !options.is_empty() }),
        [_, surplus, ..] => Err(mistake("import takes one file", surplus)),
    }
}

fn object_key(text: &str) -> Result<ObjectKey, String> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
            Ok(ObjectKey { namespace: (*namespace).to_owned(), name: (*name).to_owned() })
        }
        _ => Err(mistake("an object is named NAMESPACE/NAME, such as default/workers", text)),
    }
}

fn mistake(what: &str, word: &str) -> String {
    format!("{what}: {word:?}\n\n{USAGE}")
}

/// What `--help` prints.
fn help() -> String {
    let summary = env!("CARGO_PKG_DESCRIPTION");
    let mut text = format!("{summary}\n\n{USAGE}{COMMANDS}");
    for Variable { name, default, help } in VARIABLES {
        let default = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        text.push_str(&format!("  {name}{default}\n      {help}\n"));
    }
    text + IN_CLUSTER
}

#[cfg(test)]
mod tests {
    use super::{Command, help, parse};
    use crate::plan_command::Subject;
    use crate::resources::ObjectKey;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn each_command_is_known_and_options_may_stand_anywhere() {
        assert_eq!(parsed(""), Ok(Command::Run));
        assert_eq!(parsed("check"), Ok(Command::Check));
        let object = ObjectKey { namespace: "a".to_owned(), name: "b".to_owned() };
        let plan = |json| Ok(Command::Plan { subject: Subject::Object(object.clone()), json });
        assert_eq!(parsed("plan a/b"), plan(false));
        assert_eq!(parsed("plan a/b --json"), plan(true));
        assert_eq!(parsed("plan --json a/b"), plan(true));
        let file =
            |name: &str, json| Ok(Command::Plan { subject: Subject::File(name.into()), json });
        assert_eq!(parsed("plan -f c"), file("c", false));
        assert_eq!(parsed("plan --json -f -"), file("-", true));
        assert_eq!(parsed("export"), Ok(Command::Export));
        let import = |is_confirmed| Ok(Command::Import { file: "f".into(), is_confirmed });
        assert_eq!(parsed("import f"), import(false));
        assert_eq!(parsed("import --yes f"), import(true));
        for line in ["--help", "-h", "plan --help", "check -h"] {
            assert_eq!(parsed(line), Ok(Command::Print(help())), "{line}");
        }
        assert!(
            matches!(parsed("-V"), Ok(Command::Print(version)) if version.lines().count() == 1)
        );
    }

    #[test]
    fn anything_else_is_named_and_the_usage_shown() {
        let cases = [
            ("chekc", "\"chekc\""),
            ("check now", "\"now\""),
            ("plan", "plan default/workers"),
            ("plan workers", "\"workers\""),
            ("plan a/b/c", "\"a/b/c\""),
            ("plan /b", "\"/b\""),
            ("plan a/b c/d", "\"c/d\""),
            ("plan a/b --yaml", "\"--yaml\""),
            ("plan --yaml a/b", "\"--yaml\""),
            ("plan -f", "plan -f workers.yaml"),
            ("plan -f a b", "\"b\""),
            ("plan a/b -f c", "\"-f\""),
            ("--json", "\"--json\""),
            ("export all", "\"all\""),
            ("import", "import inventory.json"),
            ("import a b", "\"b\""),
            ("import a --force", "\"--force\""),
        ];
        for (line, named) in cases {
            let text = parsed(line).unwrap_err();
            assert!(text.contains(named) && text.contains("usage:"), "{line}: {text}");
        }
    }

    #[test]
    fn the_help_names_commands_and_variables() {
        let help = help();
        for text in ["check", "plan NAMESPACE/NAME", "--json", "CONTRABASS_ENDPOINT", "[30s]"] {
            assert!(help.contains(text), "{text}");
        }
        assert!(help.contains("in-cluster, unless KUBE_API_URL is set"), "{help}");
    }
}
