//! What the service says about itself.

use serde::Serialize;
use utoipa::ToSchema;

/// What runs here.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({"name": "nexus", "version": "0.1.0", "api_version": "v1"})))]
pub struct Version {
    /// The product.
    #[schema(value_type = String)]
    pub name: &'static str,
    /// The version of the program.
    #[schema(value_type = String)]
    pub version: &'static str,
    /// The version of the API: the first segment of every path.
    #[schema(value_type = String)]
    pub api_version: &'static str,
}

impl Version {
    /// The running program.
    pub const CURRENT: Self = Self {
        name: "nexus",
        version: env!("CARGO_PKG_VERSION"),
        api_version: "v1",
    };
}
