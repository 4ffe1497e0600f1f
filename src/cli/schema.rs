//! `surgetank schema`: for editors that complete and check YAML, and for Helm.

use std::io::Write as _;

use super::Failed;
use crate::config::Config;

pub(super) fn run() -> Result<(), Failed> {
    let schema = serde_json::to_string_pretty(&Config::json_schema()).map_err(Failed::internal)?;
    writeln!(std::io::stdout().lock(), "{schema}")
        .map_err(|error| Failed::unavailable(format!("cannot write the schema: {error}")))
}
