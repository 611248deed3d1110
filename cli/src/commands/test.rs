//! `pintail test`.

use crate::arguments::{Test, TestOutput};
use crate::failure::{Code, CommandFailure};
use crate::manifests::Manifests;
use crate::output::{print_json, print_text};
use crate::testing::{Bench, Tested, as_json, as_junit, as_text, summary};

pub fn test(arguments: &Test) -> Result<(), CommandFailure> {
    let manifests = Manifests::read_right(&arguments.files)?;
    let wanted =
        |name: &str| arguments.names.is_empty() || arguments.names.iter().any(|part| name.contains(part.as_str()));
    let all = manifests.tests();
    if all.is_empty() {
        return Err(CommandFailure::usage("there is no WorkflowTest in these files"));
    }
    let names: Vec<String> = all.iter().filter_map(|(document, _)| document.object.name().map(str::to_owned)).collect();
    let bench = Bench::new()?;
    let mut tested = Vec::new();
    for (document, planned) in all {
        // Tests with problems were refused already.
        let Ok(planned) = planned else { continue };
        if !wanted(&planned.name) {
            continue;
        }
        let (mut failures, took) = bench.run(&planned, manifests.connections());
        if bench.is_interrupted() {
            return Err(CommandFailure { code: Code::Interrupted, message: "interrupted".to_owned() });
        }
        for failure in &mut failures {
            failure.place = Some(document.place(&failure.path));
        }
        tested.push(Tested {
            name: planned.name,
            workflow: planned.plan.workflow,
            file: document.file.to_string(),
            line: document.at.line,
            took,
            failures,
        });
    }
    if tested.is_empty() {
        return Err(CommandFailure::usage(format!("no test has such a name; there are: {}", names.join(", "))));
    }
    report(&tested, arguments)
}

fn report(tested: &[Tested], arguments: &Test) -> Result<(), CommandFailure> {
    match arguments.output {
        TestOutput::Pretty => print_text(&as_text(tested)),
        TestOutput::Json => print_json(&as_json(tested))?,
        TestOutput::Junit => print_text(&as_junit(tested)),
    }
    if let Some(path) = &arguments.junit {
        std::fs::write(path, as_junit(tested))
            .map_err(|error| CommandFailure::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    eprintln!("{}", summary(tested));
    if tested.iter().all(|test| test.failures.is_empty()) { Ok(()) } else { Err(CommandFailure::shown(Code::Failed)) }
}
