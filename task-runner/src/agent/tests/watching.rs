use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use object_store::ObjectStoreExt;
use pintail_protocol::{
    AccessMode, AgentOrder, Connection, ConnectionTarget, FORMAT, ObjectWatch, SecretVariable, encode_agent,
};
use tempfile::TempDir;

use super::*;
use crate::agent::run_agent;
use crate::agent::watch::{Next, Watcher};
use crate::failure::TaskFailure;
use crate::tests::servers;

const SINCE: &str = "2026-01-01T00:00:00.5Z";
const LATER: &str = "2026-06-01T00:00:00Z";
const BEFORE: &str = "2025-12-31T00:00:00Z";
const AFTER: &str = "2026-02-01T00:00:00Z";

/// A folder that is watched, and the store.
struct Place {
    folder: TempDir,
    store: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: tempfile::tempdir().unwrap() }
    }

    fn put(&self, path: &str, content: &str, modified_at: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::from(at(modified_at))).unwrap();
    }

    fn watch(&self, since: &str) -> ObjectWatch {
        ObjectWatch {
            plan: "import".to_owned(),
            trigger: "arrivals".to_owned(),
            connection: "raw".to_owned(),
            path: "incoming/*.csv".to_owned(),
            every_ms: 1,
            since: at(since),
            from_beginning: false,
        }
    }

    fn connection(&self) -> Connection {
        let target = ConnectionTarget::Folder { path: self.folder.path().to_str().unwrap().to_owned() };
        Connection { name: "raw".to_owned(), mode: AccessMode::Read, target }
    }

    /// Another agent, as after a restart.
    fn watcher(&self, watch: ObjectWatch, sink: &Arc<TestSink>) -> Watcher {
        let agent = agent(self.store.path(), Environment::default(), Arc::clone(sink) as Arc<dyn Sink>);
        Watcher::new(agent, watch, Some(self.connection())).unwrap()
    }
}

/// As often as a file needs to settle.
async fn pass_twice(watcher: &mut Watcher) {
    watcher.pass(&never()).await.unwrap();
    watcher.pass(&never()).await.unwrap();
}

async fn failure_of(watcher: &mut Watcher) -> TaskFailure {
    watcher.pass(&never()).await.unwrap_err()
}

#[tokio::test]
async fn what_was_there_before_starts_nothing_and_each_later_version_one_run_whatever_its_time() {
    let (place, sink) = (Place::new(), Arc::new(TestSink::default()));
    place.put("incoming/old.csv", "1", BEFORE);
    place.put("incoming/at-once.csv", "1", AFTER);
    place.put("incoming/other.txt", "1", AFTER);
    place.put("incoming/.half.csv", "1", AFTER);
    let mut watcher = place.watcher(place.watch(SINCE), &sink);
    pass_twice(&mut watcher).await;
    assert_eq!(sink.told_paths(), ["incoming/at-once.csv"]);

    // Late, out of order, and with a time from long before.
    place.put("incoming/b.csv", "1", AFTER);
    place.put("incoming/a.csv", "1", "1999-01-01T00:00:00Z");
    pass_twice(&mut watcher).await;
    assert_eq!(sink.told_paths(), ["incoming/a.csv", "incoming/b.csv"]);

    place.put("incoming/b.csv", "longer", AFTER);
    pass_twice(&mut watcher).await;
    let told = sink.told();
    let [overwritten] = &told[..] else { panic!("{told:?}") };
    let overwritten = object(overwritten);
    assert_eq!((overwritten.bytes, overwritten.version.as_str()), (6, "6-1769904000000000000"));
    assert_eq!(overwritten.modified_at, at(AFTER));
    assert!(overwritten.uri.ends_with("/incoming/b.csv") && overwritten.uri.starts_with('/'), "{overwritten:?}");

    pass_twice(&mut place.watcher(place.watch(SINCE), &sink)).await;
    assert_eq!(sink.told(), []);
}

