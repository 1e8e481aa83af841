//! Columns, ages and durations for people.

use chrono::TimeDelta;

/// Rows as lines with their columns below each other.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(wide).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<_> = cells.map(|(cell, &wide)| format!("{cell:wide$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// How long ago, in its greatest unit.
pub fn age(age: TimeDelta) -> String {
    let seconds = age.num_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A duration in microseconds.
pub fn duration(us: i64) -> String {
    match us {
        ..1_000 => format!("{us}us"),
        1_000..1_000_000 => format!("{}.{}ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{}.{}s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

/// How often something was tried.
pub fn tries(attempts: i32) -> String {
    match attempts {
        1 => "1 try".to_owned(),
        _ => format!("{attempts} tries"),
    }
}

/// A word of the wire for people.
pub fn word(word: &str) -> String {
    word.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_no_line_ends_in_spaces() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect();
        let rows = [row(&["id", "kind", ""]), row(&["1", "é", "x"]), row(&["2"])];
        assert_eq!(table(&rows), "id  kind\n1   é     x\n2\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in [
            (-1, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_600, "1h"),
            (90_000, "1d"),
        ] {
            assert_eq!(age(TimeDelta::seconds(seconds)), text);
        }
        for (us, text) in [
            (999, "999us"),
            (1_250, "1.2ms"),
            (999_999, "999.9ms"),
            (12_340_000, "12.3s"),
        ] {
            assert_eq!(duration(us), text);
        }
    }
}
