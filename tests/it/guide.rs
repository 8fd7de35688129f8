//! Commands of docs/operations.md, run as a reader would run them.
//!
//! In place of kubectl stands a script. What goes to the operator's namespace is noted in the file
//! `calls`; what is executed in a pod of it runs here; what goes to another cluster does nothing; all
//! else is for the real kubectl.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::text;

const KUBECTL: &str = r##"#!/bin/sh
case "$*" in
    *"--context business"*) exit 0 ;;
    *" exec "*)
        printf '%s\n' "$*" | head -n 1 >>"$CALLS"
        while [ "$1" != -- ]; do shift; done
        shift
        if [ "$1" = /multinic-operator ]; then
            shift
            exec "$PROGRAM" "$@"
        fi
        for argument do
            shift
            set -- "$@" "$(printf %s "$argument" | sed "s#/inventory#$VOLUME#")"
        done
        exec "$@"
        ;;
    *multinic-operator-system*|apply*)
        printf '%s\n' "$*" | tr '\n' ' ' >>"$CALLS"
        echo >>"$CALLS"
        [ "$1" != apply ] || cat >/dev/null
        exit 0
        ;;
esac
PATH=${PATH#*:} exec kubectl --server "$SERVER" "$@"
"##;

/// The commands of a section, by block, in order.
pub(crate) fn commands(section: &str) -> Vec<String> {
    let section = self::section(section);
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// The text of a section.
pub(crate) fn section(name: &str) -> String {
    let guide = text("docs/operations.md");
    let section = guide.split(&format!("\n## {name}\n")).nth(1);
    section.unwrap().split("\n## ").next().unwrap().to_owned()
}

/// A shell that runs these commands in `folder`, where `volume` is the operator's.
pub(crate) fn shell(commands: &str, folder: &Path, volume: &Path) -> Command {
    let tools = folder.join("tools");
    fs::create_dir_all(&tools).unwrap();
    fs::write(tools.join("kubectl"), KUBECTL).unwrap();
    fs::set_permissions(tools.join("kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", commands]).current_dir(folder).env_remove("KUBECONFIG");
    shell.env("PATH", format!("{}:{path}", tools.display())).env("HOME", folder);
    shell.env("CALLS", folder.join("calls")).env("VOLUME", volume);
    shell
}

/// What it printed; it must succeed.
pub(crate) fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