#[tokio::test]
async fn from_the_beginning_all_are_told_the_oldest_first() {
    let (place, sink) = (Place::new(), Arc::new(TestSink::default()));
    for (path, modified_at) in [("a", AFTER), ("b", BEFORE), ("c", "2025-01-01T00:00:00Z")] {
        place.put(&format!("incoming/{path}.csv"), "1", modified_at);
    }
    let watch = ObjectWatch { from_beginning: true, ..place.watch(SINCE) };
    pass_twice(&mut place.watcher(watch, &sink)).await;
    assert_eq!(sink.told_paths(), ["incoming/c.csv", "incoming/b.csv", "incoming/a.csv"]);
}

#[tokio::test]
async fn a_file_that_is_still_written_is_not_told_of() {
    let (place, sink) = (Place::new(), Arc::new(TestSink::default()));
    let mut watcher = place.watcher(place.watch(SINCE), &sink);
    watcher.pass(&never()).await.unwrap();
    for content in ["1", "12", "123"] {
        place.put("incoming/a.csv", content, AFTER);
        watcher.pass(&never()).await.unwrap();
    }
    assert_eq!(sink.told(), []);
    watcher.pass(&never()).await.unwrap();
    assert_eq!(sink.told_paths(), ["incoming/a.csv"]);
}

#[tokio::test]
async fn a_trigger_that_was_edited_or_resumed_passes_over_what_came_meanwhile() {
    let (place, sink) = (Place::new(), Arc::new(TestSink::default()));
    place.put("incoming/told.csv", "1", AFTER);
    pass_twice(&mut place.watcher(place.watch(SINCE), &sink)).await;
    assert_eq!(sink.told().len(), 1);

    place.put("incoming/meanwhile.csv", "1", AFTER);
    place.put("incoming/new.csv", "1", "2026-06-02T00:00:00Z");
    let mut resumed = place.watcher(place.watch(LATER), &sink);
    pass_twice(&mut resumed).await;
    assert_eq!(sink.told_paths(), ["incoming/new.csv"]);
    place.put("incoming/late.csv", "1", BEFORE);
    pass_twice(&mut resumed).await;
    assert_eq!(sink.told_paths(), ["incoming/late.csv"]);
}

/// Answers the first occurrence and never the second, as if the agent were killed there.
struct KilledAfterOne(TestSink);

