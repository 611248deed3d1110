//! Which task comes before which: circles, and readers of a database that nothing orders after its loads.

use pintail_engine::{NeedKind, TaskNode};

use super::Compiler;
use crate::Rule;
use crate::problem::{FieldPath, Problem, listing};

/// Circles that are reported: each hides others that touch it, and a few show what is wrong.
const CYCLES_MAX: usize = 20;

impl Compiler<'_> {
    pub(super) fn check_order(&mut self, nodes: &[TaskNode]) {
        let needs: Vec<Vec<usize>> =
            nodes.iter().map(|node| node.needs.iter().map(|need| need.task.0 as usize).collect()).collect();
        let cycles = cycles(&needs);
        for cycle in &cycles {
            self.report_cycle(nodes, cycle);
        }
        if cycles.is_empty() {
            self.check_readers_of_loads(nodes, &needs);
        }
    }

    fn report_cycle(&mut self, nodes: &[TaskNode], cycle: &[usize]) {
        let (Some(first), Some(second)) = (cycle.first(), cycle.get(1)) else { return };
        let names: Vec<&str> = cycle.iter().chain([first]).map(|index| nodes[*index].name.as_str()).collect();
        let only_order =
            nodes[*first].needs.iter().any(|need| need.task.0 as usize == *second && need.kind == NeedKind::Order);
        let path = FieldPath::root().field("spec").field("tasks").index(*first);
        let task = &self.workflow.spec.tasks[*first];
        let wanted = names[1];
        let position = |list: &[String]| list.iter().position(|name| name == wanted);
        let path = match (position(&task.uses), position(&task.depends_on)) {
            (_, Some(at)) if only_order => path.field("dependsOn").index(at),
            (Some(at), _) => path.field("uses").index(at),
            _ => path.field("name"),
        };
        let message = format!("tasks wait for each other in a circle: {}", names.join(" → "));
        self.report(Problem::new(Rule::DependencyCycle, path, message));
    }

    /// A task that reads a database which another task of the workflow loads into must run before or after it by
    /// what the manifest says; else each run would read something else.
    fn check_readers_of_loads(&mut self, nodes: &[TaskNode], needs: &[Vec<usize>]) {
        let tasks = &self.workflow.spec.tasks;
        let loads: Vec<(usize, String)> = (0..tasks.len())
            .filter_map(|index| {
                let load = tasks[index].duckdb.as_ref()?.load.as_ref()?;
                Some((index, self.database(load.into.split('.').next()?)))
            })
            .collect();
        let mut found = Vec::new();
        for (reader, task) in tasks.iter().enumerate() {
            for (position, connection) in task.reads.iter().enumerate() {
                let database = self.database(connection);
                let unordered = |load: usize| !reaches(needs, reader, load) && !reaches(needs, load, reader);
                let loads =
                    loads.iter().filter(|(load, into)| *into == database && *load != reader && unordered(*load));
                let names: Vec<&str> = loads.map(|(load, _)| nodes[*load].name.as_str()).collect();
                found.push((reader, position, names));
            }
        }
        for (reader, position, loads) in found {
            let Some(first) = loads.first() else { continue };
            let path = FieldPath::root().field("spec").field("tasks").index(reader).field("reads").index(position);
            let load = if loads.len() == 1 { "loads" } else { "load" };
            let loaders = listing(loads.iter().copied());
            let message = format!("{loaders} {load} into this database, and nothing says which task runs first");
            let meant = format!("`uses: [{first}]`, which reads what it loaded, or `dependsOn: [{first}]`");
            self.report(Problem::new(Rule::UnorderedLoad, path, message).suggest(Some(meant)));
        }
    }

    /// What is the same for two connections to one database.
    fn database(&self, connection: &str) -> String {
        self.duckdb_resource(connection).unwrap_or_else(|| format!("connection:{connection}"))
    }
}

/// Whether `to` must have ended before `from` starts.
fn reaches(needs: &[Vec<usize>], from: usize, to: usize) -> bool {
    let mut seen = vec![false; needs.len()];
    let mut open = vec![from];
    while let Some(task) = open.pop() {
        for &need in &needs[task] {
            if need == to {
                return true;
            }
            if !std::mem::replace(&mut seen[need], true) {
                open.push(need);
            }
        }
    }
    false
}

/// Circles that share no task, each from its first task along its needs.
fn cycles(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut removed = vec![false; needs.len()];
    let mut cycles = Vec::new();
    while cycles.len() < CYCLES_MAX {
        remove_sorted(needs, &mut removed);
        let Some(start) = removed.iter().position(|removed| !removed) else { break };
        let mut walk = vec![start];
        let cycle = loop {
            let last = walk[walk.len() - 1];
            // What is left after sorting has a need that is left too.
            let Some(next) = needs[last].iter().copied().find(|need| !removed[*need]) else { return cycles };
            match walk.iter().position(|task| *task == next) {
                Some(from) => break walk.split_off(from),
                None => walk.push(next),
            }
        };
        let first = (0..cycle.len()).min_by_key(|at| cycle[*at]).unwrap_or_default();
        let cycle: Vec<usize> = cycle[first..].iter().chain(&cycle[..first]).copied().collect();
        for task in &cycle {
            removed[*task] = true;
        }
        cycles.push(cycle);
    }
    cycles
}

/// Removes every task whose needs are all removed, again and again.
fn remove_sorted(needs: &[Vec<usize>], removed: &mut [bool]) {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    let mut missing = vec![0_usize; needs.len()];
    for (task, list) in needs.iter().enumerate().filter(|(task, _)| !removed[*task]) {
        for &need in list.iter().filter(|need| !removed[**need]) {
            users[need].push(task);
            missing[task] += 1;
        }
    }
    let mut ready: Vec<usize> = (0..needs.len()).filter(|task| !removed[*task] && missing[*task] == 0).collect();
    while let Some(task) = ready.pop() {
        removed[task] = true;
        for &user in &users[task] {
            missing[user] -= 1;
            if missing[user] == 0 {
                ready.push(user);
            }
        }
    }
}
