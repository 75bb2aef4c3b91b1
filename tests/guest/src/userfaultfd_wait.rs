//! userfaultfd(2): who waits for a page, and what ends that.

use crate::prelude::*;
use crate::uffd::{
    API, F_EXACT, F_POISON, F_SIGBUS, F_TID, MISSING, PAGE, POISON, UNREGISTER, USER_MODE_ONLY, Uffd,
    ZEROPAGE, fdinfo, ioctl, joined, page_of, syscall, uffd, vm_flags, with,
};
use std::thread::spawn;

tests![
    signal_instead,
    poisoned_pages,
    kernel_faults,
    other_processes_fault,
    exact_and_by_thread,
    closing_wakes,
    signals_interrupt,
];

/// The signal that ends a child doing something, with its code.
fn bus_error(at: usize, write: bool) -> Result<i32, Errno> {
    in_child(move || {
        catch_bus();
        if write {
            poke(at, 1);
        } else {
            peek(at);
        }
        0
    })
}

extern "C" fn on_bus(_: i32, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo.
    let (code, lsb) = unsafe { ((*info).si_code, *info.cast::<u8>().add(24).cast::<i16>()) };
    exit(if code == BUS_ADRERR {
        10
    } else if code == 4 {
        100 + i32::from(lsb)
    } else {
        1
    });
}

fn catch_bus() {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = on_bus as *const () as usize;
    action.sa_flags = SA_SIGINFO;
    let _ = c!(sigaction(SIGBUS, &raw const action, std::ptr::null_mut()));
}

fn signal_instead() -> Outcome {
    let at = map_anon(4 * PAGE)?;
    let codes = in_child(|| {
        let Ok(Some(uffd)) = with(F_SIGBUS) else { return 0 };
        if uffd.register(at, 4 * PAGE, MISSING).is_err() {
            return 2;
        }
        // The kernel gets an error for it.
        let Ok([read, write_end]) = pipe(0) else { return 3 };
        if write(write_end, b"abc").is_err() || sys!(SYS_read, read, at, 3) != Err(Errno(EFAULT)) {
            return 4;
        }
        let Ok(source) = page_of(3) else { return 5 };
        if uffd.copy(at, source, PAGE, 0).is_err() || peek(at) != 3 {
            return 6;
        }
        catch_bus();
        poke(at + PAGE, 1);
        7
    })?;
    check!(codes == 0 || codes == 10, "{codes}");
    Ok(())
}

fn poisoned_pages() -> Outcome {
    let uffd = uffd!(F_POISON);
    let at = map_anon(8 * PAGE)?;
    poke(at + 5 * PAGE, 1);
    uffd.register(at, 8 * PAGE, MISSING)?;
    check_eq!(uffd.fill(POISON, at, 2 * PAGE, 0), (Ok(0), 2 * PAGE as i64));
    check_eq!(uffd.fill(POISON, at, PAGE, 0), (Err(Errno(EEXIST)), -i64::from(EEXIST)));
    check_eq!(uffd.fill(POISON, at + 5 * PAGE, PAGE, 0), (Err(Errno(EEXIST)), -i64::from(EEXIST)));
    check_err!(uffd.fill(POISON, at + 2 * PAGE, PAGE, 2).0, EINVAL);
    let source = page_of(1)?;
    check_err!(uffd.fill(ZEROPAGE, at, PAGE, 0).0, EEXIST);
    // A child inherits the damage.
    check_eq!(bus_error(at, false)?, 112);
    check_eq!(bus_error(at + PAGE, true)?, 112);
    let [read, write_end] = pipe(0)?;
    check_err!(sys!(SYS_write, write_end, at, 10), EFAULT);
    let _ = read;
    // A thread that waits is told.
    let waiting = in_child(|| {
        let Ok(Some(uffd)) = with(F_POISON) else { return 1 };
        if uffd.register(at + 2 * PAGE, PAGE, MISSING).is_err() {
            return 2;
        }
        catch_bus();
        let _thread = spawn(move || {
            let _ = uffd.fault();
            let _ = uffd.fill(POISON, at + 2 * PAGE, PAGE, 0);
        });
        i32::from(peek(at + 2 * PAGE))
    })?;
    check_eq!(waiting, 112);
    // A copy heals it, and so does dropping it.
    uffd.copy(at + PAGE, source, PAGE, 0)?;
    check_eq!(peek(at + PAGE), 1);
    sys!(SYS_madvise, at, PAGE, MADV_DONTNEED)?;
    uffd.copy(at, source, PAGE, 0)?;
    check_eq!(peek(at), 1);
    Ok(())
}