#[async_trait]
impl Sink for KilledAfterOne {
    async fn tell(&self, occurrence: Occurrence) -> Result<OccurrenceAnswer, SinkError> {
        if self.0.told.lock().unwrap().is_empty() {
            self.0.tell(occurrence).await
        } else {
            std::future::pending().await
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_told_and_not_written_down_is_told_again_as_the_same_occurrence() {
    let (place, sink) = (Place::new(), Arc::new(TestSink::default()));
    place.put("incoming/a.csv", "1", AFTER);
    place.put("incoming/b.csv", "1", AFTER);
    let killed = Arc::new(KilledAfterOne(TestSink::default()));
    let agent = agent(place.store.path(), Environment::default(), Arc::clone(&killed) as Arc<dyn Sink>);
    let mut watcher = Watcher::new(agent, place.watch(SINCE), Some(place.connection())).unwrap();
    watcher.pass(&never()).await.unwrap();
    let cut = tokio::time::timeout(Duration::from_secs(1), watcher.pass(&never())).await;
    assert!(cut.is_err());
    drop(watcher);

    pass_twice(&mut place.watcher(place.watch(SINCE), &sink)).await;
    let told = sink.told();
    assert_eq!(told.len(), 2);
    assert_eq!(told[..1], killed.0.told()[..]);
}

#[tokio::test]
async fn with_a_full_queue_the_objects_wait_where_they_are() {
    let place = Place::new();
    for number in 1..=3 {
        place.put(&format!("incoming/{number}.csv"), "1", AFTER);
    }
    let started = || Ok(OccurrenceAnswer::Execution { name: "run".to_owned() });
    let sink = TestSink::answering([started(), full(), full(), started(), full()]);
    let mut watcher = place.watcher(place.watch(SINCE), &sink);
    pass_twice(&mut watcher).await;
    assert_eq!(sink.told_paths(), ["incoming/1.csv", "incoming/2.csv"]);
    // An older one that comes meanwhile goes first.
    place.put("incoming/0.csv", "1", BEFORE);
    watcher.pass(&never()).await.unwrap();
    assert_eq!(sink.told_paths(), ["incoming/2.csv"]);
    watcher.pass(&never()).await.unwrap();
    assert_eq!(sink.told_paths(), ["incoming/0.csv", "incoming/2.csv"]);
    watcher.pass(&never()).await.unwrap();
    assert_eq!(sink.told_paths(), ["incoming/2.csv", "incoming/3.csv"]);
    watcher.pass(&never()).await.unwrap();
    assert_eq!(sink.told(), []);
}

#[tokio::test]
async fn what_starts_nothing_is_seen_and_what_is_not_understood_holds_up_no_other() {
    let place = Place::new();
    for number in 1..=3 {
        place.put(&format!("incoming/{number}.csv"), "1", AFTER);
    }
    let sink = TestSink::answering([dropped(), Err(refused())]);
    let mut watcher = place.watcher(place.watch(SINCE), &sink);
    watcher.pass(&never()).await.unwrap();
    let failure = failure_of(&mut watcher).await;
    assert!(failure.message.contains("incoming/2.csv cannot start a run: it is not understood"), "{failure}");
    assert_eq!(sink.told_paths(), ["incoming/1.csv", "incoming/2.csv", "incoming/3.csv"]);
    watcher.pass(&never()).await.unwrap();
    assert_eq!(sink.told_paths(), ["incoming/2.csv"]);
}

#[tokio::test(start_paused = true)]
async fn while_nobody_answers_nothing_counts_as_seen() {
    let place = Place::new();
    place.put("incoming/1.csv", "1", AFTER);
    place.put("incoming/2.csv", "1", AFTER);
    let sink = TestSink::answering(std::iter::repeat_with(|| Err(unreachable())).take(9));
    let mut watcher = place.watcher(place.watch(SINCE), &sink);
    watcher.pass(&never()).await.unwrap();
    let failure = failure_of(&mut watcher).await;
    assert_eq!((failure.reason, failure.message.as_str()), ("ConnectionFailed", "nobody is there"));
    assert!(sink.told_paths().iter().all(|path| path == "incoming/1.csv"));
    watcher.pass(&never()).await.unwrap();
    assert!(sink.told_paths().ends_with(&["incoming/1.csv".to_owned(), "incoming/2.csv".to_owned()]));
}

#[tokio::test]
async fn two_agents_at_once_lose_nothing_of_each_other() {
    let (place, first_sink, second_sink) = (Place::new(), Arc::new(TestSink::default()), Arc::new(TestSink::default()));
    place.put("incoming/old.csv", "1", BEFORE);
    let mut first = place.watcher(place.watch(SINCE), &first_sink);
    let mut second = place.watcher(place.watch(SINCE), &second_sink);
    pass_twice(&mut first).await;
    pass_twice(&mut second).await;
    place.put("incoming/a.csv", "1", AFTER);
    pass_twice(&mut first).await;
    place.put("incoming/b.csv", "1", AFTER);
    // It does not know that the other has told of the first.
    pass_twice(&mut second).await;
    assert_eq!(first_sink.told_paths(), ["incoming/a.csv"]);
    assert_eq!(second_sink.told_paths(), ["incoming/a.csv", "incoming/b.csv"]);
    fs::remove_file(place.folder.path().join("incoming/old.csv")).unwrap();
    pass_twice(&mut first).await;
    first_sink.told();
    let third_sink = Arc::new(TestSink::default());
    pass_twice(&mut place.watcher(place.watch(SINCE), &third_sink)).await;
    assert_eq!(third_sink.told(), []);
}

#[tokio::test]
async fn an_agent_gives_way_to_one_with_a_newer_order_and_never_takes_the_set_back() {
    let (place, old_sink, new_sink) = (Place::new(), Arc::new(TestSink::default()), Arc::new(TestSink::default()));
    let mut old = place.watcher(place.watch(SINCE), &old_sink);
    pass_twice(&mut old).await;
    let mut new = place.watcher(place.watch(LATER), &new_sink);
    pass_twice(&mut new).await;
    // Late, which the old order would pass over if it began anew.
    place.put("incoming/late.csv", "1", BEFORE);
    old.pass(&never()).await.unwrap();
    assert_eq!(failure_of(&mut old).await.reason, "Superseded");
    place.put("incoming/later.csv", "1", BEFORE);
    for _ in 0..3 {
        assert_eq!(failure_of(&mut old).await.reason, "Superseded");
    }
    assert_eq!(old_sink.told_paths(), ["incoming/late.csv"]);
    pass_twice(&mut new).await;
    assert_eq!(new_sink.told_paths(), ["incoming/late.csv", "incoming/later.csv"]);
}

#[tokio::test]
async fn a_place_that_is_not_there_yet_is_watched_once_it_is() {
    let (place, sink) = (Place::new(), Arc::new(TestSink::default()));
    let target = ConnectionTarget::Folder { path: place.folder.path().join("new").to_str().unwrap().to_owned() };
    let connection = Connection { target, ..place.connection() };
    let agent = agent(place.store.path(), Environment::default(), Arc::clone(&sink) as Arc<dyn Sink>);
    let mut watcher = Watcher::new(Arc::clone(&agent), place.watch(SINCE), Some(connection)).unwrap();
    let failure = failure_of(&mut watcher).await;
    assert_eq!(failure.reason, "NotFound");
    assert!(failure.message.starts_with("connection `raw`: the folder"), "{failure}");
    place.put("new/incoming/a.csv", "1", AFTER);
    pass_twice(&mut watcher).await;
    assert_eq!(sink.told_paths(), ["incoming/a.csv"]);

    let without = ObjectWatch { trigger: "other".to_owned(), ..place.watch(SINCE) };
    assert_eq!(failure_of(&mut Watcher::new(agent, without, None).unwrap()).await.reason, "InvalidOrder");
}

#[tokio::test]
async fn a_path_without_wildcards_is_one_object() {
    let (place, sink) = (Place::new(), Arc::new(TestSink::default()));
    let watch = ObjectWatch { path: "incoming/daily.csv".to_owned(), ..place.watch(SINCE) };
    let mut watcher = place.watcher(watch, &sink);
    pass_twice(&mut watcher).await;
    place.put("incoming/daily.csv", "1", AFTER);
    place.put("incoming/daily2.csv", "1", AFTER);
    pass_twice(&mut watcher).await;
    assert_eq!(sink.told_paths(), ["incoming/daily.csv"]);
}

/// A seen-set that cannot be read is never taken for an empty one.
#[tokio::test]
async fn a_broken_seen_set_is_named_and_left_alone() {
    let (place, sink) = (Place::new(), Arc::new(TestSink::default()));
    place.put("incoming/a.csv", "1", AFTER);
    let path = place.store.path().join("data/triggers/import/arrivals/_seen");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "broken").unwrap();
    let failure = failure_of(&mut place.watcher(place.watch(SINCE), &sink)).await;
    assert!(failure.message.contains("data/triggers/import/arrivals/_seen"), "{failure}");
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), sink.told().len()), ("broken", 0));
}

