//! `docs/conformance.md` and the suites say the same: every case has a test, every test a case.

use std::collections::{BTreeMap, BTreeSet};

use super::holds;
use super::tree::Tree;

const PAGE: &str = "docs/conformance.md";

/// The groups of the page, and how many cases each has.
const GROUPS: [(char, usize); 9] = [
    ('A', 20),
    ('B', 30),
    ('C', 16),
    ('D', 10),
    ('E', 10),
    ('G', 10),
    ('J', 15),
    ('K', 13),
    ('L', 8),
];

/// Each case of the page with what shows it: names of tests, and links.
fn cases(tree: &Tree) -> Vec<(String, Vec<String>)> {
    let page = tree.files.get(PAGE).map_or("", String::as_str);
    let cells = page.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| ")?.split(" | ").collect();
        let [case, _, shown] = cells[..] else {
            return None;
        };
        let number = case.get(1..)?.parse::<usize>().is_ok();
        number.then(|| {
            (
                case.to_owned(),
                shown.trim_end_matches('|').trim().to_owned(),
            )
        })
    });
    cells
        .map(|(case, shown)| {
            let shown = shown.split(", ").filter(|name| !name.is_empty());
            (
                case,
                shown
                    .map(|name| name.trim_matches('`').to_owned())
                    .collect(),
            )
        })
        .collect()
}

/// The tests of the suites: functions, and files that must not compile.
fn tests(tree: &Tree) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for (path, text) in tree.below("tests/suite/", &[".rs"]) {
        if let Some(file) = path.strip_prefix("tests/suite/conformance/compile/") {
            tests.insert(file.trim_end_matches(".rs").to_owned());
            continue;
        }
        let names = text.lines().filter_map(|line| {
            let line = line.trim_start().trim_start_matches("async ");
            line.strip_prefix("fn ")?.split(['(', '<']).next()
        });
        tests.extend(names.map(str::to_owned));
    }
    tests
}

/// The cases of the page's groups after which a test is named: `a01_a02_..` is A1 and A2.
fn named_cases(test: &str) -> Vec<String> {
    let ids = test.split('_').map_while(|part| {
        let group = part.chars().next().filter(char::is_ascii_lowercase)?;
        let number = part.get(1..).filter(|number| number.len() == 2)?;
        Some(format!(
            "{}{}",
            group.to_ascii_uppercase(),
            number.parse::<usize>().ok()?
        ))
    });
    let on_page = |id: &String| GROUPS.iter().any(|(group, _)| id.starts_with(*group));
    ids.filter(on_page).collect()
}

fn unlisted(tree: &Tree) -> Vec<String> {
    let cases: BTreeMap<_, _> = cases(tree).into_iter().collect();
    let mut complaints = Vec::new();
    for test in tests(tree) {
        for case in named_cases(&test) {
            if !cases.get(&case).is_some_and(|shown| shown.contains(&test)) {
                complaints.push(format!("{PAGE}: {case} does not list {test}"));
            }
        }
    }
    complaints
}

fn unshown(tree: &Tree) -> Vec<String> {
    let tests = tests(tree);
    let mut complaints = Vec::new();
    for (case, shown) in cases(tree) {
        if shown.is_empty() {
            complaints.push(format!("{PAGE}: nothing shows {case}"));
        }
        for name in shown {
            let decision = name.starts_with('[') && name.contains("](decisions/");
            if !decision && !tests.contains(&name) {
                complaints.push(format!(
                    "{PAGE}: {case} is shown by {name}, which is no test"
                ));
            }
        }
    }
    complaints
}

fn incomplete(tree: &Tree) -> Vec<String> {
    let Some(page) = tree.files.get(PAGE) else {
        return Vec::new();
    };
    let wanted = GROUPS
        .iter()
        .flat_map(|(group, count)| (1..=*count).map(move |number| format!("{group}{number}")));
    let found: Vec<_> = cases(tree).into_iter().map(|(case, _)| case).collect();
    let mut complaints: Vec<_> = wanted
        .filter(|case| found.iter().filter(|known| *known == case).count() != 1)
        .map(|case| format!("{PAGE}: {case} is not there exactly once"))
        .collect();
    if page.lines().filter(|line| line.starts_with("## ")).count() != GROUPS.len() {
        complaints.push(format!(
            "{PAGE}: another number of groups than {}",
            GROUPS.len()
        ));
    }
    complaints
}

#[test]
fn every_test_that_is_named_after_a_case_is_listed_there() {
    let broken = "#[test]\nfn a01_a02_a_batch_is_one() {}\n";
    holds(unlisted, &[("tests/suite/conformance/batch.rs", broken)]);
}

#[test]
fn every_case_is_shown_by_tests_that_exist() {
    let nothing = "| A1 | it holds |  |\n";
    let gone = "| A1 | it holds | `a01_it_holds` |\n";
    holds(unshown, &[(PAGE, nothing), (PAGE, gone)]);
}

#[test]
fn no_case_is_left_out() {
    let rows = GROUPS.iter().flat_map(|(group, count)| {
        let rows = (1..=*count).map(move |n| format!("| {group}{n} | it holds | `a_test` |\n"));
        std::iter::once(format!("## {group}\n")).chain(rows)
    });
    let whole: String = rows.collect();
    assert_eq!(incomplete(&Tree::of(PAGE, &whole)), [""; 0]);
    let short = whole.replace("| K13 | it holds | `a_test` |\n", "");
    holds(incomplete, &[(PAGE, &short)]);
}
