//! All sagas. A saga that does not stand here cannot be submitted, recovered or shown.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use db_model::query::saga::DEFINITION_HASH_CHARACTERS;

use crate::definition::{Definition, DefinitionError};
use crate::saga::{InstanceCreate, InstanceDelete, ProjectCreate, ProjectDelete};

/// The sagas of the service.
static BUILTIN: LazyLock<Arc<Registry>> = LazyLock::new(|| {
    let definitions = [
        Definition::of::<ProjectCreate>(),
        Definition::of::<ProjectDelete>(),
        Definition::of::<InstanceCreate>(),
        Definition::of::<InstanceDelete>(),
    ];
    let registry = Registry::new(definitions).expect("a test builds the sagas of the service");
    Arc::new(registry)
});

/// The sagas of the service.
pub fn builtin() -> &'static Arc<Registry> {
    &BUILTIN
}

/// Sagas that an executor can run.
#[derive(Clone, Debug)]
pub struct Registry {
    definitions: Vec<Arc<Definition>>,
}

impl Registry {
    /// A registry. Of several definitions of one name the first is what is submitted; the others are
    /// earlier shapes, of which unfinished sagas may be left.
    ///
    /// # Errors
    /// The first definition's that is none.
    pub fn new(
        definitions: impl IntoIterator<Item = Result<Definition, DefinitionError>>,
    ) -> Result<Self, DefinitionError> {
        let definitions = definitions
            .into_iter()
            .map(|definition| definition.map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self { definitions })
    }

    /// All definitions.
    pub fn all(&self) -> &[Arc<Definition>] {
        &self.definitions
    }

    /// The definition of a name that is submitted.
    pub fn find(&self, name: &str) -> Option<&Arc<Definition>> {
        self.definitions
            .iter()
            .find(|definition| definition.name == name)
    }

    /// The definition by which a stored saga runs; `None` for one that another program has written.
    pub fn of_row(&self, name: &str, hash: &str) -> Option<&Arc<Definition>> {
        let hash = hash.get(..DEFINITION_HASH_CHARACTERS)?;
        self.definitions
            .iter()
            .find(|definition| definition.name == name && definition.hash == hash)
    }

    /// All names, each once.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = Vec::new();
        for definition in &self.definitions {
            if !names.contains(&definition.name) {
                names.push(definition.name);
            }
        }
        names
    }

    /// How long nothing may be recorded of each saga before it counts as stalled.
    pub fn patience(&self) -> Vec<(&'static str, Duration)> {
        self.names()
            .into_iter()
            .filter_map(|name| Some((name, self.find(name)?.stalled_after)))
            .collect()
    }

    /// Which definitions there are, as the take-over asks for them.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.definitions
            .iter()
            .map(|definition| format!("{}:{}", definition.name, definition.hash))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sagas_of_the_service_can_be_built_and_planned() {
        for definition in builtin().all() {
            definition.plan().unwrap();
        }
        assert_eq!(builtin().names().len(), builtin().all().len());
    }
}