fn bucket(name: &str) -> (Connection, Environment) {
    let target = ConnectionTarget::S3 {
        bucket: name.to_owned(),
        prefix: "team".to_owned(),
        endpoint: Some(servers::s3().to_owned()),
        region: None,
        path_style: true,
        anonymous: false,
        access_key_id: Some(SecretVariable("ID".to_owned())),
        secret_access_key: Some(SecretVariable("KEY".to_owned())),
    };
    let variables = ["ID", "KEY"].map(|name| (name.to_owned(), "any".to_owned()));
    let environment = Environment::new(BTreeMap::from(variables), PathBuf::new());
    (Connection { name: "raw".to_owned(), mode: AccessMode::Read, target }, environment)
}

/// Makes a bucket or an object as others do, also one whose key is no path.
async fn put(path: &str, body: &'static str) {
    let put = reqwest::Client::new().put(format!("{}/{path}", servers::s3())).body(body).send().await.unwrap();
    assert!(put.status().is_success(), "{path}: {}", put.status());
}

/// The server lets nobody replace an object without a name.
async fn replace(bucket: &str, key: &str, body: &'static str) {
    let store = object_store::aws::AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_endpoint(servers::s3())
        .with_allow_http(true)
        .with_access_key_id("any")
        .with_secret_access_key("any");
    store.build().unwrap().put(&key.into(), body.into()).await.unwrap();
}

