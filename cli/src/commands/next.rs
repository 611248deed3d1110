//! `pintail next`: when the schedules of a LaunchPlan tick.

use jiff::Timestamp;
use pintail_plan::{PlannedLaunch, TriggerOn};
use serde_json::json;

use crate::arguments::{DoctorOutput, Next};
use crate::cluster::Cluster;
use crate::failure::CommandFailure;
use crate::manifests::{Manifests, understand};
use crate::output::{print_json, print_table};

/// One tick.
struct Coming {
    at: Timestamp,
    trigger: String,
    /// In the zone of the schedule.
    local: String,
}

pub async fn next(arguments: Next) -> Result<(), CommandFailure> {
    let launch = match arguments.cluster.any() {
        true => {
            let cluster = Cluster::connect(&arguments.cluster).await?;
            understand(&cluster.launch_plan(&arguments.plan).await?)?
        }
        false => Manifests::read_right(&arguments.files)?.launch(&arguments.plan)?.1,
    };
    let coming = coming(&launch, arguments.after.unwrap_or_else(Timestamp::now), arguments.count.into());
    if coming.is_empty() {
        return Err(CommandFailure::failed(format!("LaunchPlan {} has no schedule that ticks again", launch.name)));
    }
    if launch.suspended {
        eprintln!("LaunchPlan {} is suspended: none of these starts a run", launch.name);
    }
    match arguments.output {
        DoctorOutput::Json => {
            let tick =
                |tick: &Coming| json!({ "trigger": tick.trigger, "time": tick.at.to_string(), "local": tick.local });
            print_json(&json!({ "plan": launch.name, "ticks": coming.iter().map(tick).collect::<Vec<_>>() }))
        }
        DoctorOutput::Pretty => {
            let row = |tick: Coming| vec![tick.trigger, tick.local, tick.at.to_string()];
            print_table(&["TRIGGER", "TICK", "UTC"], coming.into_iter().map(row));
            Ok(())
        }
    }
}

/// The first `count` ticks after a time, of all schedules together.
fn coming(launch: &PlannedLaunch, after: Timestamp, count: usize) -> Vec<Coming> {
    let mut coming = Vec::new();
    for trigger in &launch.triggers {
        let TriggerOn::Schedule { schedule, .. } = &trigger.on else { continue };
        let ticks = std::iter::successors(schedule.next_after(after), |tick| schedule.next_after(*tick));
        coming.extend(ticks.take(count).map(|at| Coming {
            at,
            trigger: trigger.name.clone(),
            local: at.to_zoned(schedule.time_zone().clone()).strftime("%a %F %T %:z %Q").to_string(),
        }));
    }
    coming.sort_by(|one, other| (one.at, &one.trigger).cmp(&(other.at, &other.trigger)));
    coming.truncate(count);
    coming
}

#[cfg(test)]
mod tests {
    use pintail_api as api;

    use super::*;

    fn launch(schedules: &[(&str, &str, &str)]) -> PlannedLaunch {
        let triggers: Vec<_> = schedules
            .iter()
            .map(|(name, cron, zone)| json!({ "name": name, "schedule": { "cron": cron, "timeZone": zone } }))
            .collect();
        let spec = json!({ "workflowRef": { "name": "report" }, "triggers": triggers });
        understand(&api::LaunchPlan::new("report", serde_json::from_value(spec).unwrap())).unwrap()
    }

    #[test]
    fn ticks_of_all_schedules_come_in_their_order_and_in_their_zones() {
        let launch = launch(&[("nightly", "30 2 * * *", "Europe/Paris"), ("noon", "0 12 * * *", "UTC")]);
        let found = coming(&launch, "2026-03-28T00:00:00Z".parse().unwrap(), 4);
        let shown: Vec<_> = found.iter().map(|tick| (tick.trigger.as_str(), tick.local.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("nightly", "Sat 2026-03-28 02:30:00 +01:00 Europe/Paris"),
                ("noon", "Sat 2026-03-28 12:00:00 +00:00 UTC"),
                // The clock skips that hour: the first instant after it.
                ("nightly", "Sun 2026-03-29 03:00:00 +02:00 Europe/Paris"),
                ("noon", "Sun 2026-03-29 12:00:00 +00:00 UTC"),
            ]
        );
    }
}
