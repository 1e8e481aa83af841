//! How callers ask for a page of a list. `http::page` makes the page of it.

use utoipa::{IntoParams, ToSchema};

use db_model::read::{Direction, SortKey};

/// The order of a list; a leading `-` turns it around. Equal items are ordered by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub enum SortBy {
    /// By name, in byte order.
    #[serde(rename = "name")]
    Name,
    /// By name, backwards.
    #[serde(rename = "-name")]
    NameDescending,
    /// The oldest first.
    #[serde(rename = "time_created")]
    TimeCreated,
    /// The newest first.
    #[serde(rename = "-time_created")]
    TimeCreatedDescending,
}

impl SortBy {
    /// Every order.
    pub const ALL: [Self; 4] = [
        Self::Name,
        Self::NameDescending,
        Self::TimeCreated,
        Self::TimeCreatedDescending,
    ];

    /// The text in a query.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::NameDescending => "-name",
            Self::TimeCreated => "time_created",
            Self::TimeCreatedDescending => "-time_created",
        }
    }

    /// What the database sorts by.
    pub const fn key(self) -> (SortKey, Direction) {
        match self {
            Self::Name => (SortKey::Name, Direction::Ascending),
            Self::NameDescending => (SortKey::Name, Direction::Descending),
            Self::TimeCreated => (SortKey::TimeCreated, Direction::Ascending),
            Self::TimeCreatedDescending => (SortKey::TimeCreated, Direction::Descending),
        }
    }
}

/// The query of every list.
#[derive(Clone, Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Items of the page at most.
    #[param(
        minimum = 1,
        maximum = 1000,
        default = 100,
        nullable = false,
        example = 100
    )]
    pub limit: Option<u32>,
    /// `next_page` of the page before. It holds for the same list with the same filters and order.
    #[param(max_length = 1024, nullable = false, pattern = "^[A-Za-z0-9_-]+$")]
    pub page_token: Option<String>,
    /// The order of the list. With a `page_token` it may be left out.
    #[param(inline, nullable = false)]
    pub sort_by: Option<SortBy>,
}
