//! An interactive session as a person has it after `cargo xtask run`: QEMU on a pseudo-terminal,
//! keys typed, answers watched.

use super::{Context, Report};
use crate::session::{Session, Waited};
use crate::{initramfs, paths};
use anyhow::Result;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(180);
const PROMPT: &str = "~ # ";

/// One exchange: what is typed, and what must then appear, in this order.
struct Step {
    name: &'static str,
    keys: &'static str,
    answers: &'static [&'static str],
}

const fn step(name: &'static str, keys: &'static str, answers: &'static [&'static str]) -> Step {
    Step { name, keys, answers }
}

/// The conversation. Each answer ends with the next prompt where there is one.
const STEPS: &[Step] = &[
    step("echo", "echo a$((40+2))b\r", &["\na42b\n", PROMPT]),
    step("line editing: erase", "echo helo\x7flo\r", &["\nhello\n", PROMPT]),
    step("line editing: cursor keys", "echo wrld\x1b[D\x1b[D\x1b[Do\r", &["\nworld\n", PROMPT]),
    step("line editing: home and end", "cho start\x1b[He\x1b[Fed\r", &["\nstarted\n", PROMPT]),
    step("history", "\x1b[A\x1b[A\r", &["\nworld\n", PROMPT]),
    step("completion", "echo /etc/pass\t\r", &["\n/etc/passwd\n", PROMPT]),
    step("kill line", "garbage\x15echo clean\r", &["\nclean\n", PROMPT]),
    step("interrupt at the prompt", "half a line\x03", &["^C", PROMPT]),
    step("status after an interrupt", "echo status $?\r", &["\nstatus 130\n", PROMPT]),
    step("a terminal", "tty; test -t 0 && echo yes\r", &["/dev/tty", "\nyes\n", PROMPT]),
    step("start a job", "sleep 1000; echo ended $?\r", &["sleep 1000; echo ended $?\n"]),
    step("Ctrl-C", "\x03", &["^C", PROMPT]),
    step("status of the killed job", "echo status $?\r", &["\nstatus 130\n", PROMPT]),
    step("start another", "sleep 1000\r", &["sleep 1000\n"]),
    step("Ctrl-Z", "\x1a", &["^Z", "Stopped", "sleep 1000", PROMPT]),
    step("jobs: stopped", "jobs\r", &["[1]+", "Stopped", "sleep 1000", PROMPT]),
    step("bg", "bg\r", &["[1]", "sleep 1000", PROMPT]),
    step("jobs: running", "jobs\r", &["[1]+", "Running", "sleep 1000", PROMPT]),
    step("fg", "fg\r", &["\nsleep 1000\n"]),
    step("Ctrl-C in the foreground", "\x03", &["^C", PROMPT]),
    step("no jobs left", "jobs; echo none\r", &["jobs; echo none\nnone\n", PROMPT]),
    step("start cat", "cat > /tmp/typed\r", &["cat > /tmp/typed\n"]),
    step("type into cat", "first line\rsecnd\x7f\x7f\x7fcond\r", &["first line\n", "\n"]),
    step("Ctrl-D", "\x04", &[PROMPT]),
    step("what was typed", "cat /tmp/typed\r", &["\nfirst line\nsecond\n", PROMPT]),
    step("a background reader", "cat & sleep 1; echo tick\r", &["\ntick\n", PROMPT]),
    step("jobs: tty input", "jobs\r", &["Stopped (tty input)", "cat", PROMPT]),
    step("kill it", "kill -9 %1; wait; echo killed\r", &["killed\n", PROMPT]),
    step("Ctrl-\\", "sleep 1000\r", &["sleep 1000\n"]),
    step("Ctrl-\\ quits", "\x1c", &["^\\", PROMPT]),
    step("a pipeline interrupted", "yes | cat > /dev/null\r", &["/dev/null\n"]),
    step("the whole pipeline is gone", "\x03", &["^C", PROMPT]),
    step("no processes left", "ps | grep -c '[y]es'\r", &["\n0\n", PROMPT]),
    step("vi opens", "vi /tmp/edited\r", &["/tmp/edited 1/1 100%"]),
    step("vi inserts", "ihello from vi", &["h"]),
    step("vi leaves insert mode", "\x1b", &["[Modified]"]),
    step("vi writes", ":wq\r", &[PROMPT]),
    step("vi wrote", "cat /tmp/edited\r", &["\nhello from vi\n", PROMPT]),
    step("stty", "stty -echo; read x; stty echo; echo got $x\r", &["echo got $x\n"]),
    step("unseen input", "secret\r", &["got secret\n", PROMPT]),
    step("a done job is told", "sleep 0.2 &\r", &[PROMPT]),
    step("done", "sleep 1; echo\r", &["Done", "sleep 0.2", PROMPT]),
    step("background output", "(sleep 1; echo behind) & wait; echo after\r", &["behind", "after", PROMPT]),
    step("exit gives a fresh shell", "x=set; exit\r", &["built-in shell", PROMPT]),
    step("it is fresh", "echo \"<$x>\"\r", &["\n<>\n", PROMPT]),
];

/// Runs the session.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let name = format!("{} interactive shell", context.label());
    if !context.wants(&name) {
        return Ok(());
    }
    let initrd = initramfs::shell(context.arch)?;
    let machine = context.machine().initrd(initrd).append("quiet loglevel=1");
    let mut session = machine.start_on_terminal(LIMIT)?;
    if context.verbose {
        session.echo();
    }
    let outcome = converse(&mut session);
    let log = paths::output(context.arch)?.join(context.file_name("shell.log"));
    std::fs::write(&log, &session.log)?;
    report.outcome(&name, outcome.map_err(|why| format!("{why} (log: {})", log.display())));
    Ok(())
}

fn converse(session: &mut Session) -> Result<(), String> {
    expect(session, "boot", PROMPT, 90)?;
    for step in STEPS {
        session.send(step.keys).map_err(|e| format!("{}: {e}", step.name))?;
        for answer in step.answers {
            expect(session, step.name, answer, 20)?;
        }
        // A person does not type the next key in the same millisecond.
        std::thread::sleep(Duration::from_millis(100));
    }
    session.send("poweroff\r").map_err(|e| e.to_string())?;
    match session.finish() {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(format!("poweroff: QEMU ended with {status}")),
        Ok(None) => Err("poweroff: the machine is still on".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn expect(session: &mut Session, step: &str, text: &str, seconds: u64) -> Result<(), String> {
    match session.wait_for(text, Duration::from_secs(seconds)) {
        Waited::Found => Ok(()),
        waited => {
            let log = session.text();
            let tail: String = log.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
            Err(format!("{step}: {text:?} did not appear ({waited:?}) in …{tail:?}"))
        }
    }
}
