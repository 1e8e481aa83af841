//! All sagas. A saga that does not stand here cannot be submitted, recovered or shown.

use std::sync::{Arc, LazyLock};

use crate::definition::Definition;
use crate::saga::{InstanceCreate, InstanceDelete, ProjectCreate, ProjectDelete};

static DEFINITIONS: LazyLock<Vec<Arc<Definition>>> = LazyLock::new(|| {
    vec![
        Arc::new(Definition::of::<ProjectCreate>()),
        Arc::new(Definition::of::<ProjectDelete>()),
        Arc::new(Definition::of::<InstanceCreate>()),
        Arc::new(Definition::of::<InstanceDelete>()),
    ]
});

/// All definitions.
pub fn all() -> &'static [Arc<Definition>] {
    &DEFINITIONS
}

/// The definition of a name.
pub fn find(name: &str) -> Option<&'static Arc<Definition>> {
    DEFINITIONS
        .iter()
        .find(|definition| definition.name == name)
}

/// All names.
pub fn names() -> Vec<&'static str> {
    DEFINITIONS
        .iter()
        .map(|definition| definition.name)
        .collect()
}

/// The ids in the log and the names of a saga's nodes, in order; `None` for an unknown saga.
pub fn nodes(name: &str) -> Option<Vec<(i64, String)>> {
    Some(
        (0..)
            .zip(find(name)?.node_names().map(str::to_owned))
            .collect(),
    )
}