fn kernel_faults() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(4 * PAGE)?;
    uffd.register(at, 4 * PAGE, MISSING)?;
    let source = page_of(b'z')?;
    let [read_end, write_end] = pipe(0)?;
    let writer = spawn(move || sys!(SYS_write, write_end, at + 10, 5));
    check_eq!(uffd.fault()?, (0, at));
    uffd.copy(at, source, PAGE, 0)?;
    check_eq!(joined(writer)?, Ok(5));
    check_eq!(read_vec(read_end, 9)?, b"zzzzz");
    write(write_end, b"hello")?;
    let reader = spawn(move || sys!(SYS_read, read_end, at + PAGE, 5));
    check_eq!(uffd.fault()?, (1, at + PAGE));
    uffd.fill(ZEROPAGE, at + PAGE, PAGE, 0).0?;
    check_eq!(joined(reader)?, Ok(5));
    check_eq!(peek(at + PAGE), b'h');
    // A descriptor for user mode only.
    let fd = syscall(USER_MODE_ONLY)?;
    ioctl(fd, API, &mut [0xaa, 0, 0])?;
    let user = Uffd(fd);
    let own = map_anon(2 * PAGE)?;
    user.register(own, 2 * PAGE, MISSING)?;
    check_err!(sys!(SYS_write, write_end, own, 5), EFAULT);
    let reader = spawn(move || peek(own));
    check_eq!(user.fault()?, (0, own));
    user.copy(own, source, PAGE, 0)?;
    check_eq!(joined(reader)?, b'z');
    // Populating asks as well.
    let populate = spawn(move || sys!(SYS_madvise, at + 2 * PAGE, PAGE, MADV_POPULATE_WRITE));
    check_eq!(uffd.fault()?, (1, at + 2 * PAGE));
    uffd.copy(at + 2 * PAGE, source, PAGE, 0)?;
    check_eq!(joined(populate)?, Ok(0));
    Ok(())
}

fn other_processes_fault() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(4 * PAGE)?;
    uffd.register(at, 4 * PAGE, MISSING)?;
    let source = page_of(0x77)?;
    let parent = getpid();
    let child = fork(|| {
        let mut byte = [0u8; 4];
        let local = iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 4 };
        let remote = iovec { iov_base: at as *mut c_void, iov_len: 4 };
        let got = sys!(SYS_process_vm_readv, parent, &raw const local, 1, &raw const remote, 1, 0);
        i32::from(got != Ok(4) || byte != [0x77; 4])
    })?;
    check_eq!(uffd.fault()?, (0, at));
    uffd.copy(at, source, PAGE, 0)?;
    check_eq!(wait_exit(child)?, 0);
    // A debugger's look does not wait.
    let fd = open(c"/proc/self/mem", O_RDONLY, 0)?;
    let mut byte = [0u8; 1];
    check_err!(sys!(SYS_pread64, fd, byte.as_mut_ptr(), 1, at + PAGE), EIO);
    // The descriptor works in another process, for the memory of the one that made it.
    let child = fork(|| {
        // This is the child's own page.
        poke(at + 2 * PAGE, 1);
        let copied = uffd.copy(at + 2 * PAGE, source, PAGE, 0);
        i32::from(copied != Ok(PAGE as i64))
    })?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(peek(at + 2 * PAGE), 0x77);
    // With nobody left in that memory there is nothing to do.
    let [read_end, write_end] = pipe(0)?;
    let child = fork(|| {
        let Ok(Some(own)) = with(0) else { return 1 };
        if own.register(at + 3 * PAGE, PAGE, MISSING).is_err() {
            return 2;
        }
        let inner = fork(|| {
            sleep_ms(100);
            let result = own.copy(at + 3 * PAGE, source, PAGE, 0);
            let verdict = u8::from(result == Err(Errno(ESRCH)));
            let _ = write(write_end, &[verdict]);
            0
        });
        i32::from(inner.is_err())
    })?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(read_vec(read_end, 1)?, [1]);
    Ok(())
}

