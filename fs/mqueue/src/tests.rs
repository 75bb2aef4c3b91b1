//! The order of messages, and what a queue without anybody waiting does.

use super::*;
use crate::order::Messages;
use std::string::String;
use std::vec::Vec;

fn message(priority: u32, text: &str) -> Message {
    Message { priority, text: text.as_bytes().to_vec() }
}

fn text(message: Message) -> (u32, String) {
    (message.priority, String::from_utf8(message.text).unwrap())
}

#[test]
fn highest_priority_first_oldest_first() {
    let mut messages = Messages::default();
    let mut model: Vec<(u32, u32)> = Vec::new();
    let mut seed = 5u64;
    for number in 0..2000u32 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let priority = (seed >> 60) as u32;
        if seed >> 40 & 3 > 0 {
            if !messages.has_room() {
                let room = Messages::more_room(messages.len()).unwrap();
                drop(messages.move_to(room));
            }
            messages.push(message(priority, &std::format!("{number}")));
            model.push((priority, number));
        } else {
            // The highest priority, then the lowest number.
            let want = model.iter().copied().max_by_key(|(p, n)| (*p, std::cmp::Reverse(*n)));
            model.retain(|entry| Some(*entry) != want);
            let got = messages.pop().map(text);
            assert_eq!(got, want.map(|(p, n)| (p, std::format!("{n}"))));
        }
        assert_eq!(messages.len(), model.len());
        assert_eq!(messages.bytes(), model.iter().map(|(_, n)| std::format!("{n}").len()).sum::<usize>());
    }
}

#[test]
fn a_queue_without_patience() {
    let queue = Queue::new(2, 3);
    assert_eq!(queue.receive(Patience::None), Err(Errno::EAGAIN));
    assert_eq!(queue.send(message(0, "four"), Patience::None), Err(Errno::EMSGSIZE));
    queue.send(message(1, "a"), Patience::None).unwrap();
    queue.send(message(2, "bcd"), Patience::None).unwrap();
    assert_eq!(queue.send(message(9, "x"), Patience::None), Err(Errno::EAGAIN));
    assert_eq!(queue.attr().curmsgs, 2);
    assert_eq!(queue.show().0, 4);
    assert_eq!(queue.receive(Patience::None).map(text), Ok((2, "bcd".into())));
    assert_eq!(queue.receive(Patience::None).map(text), Ok((1, "a".into())));
}

#[derive(Default)]
struct Bell {
    rung: std::sync::atomic::AtomicU32,
}

impl Notification for Bell {
    fn fire(&self) {
        self.rung.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn is_callers(&self) -> bool {
        true
    }

    fn show(&self) -> NotifyInfo {
        NotifyInfo { notify: 0, signo: 10, pid: 7 }
    }
}

#[test]
fn a_notification_fires_once_and_for_an_empty_queue() {
    let queue = Queue::new(4, 8);
    let bell = Arc::new(Bell::default());
    let rung = || bell.rung.load(std::sync::atomic::Ordering::Relaxed);
    queue.send(message(0, "1"), Patience::None).unwrap();
    queue.register(bell.clone()).unwrap();
    assert_eq!(queue.register(bell.clone()), Err(Errno::EBUSY));
    queue.send(message(0, "2"), Patience::None).unwrap();
    assert_eq!(rung(), 0);
    queue.receive(Patience::None).unwrap();
    queue.receive(Patience::None).unwrap();
    queue.send(message(0, "3"), Patience::None).unwrap();
    assert_eq!(rung(), 1);
    queue.receive(Patience::None).unwrap();
    queue.send(message(0, "4"), Patience::None).unwrap();
    assert_eq!(rung(), 1);
    queue.register(bell.clone()).unwrap();
    assert_eq!(queue.show().1.pid, 7);
    assert!(queue.unregister());
    assert!(!queue.unregister());
}
