//! The demo's output: headings, tables as kubectl prints them, JSON on few lines; and curl.

use std::io::Write;
use std::process::Command;

use serde_json::Value;

/// Where the demo writes.
pub(crate) struct Out(pub(crate) Box<dyn Write>);

impl Out {
    pub(crate) fn text(&mut self, text: &str) -> Result<(), String> {
        writeln!(self.0, "{text}").map_err(|error| error.to_string())
    }

    pub(crate) fn heading(&mut self, text: &str) -> Result<(), String> {
        self.text(&format!("\n== {text}"))
    }
}

/// Answers as curl gives them, so that the commands shown are those that ran.
pub(crate) fn curl(url: &str, options: &[&str]) -> Result<Value, String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "10"])
        .args(options)
        .arg(url)
        .output()
        .map_err(|error| format!("curl: {error}"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("curl {url}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// MultiNicNodeConfigs, an interface a line.
pub(crate) fn interfaces(objects: &[Value]) -> String {
    let heads = ["NAME", "GENERATION", "INTERFACE", "MAC", "ADDRESS", "CIDR", "MTU"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for object in objects {
        let metadata = &object["metadata"];
        for interface in object["spec"]["interfaces"].as_array().into_iter().flatten() {
            let mut row = vec![plain(&metadata["name"]), plain(&metadata["generation"])];
            let columns = ["name", "macAddress", "address", "cidr", "mtu"];
            row.extend(columns.map(|column| plain(&interface[column])));
            rows.push(row);
        }
    }
    columns(&rows)
}

/// The API server's `Table`, as kubectl prints it with `--all-namespaces`.
pub(crate) fn table(answer: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let heads = list(&answer["columnDefinitions"]);
    let mut rows = vec![vec!["NAMESPACE".to_owned()]];
    rows[0].extend(heads.iter().map(|head| plain(&head["name"]).to_uppercase()));
    for row in list(&answer["rows"]) {
        let mut cells = vec![plain(&row["object"]["metadata"]["namespace"])];
        cells.extend(list(&row["cells"]).iter().map(plain));
        rows.push(cells);
    }
    columns(&rows)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// JSON in which what holds no further objects or lists stands on one line.
pub(crate) fn on_few_lines(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value, 0);
    text
}

fn write_value(text: &mut String, value: &Value, depth: usize) {
    let is_plain = |value: &Value| !value.is_object() && !value.is_array();
    let (open, items, close): (_, Vec<(String, &Value)>, _) = match value {
        Value::Object(members) if !members.values().all(is_plain) => {
            let name = |name: &String| format!("{}: ", Value::from(name.as_str()));
            ("{", members.iter().map(|(key, value)| (name(key), value)).collect(), "}")
        }
        Value::Array(items) if !items.is_empty() => {
            ("[", items.iter().map(|item| (String::new(), item)).collect(), "]")
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                format!("{}: {value}", Value::from(name.as_str()))
            };
            let members: Vec<String> = members.iter().map(member).collect();
            text.push_str(&format!("{{{}}}", members.join(", ")));
            return;
        }
        other => {
            text.push_str(&other.to_string());
            return;
        }
    };
    text.push_str(open);
    for (index, (name, item)) in items.iter().enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth + 1));
        text.push_str(name);
        write_value(text, item, depth + 1);
    }
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
    text.push_str(close);
}