#[tokio::test]
async fn each_version_of_an_object_of_a_bucket_starts_one_run() {
    let (place, sink) = (Place::new(), Arc::new(TestSink::default()));
    put("agent-test", "").await;
    put("agent-test/team/incoming/old.csv", "1").await;
    let (connection, environment) = bucket("agent-test");
    let agent = agent(place.store.path(), environment, Arc::clone(&sink) as Arc<dyn Sink>);
    // Objects of the test are from today.
    let watch = ObjectWatch { path: "incoming/*".to_owned(), ..place.watch("2999-01-01T00:00:00Z") };
    let mut watcher = Watcher::new(agent, watch, Some(connection)).unwrap();
    watcher.pass(&never()).await.unwrap();
    assert_eq!(sink.told(), []);

    put("agent-test/team/incoming/", "").await;
    put("agent-test/team/incoming/folder/", "").await;
    put("agent-test/team/incoming/empty.csv", "").await;
    put("agent-test/team/incoming/new.csv", "1").await;
    watcher.pass(&never()).await.unwrap();
    let told = sink.told();
    let mut objects: Vec<_> = told.iter().map(|told| (object(told).path.as_str(), object(told).bytes)).collect();
    objects.sort_unstable();
    assert_eq!(objects, [("incoming/empty.csv", 0), ("incoming/new.csv", 1)]);
    assert!(told.iter().any(|told| object(told).uri == "s3://agent-test/team/incoming/new.csv"));
    let version = |told: &[Occurrence]| object(told.last().unwrap()).version.clone();
    assert!(version(&told).starts_with('"'), "an entity tag");

    replace("agent-test", "team/incoming/new.csv", "1").await;
    watcher.pass(&never()).await.unwrap();
    assert_eq!(sink.told(), [], "the same content is the same version");
    replace("agent-test", "team/incoming/new.csv", "2").await;
    watcher.pass(&never()).await.unwrap();
    let again = sink.told();
    assert_eq!(again.len(), 1);
    assert_ne!(version(&again), version(&told));
}

fn order(place: &Place) -> AgentOrder {
    AgentOrder {
        format: FORMAT,
        namespace: "data".to_owned(),
        operator_url: String::new(),
        store: StoreLocation::Folder { path: place.store.path().to_str().unwrap().to_owned() },
        connections: vec![place.connection()],
        objects: vec![place.watch(SINCE)],
        events: Vec::new(),
    }
}

/// Hands on what it is told.
struct Channel(tokio::sync::mpsc::UnboundedSender<Occurrence>);

#[async_trait]
impl Sink for Channel {
    async fn tell(&self, occurrence: Occurrence) -> Result<OccurrenceAnswer, SinkError> {
        self.0.send(occurrence).unwrap();
        Ok(OccurrenceAnswer::Execution { name: "run".to_owned() })
    }
}

#[tokio::test]
async fn an_agent_lists_until_it_is_stopped_and_writes_down_what_it_told() {
    let place = Place::new();
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let order = order(&place);
    assert_eq!(pintail_protocol::decode_agent(&encode_agent(&order).unwrap()).unwrap(), order);
    let agent = tokio::spawn({
        let stop = stop.clone();
        async move { run_agent(order, &Environment::default(), Arc::new(Channel(sender)), None, stop).await }
    });
    for number in 0..3 {
        place.put(&format!("incoming/{number}.csv"), "1", AFTER);
        assert_eq!(object(&told.recv().await.unwrap()).path, format!("incoming/{number}.csv"));
    }
    stop.cancel();
    agent.await.unwrap().unwrap();
    let sink = Arc::new(TestSink::default());
    let mut next = place.watcher(place.watch(SINCE), &sink);
    assert_eq!(next.pass(&never()).await.unwrap(), Next::InTurn);
    next.pass(&never()).await.unwrap();
    assert_eq!(sink.told(), []);
}
