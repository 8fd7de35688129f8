//! The command line: which of the program's few commands is meant. Pure.
//!
//! Settings come from the environment ([`crate::config`]); arguments only say what is to be done.

use std::fmt;

use crate::config::VARIABLES;
use crate::resources::ObjectKey;

/// What the program is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Be the operator, until a signal.
    Run,
    /// Try each service once, and print what came of it.
    Check,
    /// Print what would be sent for one object, and why.
    Plan {
        /// The object.
        object: ObjectKey,
        /// Only the bodies of the requests, as JSON.
        json: bool,
    },
    /// Print [`help`].
    Help,
    /// Print the version.
    Version,
}

/// Arguments that make no command; says what would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake(String);

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\n\n{USAGE}", self.0)
    }
}

impl std::error::Error for Mistake {}

const USAGE: &str = "\
usage:
  multinic-operator                               be the operator, until a signal
  multinic-operator check                         try each service once, print what came of it
  multinic-operator plan NAMESPACE/NAME [--json]  print what would be sent for one object, and why
  multinic-operator --help | --version
";

const COMMANDS: &str = "
check asks Kubernetes, Contrabass, Keystone, Neutron, Nova and Viola, and looks at the inventory's
folder. It posts nothing to Viola and writes nothing to Kubernetes. It ends with 0 if all is well and
with 1 if anything is not; the table says what to do about it.

plan reads the object, asks the cloud, and says for each node what it would be told, what differs from
what Viola last accepted, and what is left out. It sends nothing, and may run beside the operator.
--json prints the body of each request to Viola on a line of its own, and nothing where nothing would
be sent; notes go to standard error. It ends with 1 if no plan can be made; the message begins with
the Ready reason.

All commands are set up by the same environment, and end with 2 if it can't be used:

";

/// Reads the arguments behind the program's name.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, Mistake> {
    let arguments: Vec<String> = arguments.into_iter().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let asks = |long, short| words.iter().any(|word| *word == long || *word == short);
    if asks("--help", "-h") {
        return Ok(Command::Help);
    }
    if asks("--version", "-V") {
        return Ok(Command::Version);
    }
    match words.as_slice() {
        [] => Ok(Command::Run),
        ["check"] => Ok(Command::Check),
        ["check", surplus, ..] => Err(unknown("check takes no argument", surplus)),
        ["plan", rest @ ..] => plan(rest),
        [other, ..] => Err(unknown("there is no such command", other)),
    }
}

fn plan(words: &[&str]) -> Result<Command, Mistake> {
    let (mut object, mut json) = (None, false);
    for word in words {
        match *word {
            "--json" => json = true,
            option if option.starts_with('-') => {
                return Err(unknown("plan has no such option", option));
            }
            surplus if object.is_some() => return Err(unknown("plan takes one object", surplus)),
            name => object = Some(object_key(name)?),
        }
    }
    let object = object
        .ok_or_else(|| Mistake("plan needs an object, such as plan default/workers".to_owned()))?;
    Ok(Command::Plan { object, json })
}

fn object_key(text: &str) -> Result<ObjectKey, Mistake> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
            Ok(ObjectKey { namespace: (*namespace).to_owned(), name: (*name).to_owned() })
        }
        _ => Err(unknown("an object is named NAMESPACE/NAME, such as default/workers", text)),
    }
}

fn unknown(what: &str, word: &str) -> Mistake {
    Mistake(format!("{what}: {word:?}"))
}

/// What `--help` prints.
pub fn help() -> String {
    let mut text = format!(
        "multinic-operator tells each OpenStack-hosted Kubernetes node which NIC has which \
         address.\n\n{USAGE}{COMMANDS}"
    );
    for variable in VARIABLES {
        let default = match variable.default {
            "" => String::new(),
            default => format!(" [{default}]"),
        };
        text.push_str(&format!("  {}{default}\n      {}\n", variable.name, variable.help));
    }
    // What a default of "in-cluster" is, is too much for one variable's line.
    text.push_str(
        "\nThe Kubernetes API is reached in-cluster, unless KUBE_API_URL is set: with it, the pod's \
         token and\nCA aren't used, and only those are that KUBE_TOKEN_FILE and KUBE_CA_FILE name.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::{Command, Mistake, help, parse};
    use crate::resources::ObjectKey;

    fn parsed(line: &str) -> Result<Command, Mistake> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn each_command_is_known_and_options_may_stand_anywhere() {
        assert_eq!(parsed(""), Ok(Command::Run));
        assert_eq!(parsed("check"), Ok(Command::Check));
        let object = ObjectKey { namespace: "a".to_owned(), name: "b".to_owned() };
        let plan = |json| Ok(Command::Plan { object: object.clone(), json });
        assert_eq!(parsed("plan a/b"), plan(false));
        assert_eq!(parsed("plan a/b --json"), plan(true));
        assert_eq!(parsed("plan --json a/b"), plan(true));
        for line in ["--help", "-h", "plan --help", "check -h"] {
            assert_eq!(parsed(line), Ok(Command::Help), "{line}");
        }
        assert_eq!(parsed("-V"), Ok(Command::Version));
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
            ("--json", "\"--json\""),
        ];
        for (line, named) in cases {
            let text = parsed(line).unwrap_err().to_string();
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
