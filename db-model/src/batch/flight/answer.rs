//! The rows of a flight, in the form in which Diesel reads them.

use super::error::Lost;
use bytes::Bytes;
use diesel::backend::Backend;
use diesel::pg::{Pg, PgValue, TypeOidLookup};
use diesel::row::{PartialRow, RowIndex, RowSealed};
use postgres_protocol::message::backend::{DataRowBody, RowDescriptionBody};
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use tokio_postgres::fallible_iterator::FallibleIterator;

/// What one statement answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The columns of the rows; none for a statement that returns no rows.
    pub columns: Arc<[Column]>,
    /// The rows, in the server's order.
    pub rows: Vec<Row>,
    /// The number of rows that the statement reports as touched or returned; 0 where it reports none.
    pub affected: u64,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The oid of its type.
    pub oid: NonZeroU32,
}

impl TypeOidLookup for Column {
    fn lookup(&self) -> NonZeroU32 {
        self.oid
    }
}

pub(super) fn columns(body: &RowDescriptionBody) -> Result<Arc<[Column]>, Lost> {
    let fields = body
        .fields()
        .map(|field| Ok((field.name().to_owned(), field.type_oid())));
    let fields: Vec<_> = fields
        .collect()
        .map_err(|error| Lost::protocol(error.to_string()))?;
    let column = |(name, oid)| {
        let oid = NonZeroU32::new(oid).ok_or_else(|| Lost::protocol("a column has no type"))?;
        Ok(Column { name, oid })
    };
    fields.into_iter().map(column).collect()
}

/// The number at the end of a command's tag, as in `INSERT 0 3`.
pub(super) fn affected(tag: &str) -> u64 {
    tag.rsplit(' ')
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

/// A row, with its values in binary format.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<[Column]>,
    body: Bytes,
    values: Box<[Option<Range<usize>>]>,
}

impl Row {
    pub(super) fn new(columns: Arc<[Column]>, body: &DataRowBody) -> Result<Self, Lost> {
        let values: Vec<_> = body
            .ranges()
            .collect()
            .map_err(|error| Lost::protocol(error.to_string()))?;
        if values.len() != columns.len() {
            return Err(Lost::protocol(format!(
                "{} values in {} columns",
                values.len(),
                columns.len()
            )));
        }
        Ok(Self {
            columns,
            body: body.buffer_bytes().clone(),
            values: values.into(),
        })
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// A value; `None` for NULL, and beyond the last column.
    #[must_use]
    pub fn value(&self, index: usize) -> Option<&[u8]> {
        self.body.get(self.values.get(index)?.clone()?)
    }

    /// A value that is text.
    pub(in crate::batch) fn text(&self, index: usize) -> Option<&str> {
        std::str::from_utf8(self.value(index)?).ok()
    }
}

impl RowSealed for Row {}

impl RowIndex<usize> for Row {
    fn idx(&self, index: usize) -> Option<usize> {
        (index < self.columns.len()).then_some(index)
    }
}

impl<'a> RowIndex<&'a str> for Row {
    fn idx(&self, name: &'a str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

impl<'a> diesel::row::Row<'a, Pg> for Row {
    type Field<'f>
        = Field<'f>
    where
        Self: 'f,
        'a: 'f;
    type InnerPartialRow = Self;

    fn field_count(&self) -> usize {
        self.columns.len()
    }

    fn get<'b, I>(&'b self, index: I) -> Option<Self::Field<'b>>
    where
        'a: 'b,
        Self: RowIndex<I>,
    {
        let index = self.idx(index)?;
        Some(Field {
            column: self.columns.get(index)?,
            value: self.value(index),
        })
    }

    fn partial_row(&self, range: Range<usize>) -> PartialRow<'_, Self::InnerPartialRow> {
        PartialRow::new(self, range)
    }
}

/// One value of a row.
#[derive(Debug)]
pub struct Field<'a> {
    column: &'a Column,
    value: Option<&'a [u8]>,
}

impl<'a> diesel::row::Field<'a, Pg> for Field<'a> {
    fn field_name(&self) -> Option<&str> {
        Some(&self.column.name)
    }

    fn value(&self) -> Option<<Pg as Backend>::RawValue<'_>> {
        self.value.map(|value| PgValue::new(value, self.column))
    }
}
