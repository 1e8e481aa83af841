//! Keyset pages: where a page begins, in which order, and how many items it has.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// What a list is sorted by. The id always decides between equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// By name, in byte order.
    Name,
    /// By the time of creation.
    TimeCreated,
}

/// Which end comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The smallest.
    Ascending,
    /// The greatest.
    Descending,
}

/// The last item of the page before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Of a list by name.
    Name(String, Uuid),
    /// Of a list by time of creation.
    TimeCreated(DateTime<Utc>, Uuid),
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// What the list is sorted by.
    pub key: SortKey,
    /// Which end comes first.
    pub direction: Direction,
    /// The item after which the page begins; its variant must match `key`.
    pub after: Option<Cursor>,
    /// Items at most.
    pub limit: u32,
}

/// Applies a page to a boxed query over columns of its table.
///
/// `column >= value AND (column > value OR id > id_value)` says the same as a row comparison, which
/// Diesel cannot express, and lets the index find the first row.
macro_rules! paged {
    ($query:expr, $page:expr, $table:ident . $name:ident, $time:ident, $id:ident) => {{
        use diesel::prelude::*;
        use $crate::read::page::{Cursor, Direction, SortKey};
        use $crate::schema::$table as table;
        let mut query = $query.limit(i64::from($page.limit));
        query = match ($page.after.clone(), $page.direction) {
            (None, _) => query,
            (Some(Cursor::Name(name, id)), Direction::Ascending) => query
                .filter(table::$name.ge(name.clone()))
                .filter(table::$name.gt(name).or(table::$id.gt(id))),
            (Some(Cursor::Name(name, id)), Direction::Descending) => query
                .filter(table::$name.le(name.clone()))
                .filter(table::$name.lt(name).or(table::$id.lt(id))),
            (Some(Cursor::TimeCreated(time, id)), Direction::Ascending) => query
                .filter(table::$time.ge(time))
                .filter(table::$time.gt(time).or(table::$id.gt(id))),
            (Some(Cursor::TimeCreated(time, id)), Direction::Descending) => query
                .filter(table::$time.le(time))
                .filter(table::$time.lt(time).or(table::$id.lt(id))),
        };
        match ($page.key, $page.direction) {
            (SortKey::Name, Direction::Ascending) => {
                query.order((table::$name.asc(), table::$id.asc()))
            }
            (SortKey::Name, Direction::Descending) => {
                query.order((table::$name.desc(), table::$id.desc()))
            }
            (SortKey::TimeCreated, Direction::Ascending) => {
                query.order((table::$time.asc(), table::$id.asc()))
            }
            (SortKey::TimeCreated, Direction::Descending) => {
                query.order((table::$time.desc(), table::$id.desc()))
            }
        }
    }};
}
pub(super) use paged;
