//! What came of a run: tables of medians, with ratios of one table's rows.

use anyhow::Result;
use serde_json::{Value, json};

/// A table: what was measured in rows, and in what it is told in columns.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    columns: Vec<(&'static str, usize)>,
    rows: Vec<Row>,
    is_compared: bool,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    rounds: Vec<Vec<f64>>,
    failure: Option<String>,
}

impl Table {
    /// A table without rows; its columns with the decimals that are shown.
    pub fn new(name: impl Into<String>, columns: &[(&'static str, usize)]) -> Self {
        Self {
            name: name.into(),
            columns: columns.to_vec(),
            rows: Vec::new(),
            is_compared: false,
        }
    }

    /// With the ratios of the first row to each other one.
    pub fn compared(mut self) -> Self {
        self.is_compared = true;
        self
    }

    /// Adds a round of a row. After one that failed the row has no figures any more.
    pub fn add(&mut self, name: &str, figures: Result<Vec<f64>>) {
        let place = self.rows.iter().position(|row| row.name == name);
        let place = place.unwrap_or_else(|| {
            self.rows.push(Row {
                name: name.to_owned(),
                rounds: Vec::new(),
                failure: None,
            });
            self.rows.len() - 1
        });
        match figures {
            Ok(figures) => self.rows[place].rounds.push(figures),
            Err(error) => {
                self.rows[place].failure.get_or_insert(format!("{error:#}"));
            }
        }
    }

    /// What did not come out right.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        self.rows.iter().filter_map(|row| {
            let failure = row.failure.as_ref()?;
            Some(format!("{}, {}: {failure}", self.name, row.name))
        })
    }

    /// In Markdown.
    pub fn text(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        let mut text = format!(
            "\n{}\n\n| | {} |\n|---|{}\n",
            self.name,
            names.join(" | "),
            "---:|".repeat(names.len())
        );
        for row in &self.rows {
            let figures = row.medians(self.columns.len());
            let decimals = self.columns.iter().map(|(_, decimals)| *decimals);
            text += &line(&row.name, figures.into_iter().zip(decimals));
        }
        for (name, ratios) in self.ratios() {
            text += &line(&name, ratios.into_iter().map(|ratio| (ratio, 2)));
        }
        for failure in self.failures() {
            text += &format!("\nfailed: {failure}\n");
        }
        text
    }

    /// For programs: every round, the medians and the ratios.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "name": row.name,
                "medians": row.medians(self.columns.len()),
                "rounds": row.rounds,
                "failure": row.failure,
            })
        });
        let ratios = self
            .ratios()
            .into_iter()
            .map(|(name, ratios)| json!({"name": name, "ratios": ratios}));
        json!({
            "name": self.name,
            "columns": self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
            "ratios": ratios.collect::<Vec<_>>(),
        })
    }

    /// The first row to each other one.
    fn ratios(&self) -> Vec<(String, Vec<Option<f64>>)> {
        let Some((first, others)) = self.rows.split_first().filter(|_| self.is_compared) else {
            return Vec::new();
        };
        let ratios = |other: &Row| {
            let columns = self.columns.len();
            let pairs = first
                .medians(columns)
                .into_iter()
                .zip(other.medians(columns));
            // What is shown as nothing is nothing that one could be compared with.
            let ratio =
                |((this, that), (_, decimals)): ((Option<f64>, Option<f64>), &(_, usize))| {
                    let (this, that) = (this?, that?);
                    let shown = that.abs() * 10_f64.powf(*decimals as f64) >= 0.5;
                    shown.then_some(this / that)
                };
            (
                format!("{} to {}", first.name, other.name),
                pairs.zip(&self.columns).map(ratio).collect(),
            )
        };
        others.iter().map(ratios).collect()
    }
}

impl Row {
    /// The median of each figure; none where there is none in every round.
    fn medians(&self, columns: usize) -> Vec<Option<f64>> {
        let median = |column: usize| {
            if self.failure.is_some() {
                return None;
            }
            let figures = self.rounds.iter().map(|round| round.get(column).copied());
            let mut figures = figures.collect::<Option<Vec<_>>>()?;
            figures.sort_by(f64::total_cmp);
            let middle = figures.len() / 2;
            let median = match figures.len() % 2 {
                1 => *figures.get(middle)?,
                _ => (figures.get(middle)? + figures.get(middle.checked_sub(1)?)?) / 2.0,
            };
            median.is_finite().then_some(median)
        };
        (0..columns).map(median).collect()
    }
}

fn line(name: &str, figures: impl Iterator<Item = (Option<f64>, usize)>) -> String {
    let shown = figures.map(|(figure, decimals)| match figure {
        Some(figure) => {
            let text = format!("{figure:.decimals$}");
            let is_zero = !text.contains(|digit: char| ('1'..='9').contains(&digit));
            // Not a zero with a sign.
            if is_zero { text.replace('-', "") } else { text }
        }
        None => "-".to_owned(),
    });
    format!("| {name} | {} |\n", shown.collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_medians_and_ratios_and_nothing_of_what_failed() {
        let mut table = Table::new("t", &[("a", 0), ("b", 1)]).compared();
        for round in [[1.0, 5.0], [9.0, 6.0], [2.0, 4.0]] {
            table.add("this", Ok(round.to_vec()));
        }
        table.add("that", Ok(vec![4.0, -0.01]));
        table.add("wrong", Ok(vec![1.0, 1.0]));
        table.add("wrong", Err(anyhow::anyhow!("it broke")));
        assert_eq!(
            table.text(),
            "\nt\n\n| | a | b |\n|---|---:|---:|\n| this | 2 | 5.0 |\n| that | 4 | 0.0 |\n| wrong | - | - |\n\
             | this to that | 0.50 | - |\n| this to wrong | - | - |\n\nfailed: t, wrong: it broke\n"
        );
    }
}
