use tokio_util::sync::CancellationToken;

use crate::Context;

/// Why the controllers cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {}

/// Runs every controller until `shutdown`.
///
/// # Errors
/// Where they cannot go on.
pub async fn run_controllers(_context: Context, shutdown: CancellationToken) -> Result<(), OperatorError> {
    shutdown.cancelled().await;
    Ok(())
}
