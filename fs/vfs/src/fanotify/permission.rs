//! Permission events: who waits for an answer, and the answers.

use abi::fanotify::{NOFD, Response, response};
use abi::{Errno, Result};
use arch::sync::SpinLock;
use mm::IovIter;
use sched::wait::Wait;
use zerocopy::IntoBytes;

use super::group::Fanotify;
use crate::path::Path;

/// How far a question has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has answered.
    Open,
    /// Somebody has.
    Answered(u32),
}

/// A question: may what was asked for at `path` happen?
pub(super) struct Permission {
    pub(super) path: Path,
    stage: SpinLock<Stage>,
}

impl Permission {
    pub(super) fn new(path: Path) -> Self {
        Self { path, stage: SpinLock::new(Stage::Open) }
    }

    /// Answers; the first answer counts.
    pub(super) fn answer(&self, response: u32) {
        let mut stage = self.stage.lock();
        if *stage == Stage::Open {
            *stage = Stage::Answered(response);
        }
    }

    fn answered(&self) -> Option<u32> {
        match *self.stage.lock() {
            Stage::Open => None,
            Stage::Answered(response) => Some(response),
        }
    }
}

impl Fanotify {
    /// Waits for the answer.
    ///
    /// # Errors
    /// `EPERM`: the answer is no; `ERESTARTSYS`: a fatal signal came first.
    pub(super) fn wait_for_answer(&self, question: &Permission) -> Result<()> {
        let waited = self.answers.wait(Wait::KILLABLE, || question.answered());
        let Ok(answer) = waited else {
            self.withdraw(question);
            return Err(Errno::ERESTARTSYS);
        };
        if answer & (response::ALLOW | response::DENY) == response::ALLOW {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// `write(2)`: one answer.
    pub(super) fn take_answer(&self, iter: &mut IovIter<'_>) -> Result<usize> {
        let count = iter.count();
        // What follows an answer without saying so is not looked at.
        let mut taken = size_of::<Response>();
        let mut given = Response::default();
        if count < size_of::<Response>() {
            return Err(Errno::EINVAL);
        }
        iter.read_exact(given.as_mut_bytes())?;
        if given.response & !(response::ALLOW | response::DENY | response::AUDIT | response::INFO) != 0
            || !matches!(given.response & 0xf, response::ALLOW | response::DENY)
            || given.response & response::AUDIT != 0
        {
            return Err(Errno::EINVAL);
        }
        if given.response & response::INFO != 0 {
            check_rule(iter)?;
            taken = count;
            if given.fd == NOFD {
                return Ok(taken);
            }
        }
        if given.fd < 0 {
            return Err(Errno::EINVAL);
        }
        let question = self.asked_with(given.fd).ok_or(Errno::ENOENT)?;
        question.answer(given.response);
        self.answers.wake_all();
        Ok(taken)
    }
}

/// The rule that may follow an answer is for the audit system; it must be well-formed all the same.
fn check_rule(iter: &mut IovIter<'_>) -> Result<()> {
    let mut rule = [0_u8; response::INFO_AUDIT_RULE_LEN as usize];
    if iter.count() != rule.len() {
        return Err(Errno::EINVAL);
    }
    iter.read_exact(&mut rule)?;
    let [kind, pad, low, high, ..] = rule;
    let len = u16::from_ne_bytes([low, high]);
    if kind != response::INFO_AUDIT_RULE || pad != 0 || len != response::INFO_AUDIT_RULE_LEN {
        return Err(Errno::EINVAL);
    }
    Ok(())
}