fn exact_and_by_thread() -> Outcome {
    let uffd = uffd!(F_EXACT | F_TID);
    let at = map_anon(2 * PAGE)?;
    uffd.register(at, 2 * PAGE, MISSING)?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = spawn(move || {
        let _ = sender.send(sys!(SYS_gettid).unwrap_or(0));
        peek(at + 123)
    });
    let tid = receiver.recv().map_err(|_| Failure::new("thread"))?;
    let msg = uffd.read()?;
    check_eq!(msg.args, [0, (at + 123) as u64, tid as u64]);
    uffd.fill(ZEROPAGE, at, PAGE, 0).0?;
    joined(thread)?;
    Ok(())
}

fn closing_wakes() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(2 * PAGE)?;
    uffd.register(at, 2 * PAGE, MISSING)?;
    let pending = spawn(move || peek(at));
    let taken = spawn(move || peek(at + PAGE));
    uffd.fault()?;
    check!(eventually(|| fdinfo(uffd.0).contains("pending:\t1\ntotal:\t2\n")));
    close(uffd.0)?;
    check_eq!((joined(pending)?, joined(taken)?), (0, 0));
    check!(!vm_flags(at)?.contains(" um "));
    // So does unregistering, and unmapping does not.
    let uffd = uffd!(0);
    sys!(SYS_madvise, at, 2 * PAGE, MADV_DONTNEED)?;
    uffd.register(at, 2 * PAGE, MISSING)?;
    let reader = spawn(move || peek(at));
    uffd.fault()?;
    uffd.range(UNREGISTER, at, 2 * PAGE)?;
    check_eq!(joined(reader)?, 0);
    // The end of the process closes it.
    let child = fork(|| {
        let Ok(Some(uffd)) = with(0) else { return 1 };
        let _ = uffd.register(at, 2 * PAGE, MISSING);
        let _thread = spawn(move || peek(at + PAGE));
        let _ = uffd.fault();
        33
    })?;
    let _ = wait_exit(child)?;
    Ok(())
}

extern "C" fn count_signal(_: i32) {
    COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
}

static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

fn signals_interrupt() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(2 * PAGE)?;
    uffd.register(at, 2 * PAGE, MISSING)?;
    let mut action: sigaction = zeroed();
    action.sa_sigaction = count_signal as *const () as usize;
    c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()))?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = spawn(move || {
        let _ = sender.send(sys!(SYS_gettid).unwrap_or(0));
        peek(at)
    });
    let tid = receiver.recv().map_err(|_| Failure::new("thread"))?;
    check_eq!(uffd.fault()?, (0, at));
    sys!(SYS_tgkill, getpid(), tid, SIGUSR1)?;
    check!(eventually(|| COUNT.load(std::sync::atomic::Ordering::SeqCst) == 1));
    // The handler ran, and the access is asked about again.
    check_eq!(uffd.fault()?, (0, at));
    uffd.fill(ZEROPAGE, at, PAGE, 0).0?;
    check_eq!(joined(thread)?, 0);
    // A reader that is interrupted.
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = spawn(move || {
        let _ = sender.send(sys!(SYS_gettid).unwrap_or(0));
        uffd.read()
    });
    let tid = receiver.recv().map_err(|_| Failure::new("thread"))?;
    check!(eventually(|| state(tid as i32) == Some('S')));
    sys!(SYS_tgkill, getpid(), tid, SIGUSR1)?;
    check_eq!(joined(reader)?.map(|_| ()), Err(Errno(EINTR)));
    // Whoever waits can be killed, in user mode and in the kernel.
    for kernel in [false, true] {
        let [_read, write_end] = pipe(0)?;
        let [ready, tell] = pipe(0)?;
        let child = fork(|| {
            let Ok(Some(uffd)) = with(0) else { return 1 };
            if uffd.register(at + PAGE, PAGE, MISSING).is_err() {
                return 2;
            }
            let _ = write(tell, b"x");
            if kernel {
                let _ = sys!(SYS_write, write_end, at + PAGE, 4);
            } else {
                peek(at + PAGE);
            }
            3
        })?;
        read_vec(ready, 1)?;
        check!(eventually(|| matches!(state(child), Some('S' | 'D'))));
        kill(child, SIGKILL)?;
        check_eq!(wait_exit(child)?, -SIGKILL);
    }
    Ok(())
}
