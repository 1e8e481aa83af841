//! The states that rows can be in, each with the text that its column holds.

use serde::{Deserialize, Serialize};

/// Declares an enum whose values are the texts of a column with a CHECK.
macro_rules! text_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize,
            diesel::expression::AsExpression, diesel::deserialize::FromSqlRow)]
        #[diesel(sql_type = diesel::sql_types::Text)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text that stands in the database and in the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownText;

            fn from_str(text: &str) -> Result<Self, UnknownText> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    other => Err(UnknownText { kind: stringify!($name), text: other.to_owned() }),
                }
            }
        }

        impl diesel::serialize::ToSql<diesel::sql_types::Text, diesel::pg::Pg> for $name {
            fn to_sql<'b>(
                &'b self,
                out: &mut diesel::serialize::Output<'b, '_, diesel::pg::Pg>,
            ) -> diesel::serialize::Result {
                <str as diesel::serialize::ToSql<diesel::sql_types::Text, diesel::pg::Pg>>::to_sql(
                    self.as_str(), out,
                )
            }
        }

        impl diesel::deserialize::FromSql<diesel::sql_types::Text, diesel::pg::Pg> for $name {
            fn from_sql(value: diesel::pg::PgValue<'_>) -> diesel::deserialize::Result<Self> {
                Ok(std::str::from_utf8(value.as_bytes())?.parse()?)
            }
        }
    };
}

/// A text that is none of an enum's values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}")]
pub struct UnknownText {
    kind: &'static str,
    text: String,
}

text_enum! {
    /// The state of a project.
    ProjectState {
        /// Its create has charged the fleet; it takes no instances yet.
        Creating = "creating",
        /// It takes instances.
        Active = "active",
        /// Its delete has begun.
        Deleting = "deleting",
    }
}

text_enum! {
    /// The state of an instance.
    InstanceState {
        /// Its create has charged the project.
        Creating = "creating",
        /// On its way to running.
        Starting = "starting",
        /// Runs.
        Running = "running",
        /// On its way to stopped.
        Stopping = "stopping",
        /// Does not run.
        Stopped = "stopped",
        /// On its way from running to running.
        Rebooting = "rebooting",
        /// Its delete has begun.
        Deleting = "deleting",
        /// Nothing but a delete helps.
        Failed = "failed",
    }
}

impl InstanceState {
    /// The states from which a delete may begin.
    pub const DELETABLE: &'static [Self] = &[Self::Stopped, Self::Failed];

    /// What a caller may ask for in this state.
    pub fn allowed_actions(self) -> &'static [InstanceAction] {
        if Self::DELETABLE.contains(&self) {
            &[InstanceAction::Delete]
        } else {
            &[]
        }
    }

    /// Whether an operation is at work on the instance, which its row then names in `changed_by`.
    pub const fn in_transition(self) -> bool {
        matches!(
            self,
            Self::Creating | Self::Starting | Self::Stopping | Self::Rebooting | Self::Deleting
        )
    }
}

text_enum! {
    /// What a caller may ask of an instance.
    InstanceAction {
        /// Delete it.
        Delete = "delete",
    }
}

text_enum! {
    /// The state of a saga.
    SagaState {
        /// Runs forward.
        Running = "running",
        /// A node failed; what was done is being undone.
        Unwinding = "unwinding",
        /// Every node is done.
        Succeeded = "succeeded",
        /// A node failed and everything is undone.
        Failed = "failed",
        /// An undo was refused: a person has to look.
        Stuck = "stuck",
    }
}

impl SagaState {
    /// Whether it has ended for now. Only a person makes one that is stuck go on.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stuck)
    }
}

text_enum! {
    /// What happened to a node of a saga.
    SagaEventKind {
        /// Its action may have an effect from now on.
        Started = "started",
        /// Its action is done.
        Succeeded = "succeeded",
        /// Its action is given up.
        Failed = "failed",
        /// Its effect may be gone from now on.
        UndoStarted = "undo_started",
        /// Its effect is undone.
        UndoFinished = "undo_finished",
        /// Its undo is given up: a person has to look.
        UndoFailed = "undo_failed",
    }
}

impl SagaEventKind {
    /// Which part of the node's life it decides. Of each part the log takes one event: a node succeeds or
    /// fails, never both.
    pub const fn phase(self) -> i16 {
        match self {
            Self::Started => 1,
            Self::Succeeded | Self::Failed => 2,
            Self::UndoStarted => 3,
            Self::UndoFinished | Self::UndoFailed => 4,
        }
    }
}

text_enum! {
    /// The kinds of resources that an operation works on.
    ResourceKind {
        /// A project.
        Project = "project",
        /// An instance.
        Instance = "instance",
    }
}

text_enum! {
    /// What happened to a resource.
    EventKind {
        /// A project takes instances from now on.
        ProjectCreated = "project.created",
        /// A project is gone, and its name is free.
        ProjectDeleted = "project.deleted",
        /// Limits of a project were set.
        ProjectQuotaUpdated = "project.quota_updated",
        /// An instance can be used.
        InstanceCreated = "instance.created",
        /// An instance is gone, and its name is free.
        InstanceDeleted = "instance.deleted",
        /// The limit of the fleet was set.
        FleetQuotaUpdated = "fleet.quota_updated",
    }
}
