//! docs/metrics.md says of each family what the program says.

use multinic_operator::metrics::FAMILIES;

use crate::text;

#[test]
fn the_list_of_metrics_is_the_programs() {
    let document = text("docs/metrics.md").replace("\n  ", " ");
    let mut items: Vec<&str> =
        document.lines().filter(|line| line.starts_with("- `") && line.contains(": ")).collect();
    let mut expected: Vec<String> = FAMILIES
        .iter()
        .map(|family| {
            let labels: Vec<String> =
                family.labels.iter().map(|label| format!("`{label}`")).collect();
            let separator = if labels.is_empty() { "" } else { "; " };
            let labels = labels.join(", ");
            let (name, kind, help) = (family.name, family.kind.name(), family.help);
            format!("- `{name}` ({kind}{separator}{labels}): {help}")
        })
        .collect();
    items.sort_unstable();
    expected.sort_unstable();
    assert_eq!(items, expected);
}
