//! What each SQLSTATE means for us: what it ends, whether the same is worth running again, and what
//! the caller is told. The one table; `docs/transactions.md` has the same rows.
//!
//! A row names classes (two characters) and codes (five); a code goes before its class. What is in no
//! row, such as another engine's own codes, has a rule of its own: [`UNKNOWN`].

use super::flight::ServerError;

/// How much an error ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blast {
    /// The statement, if a savepoint was set before it; without one, its transaction.
    Statement,
    /// The transaction, also when the error was met behind a savepoint.
    Transaction,
    /// The session, and the transaction with it.
    Connection,
    /// Nobody knows whether the transaction was committed.
    CommitUnknown,
}

/// Whether the same is worth running again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It fails again.
    Never,
    /// The whole transaction, at once, up to [`crate::types::limits::BATCH_ATTEMPTS_MAX`] times.
    Whole,
    /// Later, by whoever has the time: the caller, or a saga.
    Later,
}

/// What the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The database cannot do it now; ask again after a while.
    Busy,
    /// A defect of the service or of how it was set up.
    Bug,
    /// The refusal that the constraint's or guard's name stands for; a defect if it stands for none.
    ByConstraint,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Classes and codes.
    pub codes: &'static [&'static str],
    /// What has happened, in words.
    pub meaning: &'static str,
    /// What it ends.
    pub kills: Blast,
    /// Whether it is run again.
    pub again: Again,
    /// What the caller is told.
    pub answer: Answer,
}

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        codes: &["23"],
        meaning: "a constraint is violated",
        kills: Blast::Statement,
        again: Again::Never,
        answer: Answer::ByConstraint,
    },
    Rule {
        codes: &["NX001"],
        meaning: "a guard has refused",
        kills: Blast::Statement,
        again: Again::Never,
        answer: Answer::ByConstraint,
    },
    Rule {
        codes: &["40", "72"],
        meaning: "a conflict with another transaction: serialization, deadlock, old snapshot",
        kills: Blast::Transaction,
        again: Again::Whole,
        answer: Answer::Busy,
    },
    Rule {
        codes: &["40002"],
        meaning: "a constraint is violated at the commit",
        kills: Blast::Transaction,
        again: Again::Never,
        answer: Answer::ByConstraint,
    },
    Rule {
        codes: &["40003", "08007"],
        meaning: "the server does not know whether it has committed",
        kills: Blast::CommitUnknown,
        again: Again::Later,
        answer: Answer::Busy,
    },
    Rule {
        codes: &["55P03", "57014"],
        meaning: "a lock or the statement's end did not come in time",
        kills: Blast::Statement,
        again: Again::Later,
        answer: Answer::Busy,
    },
    Rule {
        codes: &["08", "25P03", "25P04", "28", "57"],
        meaning: "the session is ended, or none is given: shutdown, restart, time-out, operator",
        kills: Blast::Connection,
        again: Again::Later,
        answer: Answer::Busy,
    },
    Rule {
        codes: &["25006"],
        meaning: "the server takes no writes: it is a stand-by now",
        kills: Blast::Transaction,
        again: Again::Later,
        answer: Answer::Busy,
    },
    Rule {
        codes: &["53", "58", "F0", "XX"],
        meaning: "the server is in trouble: memory, disk, files, an internal error",
        kills: Blast::Transaction,
        again: Again::Later,
        answer: Answer::Busy,
    },
    Rule {
        codes: &["25P02"],
        meaning: "an error before this one was swallowed; never the cause",
        kills: Blast::Transaction,
        again: Again::Never,
        answer: Answer::Bug,
    },
    Rule {
        codes: &["0B", "25", "2D", "3B"],
        meaning: "a transaction or savepoint is not where the statement takes it to be",
        kills: Blast::Transaction,
        again: Again::Never,
        answer: Answer::Bug,
    },
    Rule {
        codes: &["0A", "26"],
        meaning: "a prepared statement is stale (sent once more by the session itself), or not supported",
        kills: Blast::Statement,
        again: Again::Never,
        answer: Answer::Bug,
    },
    Rule {
        codes: &[
            "00", "01", "02", "03", "09", "0F", "0L", "0P", "0Z", "20", "21", "22", "24", "27",
            "2B", "2F", "34", "38", "39", "3D", "3F", "42", "44", "54", "55", "HV", "P0",
        ],
        meaning: "the statement, its values or the schema are wrong",
        kills: Blast::Statement,
        again: Again::Never,
        answer: Answer::Bug,
    },
];

/// What is in no row. Nothing is guessed: it is a defect until somebody adds the row.
pub const UNKNOWN: Rule = Rule {
    codes: &[],
    meaning: "anything else, such as another engine's own codes",
    kills: Blast::Transaction,
    again: Again::Never,
    answer: Answer::Bug,
};

/// The rule for a SQLSTATE: its own, else its class's, else [`UNKNOWN`].
#[must_use]
pub fn rule(sqlstate: &str) -> &'static Rule {
    let class = sqlstate.get(..2).unwrap_or_default();
    let named = |code: &str| RULES.iter().find(|rule| rule.codes.contains(&code));
    named(sqlstate).or_else(|| named(class)).unwrap_or(&UNKNOWN)
}

impl ServerError {
    /// The rule for its SQLSTATE.
    #[must_use]
    pub fn rule(&self) -> &'static Rule {
        rule(&self.sqlstate)
    }

    /// What it ends. A fatal error ends the session, whatever its code.
    #[must_use]
    pub fn kills(&self) -> Blast {
        match self.rule().kills {
            Blast::Statement | Blast::Transaction if self.is_fatal() => Blast::Connection,
            kills => kills,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_goes_before_its_class() {
        assert_eq!(rule("40001").again, Again::Whole);
        assert_eq!(rule("40003").kills, Blast::CommitUnknown);
        assert_eq!(rule("57014").kills, Blast::Statement);
        assert_eq!(rule("57P01").kills, Blast::Connection);
        assert_eq!(rule("25006").answer, Answer::Busy);
        assert_eq!(rule("25P02").answer, Answer::Bug);
    }

    #[test]
    fn what_nobody_knows_is_a_defect() {
        for code in ["ZZ999", "NX002", "", "4", "é23"] {
            assert_eq!(rule(code), &UNKNOWN, "{code}");
        }
    }

    #[test]
    fn a_fatal_error_ends_the_session() {
        let mut error = ServerError {
            sqlstate: "42601".to_owned(),
            ..ServerError::default()
        };
        assert_eq!(error.kills(), Blast::Statement);
        error.severity = "FATAL".to_owned();
        assert_eq!(error.kills(), Blast::Connection);
    }

    #[test]
    fn no_code_has_two_rules() {
        let mut codes: Vec<_> = RULES.iter().flat_map(|rule| rule.codes).collect();
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }
}
