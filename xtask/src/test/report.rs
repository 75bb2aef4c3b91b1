//! Counting and printing results.

use std::process::ExitCode;

/// The results so far.
pub struct Report {
    passed: usize,
    failed: Vec<String>,
    failed_elsewhere: usize,
    skipped: Vec<String>,
    flaky: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Self {
        Report { passed: 0, failed: Vec::new(), failed_elsewhere: 0, skipped: Vec::new(), flaky: Vec::new() }
    }

    /// A test passed.
    pub fn pass(&mut self, name: &str) {
        println!("ok {name}");
        self.passed += 1;
    }

    /// A test failed.
    pub fn fail(&mut self, name: &str, why: &str) {
        println!("FAIL {name}: {why}");
        self.failed.push(format!("{name}: {}", why.lines().next().unwrap_or_default()));
    }

    /// A test could not be run on this machine.
    pub fn skip(&mut self, name: &str, why: &str) {
        println!("SKIP {name}: {why}");
        self.skipped.push(format!("{name}: {why}"));
    }

    /// A test with its outcome.
    pub fn outcome(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.pass(name),
            Err(why) => self.fail(name, &why),
        }
    }

    /// Results that were printed elsewhere.
    pub fn add(&mut self, passed: usize, failed: usize) {
        self.passed += passed;
        self.failed_elsewhere += failed;
    }

    /// Whether anything failed.
    pub fn has_failures(&self) -> bool {
        !self.failed.is_empty() || self.failed_elsewhere > 0
    }

    /// Takes the results of a part over. `earlier` is an attempt at the same part that failed: what failed only there
    /// is flaky, and is named at the end.
    pub fn absorb(&mut self, part: Report, earlier: Option<Report>) {
        let name = |failure: &String| failure.split(": ").next().unwrap_or(failure).to_string();
        if let Some(earlier) = earlier {
            let still: Vec<String> = part.failed.iter().map(name).collect();
            self.flaky.extend(earlier.failed.into_iter().filter(|failure| !still.contains(&name(failure))));
        }
        self.passed += part.passed;
        self.failed.extend(part.failed);
        self.failed_elsewhere += part.failed_elsewhere;
        self.skipped.extend(part.skipped);
        self.flaky.extend(part.flaky);
    }

    /// Prints the failures again and the final line.
    pub fn finish(self) -> ExitCode {
        for skipped in &self.skipped {
            println!("skipped: {skipped}");
        }
        for flaky in &self.flaky {
            println!("flaky (failed once, then passed): {flaky}");
        }
        for failed in &self.failed {
            println!("failed: {failed}");
        }
        let failed = self.failed.len() + self.failed_elsewhere;
        println!("{} passed, {failed} failed", self.passed);
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
