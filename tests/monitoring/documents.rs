//! docs/metrics.md says of each family what the program says.

use multinic_operator::metrics::FAMILIES;

use crate::text;

#[test]
fn the_table_of_metrics_is_the_programs() {
    let document = text("docs/metrics.md");
    let mut rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
    let wanted: Vec<String> = FAMILIES
        .iter()
        .map(|family| {
            let labels: Vec<String> =
                family.labels.iter().map(|label| format!("`{label}`")).collect();
            let help = family.help.strip_suffix('.').unwrap();
            let (name, kind) = (family.name, family.kind.name());
            format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
        })
        .collect();
    let mut expected: Vec<&str> = wanted.iter().map(String::as_str).collect();
    rows.sort_unstable();
    expected.sort_unstable();
    assert_eq!(rows, expected);
}
