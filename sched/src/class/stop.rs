//! The stop class: one task per CPU that goes before everything else, for CPU hot-plug and whatever
//! must have the CPU to itself.

use super::{Dequeue, Enqueue, TaskPtr};
use crate::rq::Rq;

pub(crate) fn enqueue(rq: &mut Rq, task: TaskPtr, _why: Enqueue) {
    rq.stop = Some(task);
    rq.nr_running += 1;
}

pub(crate) fn dequeue(rq: &mut Rq, _task: TaskPtr, _why: Dequeue) {
    rq.stop = None;
    rq.nr_running -= 1;
    update_current(rq);
}

pub(crate) fn yield_current(_rq: &mut Rq) {}

pub(crate) fn preempts(_rq: &mut Rq, _woken: TaskPtr) -> bool {
    false
}

pub(crate) fn put_prev(rq: &mut Rq, _task: TaskPtr) {
    update_current(rq);
}

pub(crate) fn set_next(rq: &mut Rq, task: TaskPtr) {
    rq.start_exec(task);
}

pub(crate) fn pick_next(rq: &mut Rq) -> Option<TaskPtr> {
    let task = rq.stop?;
    set_next(rq, task);
    Some(task)
}

pub(crate) fn update_current(rq: &mut Rq) {
    let task = rq.curr;
    rq.account_exec(task);
}

pub(crate) fn tick(_rq: &mut Rq, _task: TaskPtr) {}
