//! Progress and messages on standard error; standard output belongs to results.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Prints an error line.
pub fn error(message: &str) {
    eprintln!("error: {message}");
}

/// Prints a line that says what happens next.
pub fn note(message: &str) {
    eprintln!("{message}");
}

/// A long step: a spinner on a terminal, one line with the time taken when it ends.
pub struct Step {
    name: String,
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Step {
    /// Starts a step.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]");
            let bar = ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
                .with_message(name.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Step { name, bar, started: Instant::now() }
    }

    /// Ends the step with a word on how it went.
    pub fn finish(self, outcome: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{}: {outcome} ({:.1} s)", self.name, self.started.elapsed().as_secs_f64());
    }
}
