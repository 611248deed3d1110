//! What people do to runs under way, and what pods do that nobody wants.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::check::violations;
use crate::examples::{Example, example};
use crate::kubelet::script::{Fate, Script};
use crate::server::line::Faults;
use crate::server::objects::{Deletion, Key};
use crate::server::resource::Resource;
use crate::world::{NAMESPACE, World, condition};
use crate::{seed, simulate};

fn world(example: &Example, mut script: Script) -> World {
    script.values.clone_from(&example.values);
    let world = World::new(script.seed, script);
    world.operate("a", &Faults::new([]), false, |_, _| {});
    world
}

/// Starts the first workflow of an example, and waits until some of it runs.
async fn begun(world: &World, example: &Example) -> String {
    example.objects.iter().for_each(|object| world.apply(object));
    let workflow = example.workflows[0].clone();
    world.start(&workflow);
    world.until(|| !world.kubelet.processes().is_empty()).await;
    workflow
}

fn verdict(world: &World, execution: &str) -> Value {
    let execution = world.get("executions", execution).unwrap();
    let succeeded = condition(&execution, "Succeeded").unwrap();
    json!([succeeded["status"], succeeded["reason"]])
}

fn nothing_runs(world: &World) {
    assert!(world.kubelet.processes().iter().all(|process| process.to.is_some()));
    assert!(world.list("pods").is_empty(), "{:?}", world.list("pods"));
    assert_eq!(violations(world), Vec::<String>::new());
}

#[test]
fn a_cancelled_run_ends_with_its_pods() {
    simulate(async {
        let example = example("monthly-report");
        let world = world(&example, Script::new(seed()));
        let work = async {
            let name = begun(&world, &example).await;
            let key = Key::new(Resource::named("executions"), NAMESPACE, &name);
            world
                .server
                .apply("user", |objects| objects.modify(&key, |run| run["spec"]["cancel"] = json!(true)))
                .unwrap();
            world.finished(&name).await;
            assert_eq!(verdict(&world, &name), json!(["False", "Cancelled"]));
        };
        world.through(work).await;
        nothing_runs(&world);
    });
}

#[test]
fn a_suspended_run_starts_nothing_until_it_is_resumed() {
    simulate(async {
        let example = example("monthly-report");
        let world = world(&example, Script::new(seed()));
        let work = async {
            let name = begun(&world, &example).await;
            let key = Key::new(Resource::named("executions"), NAMESPACE, &name);
            let suspend = |held: bool| {
                let change = |run: &mut Value| run["spec"]["suspend"] = json!(held);
                world.server.apply("user", |objects| objects.modify(&key, change)).unwrap();
            };
            suspend(true);
            let reason = || condition(&world.get("executions", &name).unwrap(), "Succeeded").unwrap()["reason"].clone();
            world.until(|| reason() == "Suspended").await;
            // What had its pod by then goes on to its end.
            sleep(Duration::from_secs(600)).await;
            let started = world.kubelet.processes().len();
            sleep(Duration::from_secs(3600)).await;
            assert_eq!(world.kubelet.processes().len(), started);
            assert_eq!(reason(), "Suspended");
            suspend(false);
            world.finished(&name).await;
            assert_eq!(verdict(&world, &name), json!(["True", "Succeeded"]));
            assert!(world.kubelet.processes().len() > started);
        };
        world.through(work).await;
        nothing_runs(&world);
    });
}

#[test]
fn what_is_asked_of_a_run_after_its_end_is_seen() {
    simulate(async {
        let example = example("retail-summary");
        let world = world(&example, Script::new(seed()));
        let work = async {
            world.run(&example).await;
            let name = example.workflows[0].clone();
            let key = Key::new(Resource::named("executions"), NAMESPACE, &name);
            let change = |run: &mut Value| run["spec"]["suspend"] = json!(true);
            world.server.apply("user", |objects| objects.modify(&key, change)).unwrap();
            let is_seen = || {
                let run = world.get("executions", &name).unwrap();
                run["metadata"]["generation"] == 2 && run["status"]["observedGeneration"] == 2
            };
            let seen = world.until(is_seen);
            timeout(Duration::from_secs(300), seen).await.expect("it is seen within five minutes");
            assert_eq!(verdict(&world, &name), json!(["True", "Succeeded"]));
        };
        world.through(work).await;
        nothing_runs(&world);
    });
}

#[test]
fn a_task_that_never_ends_is_ended_by_its_timeout() {
    simulate(async {
        let mut script = Script::new(seed());
        let endless = (0..9).map(|process| (("cleaned".to_owned(), process), Fate::Endless));
        script.fates.extend(endless);
        let mut example = example("retail-summary");
        for workflow in example.objects.iter_mut().filter(|object| object["kind"] == "Workflow") {
            workflow["spec"]["defaults"]["timeout"] = json!("2m");
        }
        let world = world(&example, script);
        let work = async {
            let name = begun(&world, &example).await;
            world.finished(&name).await;
            assert_eq!(verdict(&world, &name), json!(["False", "TaskFailed"]));
            let run = world.get("executions", &name).unwrap();
            assert_eq!(run["status"]["failures"][0]["reason"], "Timeout");
        };
        world.through(work).await;
        nothing_runs(&world);
    });
}

#[test]
fn a_workflow_deleted_in_mid_run_does_not_disturb_the_run() {
    simulate(async {
        let example = example("join-and-export");
        let world = world(&example, Script::new(seed()));
        let work = async {
            let name = begun(&world, &example).await;
            let key = Key::new(Resource::named("workflows"), NAMESPACE, &name);
            world.server.apply("user", |objects| objects.delete(&key, &Deletion::default())).unwrap();
            world.finished(&name).await;
            assert_eq!(verdict(&world, &name), json!(["True", "Succeeded"]));
        };
        world.through(work).await;
        nothing_runs(&world);
    });
}

#[test]
fn a_namespace_goes_in_mid_run_though_the_store_is_unreachable() {
    simulate(async {
        let example = example("monthly-report");
        let world = world(&example, Script::new(seed()));
        let work = async {
            begun(&world, &example).await;
            world.bucket.set_unreachable(true);
            let key = Key::new(Resource::named("namespaces"), "", NAMESPACE);
            world.server.apply("user", |objects| objects.delete(&key, &Deletion::default())).unwrap();
            let gone = world.until(|| world.server.objects().get(&key).is_err());
            timeout(Duration::from_secs(300), gone).await.expect("the namespace is gone within five minutes");
        };
        world.through(work).await;
        nothing_runs(&world);
    });
}

#[test]
fn an_operator_with_nothing_to_do_writes_nothing() {
    simulate(async {
        let example = example("retail-summary");
        let world = world(&example, Script::new(seed()));
        world.through(world.run(&example)).await;
        let version = world.server.objects().version;
        world.through(sleep(Duration::from_secs(3600))).await;
        assert_eq!(world.server.objects().version, version);
        nothing_runs(&world);
    });
}
