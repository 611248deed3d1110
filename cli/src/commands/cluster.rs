//! `pintail watch` and `pintail cancel`: what only a cluster does.

use kube::ResourceExt;

use crate::arguments::{Cancel, Watch};
use crate::cluster::Cluster;
use crate::cluster::follow::follow;
use crate::failure::CommandFailure;
use crate::interrupt::interrupts;
use crate::render::{display_status, ending, report};

pub async fn watch(arguments: Watch) -> Result<(), CommandFailure> {
    let cluster = Cluster::connect(&arguments.cluster).await?;
    let execution = cluster.execution(&arguments.name).await?;
    let ended = follow(&cluster, execution, arguments.wait_timeout, interrupts()?).await?;
    report(&[ended], cluster.flags(), arguments.output)
}

pub async fn cancel(arguments: Cancel) -> Result<(), CommandFailure> {
    let cluster = Cluster::connect(&arguments.cluster).await?;
    let execution = cluster.execution(&arguments.name).await?;
    let name = execution.name_any();
    if ending(&execution).is_some() {
        eprintln!("run {name} has ended already: {}", display_status(&execution));
        return Ok(());
    }
    cluster.cancel(&name).await?;
    eprintln!("run {name} is being cancelled\nfollow: pintail watch{} {name}", cluster.flags());
    Ok(())
}
