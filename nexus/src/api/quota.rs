//! Quotas: limits and what is used of them.

use db_model::model::{FleetQuota as FleetRow, ProjectQuota as ProjectRow};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::FieldError;
use super::validate::Violations;
use super::value::Whole;

/// A limit, and how much of it is used. A limit may be lowered below what is used: nothing is taken
/// away, and nothing more is given.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Usage {
    /// How much there may be.
    #[schema(minimum = 0, maximum = 9007199254740992_i64)]
    pub limit: i64,
    /// How much there is.
    #[schema(minimum = 0)]
    pub used: i64,
}

/// What a project's instances may use together, and what they use.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "instances": {"limit": 100, "used": 3}, "vcpus": {"limit": 400, "used": 12},
    "memory_bytes": {"limit": 1099511627776_i64, "used": 12884901888_i64},
})))]
pub struct ProjectQuota {
    /// Instances.
    pub instances: Usage,
    /// Virtual CPUs.
    pub vcpus: Usage,
    /// Memory, in bytes.
    pub memory_bytes: Usage,
}

impl From<ProjectRow> for ProjectQuota {
    fn from(row: ProjectRow) -> Self {
        let usage = |limit, used| Usage { limit, used };
        Self {
            instances: usage(row.instances_limit, row.instances_used),
            vcpus: usage(row.vcpus_limit, row.vcpus_used),
            memory_bytes: usage(row.memory_bytes_limit, row.memory_bytes_used),
        }
    }
}

/// Limits of a project. What is not named is left as it is, or as the configuration has it.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"instances": 200, "vcpus": 800, "memory_bytes": 2199023255552_i64})))]
pub struct QuotaLimits {
    /// Instances.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9007199254740992_i64)]
    pub instances: Option<Whole>,
    /// Virtual CPUs of all instances.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9007199254740992_i64)]
    pub vcpus: Option<Whole>,
    /// Memory of all instances, in bytes.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9007199254740992_i64)]
    pub memory_bytes: Option<Whole>,
}

/// [`QuotaLimits`] after the checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamedLimits {
    /// Instances.
    pub instances: Option<i64>,
    /// Virtual CPUs.
    pub vcpus: Option<i64>,
    /// Memory, in bytes.
    pub memory_bytes: Option<i64>,
}

impl QuotaLimits {
    /// Checks the limits as a part of a body in which they stand under `prefix`.
    pub fn check(self, prefix: &str, violations: &mut Violations) -> NamedLimits {
        let mut limit = |name: &str, value: Option<Whole>| {
            value.map(|value| violations.limit(&format!("{prefix}{name}"), value))
        };
        NamedLimits {
            instances: limit("instances", self.instances),
            vcpus: limit("vcpus", self.vcpus),
            memory_bytes: limit("memory_bytes", self.memory_bytes),
        }
    }

    /// Checks the limits as a body of their own.
    pub fn validate(self) -> Result<NamedLimits, Vec<FieldError>> {
        let mut violations = Violations::default();
        let limits = self.check("", &mut violations);
        violations.finish().map(|()| limits)
    }
}

/// How many projects there may be, and how many there are.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(examples(json!({"projects": {"limit": 1000, "used": 7}})))]
pub struct FleetQuota {
    /// Projects.
    pub projects: Usage,
}

impl From<FleetRow> for FleetQuota {
    fn from(row: FleetRow) -> Self {
        Self {
            projects: Usage {
                limit: row.projects_limit,
                used: row.projects_used,
            },
        }
    }
}

/// The fleet's limit.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"projects": 2000})))]
pub struct FleetLimits {
    /// Projects.
    #[schema(value_type = i64, minimum = 0, maximum = 9007199254740992_i64)]
    pub projects: Whole,
}

impl FleetLimits {
    /// Checks the limit.
    pub fn validate(self) -> Result<i64, Vec<FieldError>> {
        let mut violations = Violations::default();
        let projects = violations.limit("projects", self.projects);
        violations.finish().map(|()| projects)
    }
}
