//! Text in columns, for people. Pure.

/// Between two columns.
const GAP: &str = "  ";
/// Cells longer than this push the rest of their own line, not of all lines.
const WIDEST: usize = 64;

/// The rows as lines with their columns aligned. The last cell of a row may be as long as it likes.
pub(crate) fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > column + 1).map(|row| &row[column]);
        let lengths = cells.map(|cell| cell.chars().count());
        lengths.filter(|length| *length <= WIDEST).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter().map(|row| line(row, &widths)).collect()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        if !line.is_empty() {
            line.push_str(GAP);
        }
        line.push_str(&format!("{cell:<width$}"));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_the_last_is_free() {
        let rows = [["a", "ü", "x"], ["long", "b", "y and more"], ["c", "", ""]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows), ["a     ü  x", "long  b  y and more", "c"]);
    }

    #[test]
    fn one_very_long_cell_does_not_push_everybody_away() {
        let long = "x".repeat(100);
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec![long.clone(), "c".to_owned()]];
        assert_eq!(aligned(&rows), ["a  b".to_owned(), format!("{long}  c")]);
    }
}
