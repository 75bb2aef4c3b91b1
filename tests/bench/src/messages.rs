//! System V and POSIX messages, semaphores, shared memory; locks; timers; descriptors for signals.

use crate::files::open;
use crate::measure::Rows;
use crate::sys::{call, must};
use libc::{O_CREAT, O_RDWR};

/// Runs the rows.
pub fn run(rows: &Rows) {
    system_v(rows);
    queue(rows);
    locks(rows);
    times(rows);
}

fn system_v(rows: &Rows) {
    let private = libc::IPC_PRIVATE;
    let mode = libc::IPC_CREAT | 0o600;
    let semaphores = must!(SYS_semget, private, 1, mode);
    let operation = |op: i16| libc::sembuf { sem_num: 0, sem_op: op, sem_flg: 0 };
    let (up, down) = (operation(1), operation(-1));
    rows.each("semop_up_down", || {
        must!(SYS_semtimedop, semaphores, &raw const up, 1, 0);
        must!(SYS_semtimedop, semaphores, &raw const down, 1, 0);
    });
    must!(SYS_semctl, semaphores, 0, libc::IPC_RMID, 0);
    let queue = must!(SYS_msgget, private, mode);
    let mut message = [1_u64; 9];
    rows.each("msg_send_receive", || {
        must!(SYS_msgsnd, queue, message.as_ptr(), 64, 0);
        must!(SYS_msgrcv, queue, message.as_mut_ptr(), 64, 0, 0);
    });
    must!(SYS_msgctl, queue, libc::IPC_RMID, 0);
    let segment = must!(SYS_shmget, private, 65536, mode);
    rows.each("shm_attach_detach", || {
        let at = must!(SYS_shmat, segment, 0, 0);
        must!(SYS_shmdt, at);
    });
    must!(SYS_shmctl, segment, libc::IPC_RMID, 0);
}

fn queue(rows: &Rows) {
    let name = c"bench";
    // Flags, most messages, bytes of one.
    let attributes = [0_u64, 8, 64, 0, 0, 0, 0, 0];
    let fd = call!(SYS_mq_open, name.as_ptr(), O_CREAT | O_RDWR, 0o600, attributes.as_ptr());
    if fd < 0 {
        return;
    }
    let mut bytes = [0_u8; 64];
    rows.each("mq_send_receive", || {
        must!(SYS_mq_timedsend, fd, bytes.as_ptr(), 64, 0, 0);
        must!(SYS_mq_timedreceive, fd, bytes.as_mut_ptr(), 64, 0, 0);
    });
    must!(SYS_close, fd);
    must!(SYS_mq_unlink, name.as_ptr());
}

fn locks(rows: &Rows) {
    let fd = open(c"/tmp/locked", O_CREAT | O_RDWR);
    rows.each("flock", || {
        must!(SYS_flock, fd, libc::LOCK_EX);
        must!(SYS_flock, fd, libc::LOCK_UN);
    });
    let lock = |kind: i32| libc::flock { l_type: kind as i16, l_whence: 0, l_start: 10, l_len: 20, l_pid: 0 };
    let (take, give) = (lock(libc::F_WRLCK), lock(libc::F_UNLCK));
    rows.each("fcntl_lock", || {
        must!(SYS_fcntl, fd, libc::F_SETLK, &raw const take);
        must!(SYS_fcntl, fd, libc::F_SETLK, &raw const give);
    });
    must!(SYS_close, fd);
}

fn times(rows: &Rows) {
    let mut time = [0_u64; 2];
    rows.each("clock_gettime_call", || {
        must!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, time.as_mut_ptr());
    });
    rows.each("clock_gettime_vdso", || {
        // SAFETY: a time to fill.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr().cast()) };
    });
    let timer = must!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0);
    let setting = [0_u64, 0, 1000, 0];
    rows.each("timerfd_settime", || {
        must!(SYS_timerfd_settime, timer, 0, setting.as_ptr(), 0);
    });
    must!(SYS_close, timer);
    let mask = 1_u64 << (libc::SIGUSR2 - 1);
    must!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const mask, 0, 8);
    let signals = must!(SYS_signalfd4, usize::MAX, &raw const mask, 8, 0);
    let (pid, tid) = (must!(SYS_getpid), must!(SYS_gettid));
    let mut info = [0_u8; 128];
    rows.each("signalfd", || {
        must!(SYS_tgkill, pid, tid, libc::SIGUSR2);
        must!(SYS_read, signals, info.as_mut_ptr(), 128);
    });
    must!(SYS_close, signals);
    must!(SYS_rt_sigprocmask, libc::SIG_UNBLOCK, &raw const mask, 0, 8);
    let mut usage = [0_u64; 18];
    rows.each("getrusage", || {
        must!(SYS_getrusage, libc::RUSAGE_SELF, usage.as_mut_ptr());
    });
    rows.each("sigprocmask", || {
        must!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const mask, 0, 8);
        must!(SYS_rt_sigprocmask, libc::SIG_UNBLOCK, &raw const mask, 0, 8);
    });
}
