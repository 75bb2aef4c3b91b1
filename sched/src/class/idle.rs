//! The idle class: what runs when nothing else can. Its only task per CPU is never queued.

use super::{Dequeue, Enqueue, TaskPtr};
use crate::rq::Rq;

pub(crate) fn enqueue(_rq: &mut Rq, _task: TaskPtr, _why: Enqueue) {
    debug_assert!(false, "idle tasks are not queued");
}

pub(crate) fn dequeue(_rq: &mut Rq, _task: TaskPtr, _why: Dequeue) {
    debug_assert!(false, "the idle task went to sleep");
}

pub(crate) fn yield_current(_rq: &mut Rq) {}

pub(crate) fn preempts(_rq: &mut Rq, _woken: TaskPtr) -> bool {
    true
}

pub(crate) fn put_prev(_rq: &mut Rq, _task: TaskPtr) {}

pub(crate) fn set_next(_rq: &mut Rq, _task: TaskPtr) {}

pub(crate) fn pick_next(rq: &mut Rq) -> Option<TaskPtr> {
    Some(pick(rq))
}

pub(crate) fn pick(rq: &mut Rq) -> TaskPtr {
    rq.idle
}

pub(crate) fn update_current(_rq: &mut Rq) {}

pub(crate) fn tick(_rq: &mut Rq, _task: TaskPtr) {}
