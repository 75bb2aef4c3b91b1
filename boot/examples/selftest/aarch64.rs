//! The self-test on arm64: memory functions, timer, IPIs, user copies, and a program in user mode that makes system
//! calls, takes faults and exceptions, is single-stepped, reads the clock through the vDSO and handles a signal.
//!
//! Flatten the ELF (`llvm-objcopy -O binary`), then `qemu-system-aarch64 -M virt[,gic-version=2|3][,virtualization=on]
//! -cpu max|cortex-a72|cortex-a53 -smp 1…8 -serial stdio -display none -kernel IMAGE`. With
//! `-append oops=null|user|wx|brk|stack` it ends in that oops instead.

extern crate alloc;

use alloc::boxed::Box;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::global_asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use arch::addr::{PAGE_SIZE, PhysAddr, VirtAddr, phys_to_virt};
use arch::asid::{self, MmContext};
use arch::cpu::{self, CpuId, CpuMask};
use arch::intc::IrqNumber;
use arch::paging::{self, Prot, Pte, PteCell};
use arch::signal::{AltStack, SigFrameInfo};
use arch::smp::{self, Ipi};
use arch::thread::{self, Thread, ThreadFlags};
use arch::trap::*;
use arch::{earlycon, irq, time, uaccess, vdso};
use boot::{BootInfo, memblock};

macro_rules! println {
    ($($arg:tt)*) => { earlycon::print(format_args!("{}\n", format_args!($($arg)*))) };
}

boot::entry!(start);

struct Bump;
const HEAP: usize = 1 << 20;
static mut MEMORY: [u8; HEAP] = [0; HEAP];
static USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: ranges given out never overlap.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = (&raw mut MEMORY).cast::<u8>();
        let at = USED.fetch_add(layout.size() + layout.align(), Relaxed);
        if at + layout.size() + layout.align() > HEAP {
            return core::ptr::null_mut();
        }
        let pad = base.wrapping_add(at).align_offset(layout.align());
        base.wrapping_add(at + pad)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("{info}");
    arch::backtrace::frames(arch::backtrace::frame_pointer(), |ip| {
        println!("  {ip:#x}");
        true
    });
    arch::power::poweroff();
    cpu::halt()
}

fn new_frame() -> PhysAddr {
    let page = memblock::with(|m| m.alloc(PAGE_SIZE as u64, PAGE_SIZE as u64)).expect("memory");
    // SAFETY: fresh RAM.
    unsafe { phys_to_virt(page).write_bytes(0, PAGE_SIZE) };
    page
}

const CODE: usize = 0x40_0000;
const STACK: usize = 0x50_0000;
const LAZY: usize = 0x60_0000;
const VVAR: usize = 0x70_0000;
const MISSING: usize = 0x80_0000;
const CLEAN: usize = 0x90_0000;
const NO_STACK: usize = STACK + PAGE_SIZE;

global_asm!(
    r#"
    .arch_extension fp
    .section .rodata, "a"
    .balign 4
user_code:
    mov     x19, #0x1919
    fmov    d8, #2.5
    mov     x8, #1000                   // plain call: x0 + x1
    mov     x0, #40
    mov     x1, #2
    svc     #0
    cmp     x0, #42
    b.ne    99f
    mov     x8, #1001                   // yields to the boot thread, which uses FP registers of another thread
    svc     #0
    fmov    d9, #2.5
    fcmp    d8, d9
    b.ne    99f
    mov     x9, #0x600000               // a page that is not there yet
    ldr     x10, [x9]
    str     x10, [x9, #8]
    mov     x9, #0x900000               // present, writable, clean
    str     x10, [x9, #8]
    mrs     x11, id_aa64pfr0_el1        // emulated
    mrs     x11, ctr_el0
    mrs     x11, cntvct_el0
    dc      zva, x9
    brk     #7                          // the handler steps over it
    .inst   0x00000000                  // this, too
    mov     x9, #0x710000               // vDSO: clock_gettime(MONOTONIC) to the stack
    movk    x9, #0x1000
    mov     x8, #1002                   // tells the address of clock_gettime
    svc     #0
    mov     x9, x0
    mov     w0, #1
    sub     sp, sp, #32
    mov     x1, sp
    blr     x9
    ldp     x0, x1, [sp]
    add     sp, sp, #32
    mov     x8, #1003                   // compares with the kernel's clock
    svc     #0
    cbnz    x0, 99f
    mov     x20, #0
    fmov    d10, #1.5
    mov     x8, #1004                   // a signal: runs user_handler and comes back
    mov     x0, #77
    svc     #0
    fmov    d9, #1.5
    fcmp    d10, d9
    b.ne    99f
    cmp     x20, #0                     // the handler's registers are gone
    b.ne    99f
    cmp     x0, #77
    b.ne    99f
    mov     x23, #0
    mov     x8, #1006                   // asks for a single step
    svc     #0
    add     x23, x23, #1                // the step
    cmp     x23, #1                     // trapped here, before it
    b.ne    99f
    mov     x21, #200
1:  mov     x8, #1000
    svc     #0
    subs    x21, x21, #1
    b.ne    1b
    mov     x9, #0x800000               // fault that nobody resolves
    mov     x22, #0
    str     x22, [x9]
    mov     x8, #93                     // exit(x22)
    mov     x0, x22
    svc     #0
99: mov     x8, #93
    mov     x0, #1
    svc     #0
    b       .
user_handler:
    mov     x20, #5
    fmov    d10, #9.0
    mov     x8, #1005                   // w0: signal, x1: siginfo, x2: ucontext
    svc     #0
    ret
user_code_end:
    .arch_extension nofp
    "#
);

unsafe extern "C" {
    static user_code: u8;
    static user_handler: u8;
    static user_code_end: u8;
}

static TICKS: AtomicU32 = AtomicU32::new(0);
static IPIS: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];
static CALLS: AtomicU64 = AtomicU64::new(0);
static EVENTS: AtomicU64 = AtomicU64::new(0);
static STATUS: AtomicU64 = AtomicU64::new(u64::MAX);
static BOOT: AtomicUsize = AtomicUsize::new(0);
static USER: AtomicUsize = AtomicUsize::new(0);
static STEP: AtomicUsize = AtomicUsize::new(0);
static ROOT: AtomicU64 = AtomicU64::new(0);

fn event(bit: u32) {
    EVENTS.fetch_or(1 << bit, Relaxed);
}

/// The table entry of a user address, tables made on the way.
fn pte(va: usize) -> &'static PteCell {
    let mut table = phys_to_virt(PhysAddr(ROOT.load(Relaxed))).cast::<PteCell>();
    for level in [3, 2, 1] {
        // SAFETY: tables made here, never freed.
        let cell = unsafe { &*table.add(paging::index(level, va)) };
        if cell.load().is_none() {
            cell.store(Pte::table(new_frame(), true));
        }
        table = phys_to_virt(cell.load().pfn().addr()).cast();
    }
    // SAFETY: as above.
    unsafe { &*table.add(paging::index(0, va)) }
}

fn map(va: usize, page: PhysAddr, prot: Prot) {
    pte(va).store(Pte::leaf(page.pfn(), prot | Prot::USER | Prot::READ, 0));
}

/// Switches to another thread and back to this one some time.
fn switch_to(to: usize) {
    let _off = irq::IrqGuard::new();
    let me = thread::current().as_ptr();
    // SAFETY: two threads that hand the CPU to each other.
    unsafe { thread::switch(me, core::ptr::with_exposed_provenance_mut(to)) };
}

struct Kernel;
static KERNEL: Kernel = Kernel;

impl TrapHandler for Kernel {
    fn syscall(&self, frame: &mut TrapFrame) {
        assert!(irq::enabled());
        let args = frame.syscall_args();
        match frame.syscall_nr() {
            1000 => frame.set_return((args[0] + args[1]) as isize),
            1001 => {
                event(0);
                switch_to(BOOT.load(Relaxed));
            }
            1002 => {
                let offset = symbol(vdso::image(), "__kernel_clock_gettime").expect("symbol");
                frame.set_return((VVAR + PAGE_SIZE + offset) as isize);
            }
            1003 => {
                let (user, now) = (args[0] as u64 * 1_000_000_000 + args[1] as u64, time::now_ns());
                let good = user != 0 && user <= now && now - user < 1_000_000_000;
                frame.set_return(if good { 0 } else { 1 });
                event(1);
            }
            1004 => {
                // SAFETY: boot thread and this one share one CPU.
                let thread = unsafe { thread::current().as_mut() };
                let handler = (&raw const user_handler).addr() - (&raw const user_code).addr() + CODE;
                let info = SigFrameInfo {
                    signo: 10,
                    handler,
                    flags: 4,
                    restorer: 0,
                    sigreturn_trampoline: VVAR + PAGE_SIZE + vdso::SIGRETURN_OFFSET.unwrap(),
                    mask_before: 0x1234,
                    siginfo: &[7; 128],
                    altstack: AltStack { sp: 1, flags: 2, size: 3 },
                    on_stack: None,
                    trap_nr: 0,
                    error_code: 0,
                    fault_addr: 0,
                    key_rights: arch::pkey::KeyRights::ALL,
                };
                frame.set_return(77);
                arch::signal::setup_rt_frame(frame, thread, &info).expect("frame");
            }
            1005 => {
                assert_eq!(args[0], 10);
                let mut bytes = [0; 128];
                uaccess::copy_from_user(&mut bytes, args[1]).expect("siginfo");
                assert_eq!(bytes, [7; 128]);
                event(2);
            }
            139 => {
                // SAFETY: as above.
                let thread = unsafe { thread::current().as_mut() };
                let back = arch::signal::restore_rt_frame(frame, thread).expect("frame");
                assert_eq!((back.mask, back.altstack), (0x1234, AltStack { sp: 1, flags: 2, size: 3 }));
                event(3);
            }
            1006 => {
                frame.set_single_step(true);
                STEP.store(frame.ip() + 4, Relaxed);
                thread::current_ref().flags().set(ThreadFlags::NOTIFY_RESUME);
            }
            93 => {
                STATUS.store(args[0] as u64, Relaxed);
                switch_to(BOOT.load(Relaxed));
                unreachable!();
            }
            nr => panic!("system call {nr}"),
        }
    }

    fn page_fault(&self, frame: &mut TrapFrame, fault: Fault) -> FaultResult {
        match fault.addr.0 & !(PAGE_SIZE - 1) {
            LAZY if !fault.protection => {
                event(if fault.from_user { 4 } else { 5 });
                map(LAZY, new_frame(), Prot::WRITE);
                pte(LAZY).store(pte(LAZY).load().with_dirty(true));
                FaultResult::Handled
            }
            CLEAN => {
                let cell = pte(CLEAN);
                assert!(fault.access == Access::Write && fault.protection && cell.load().is_writable());
                cell.store(cell.load().with_dirty(true));
                arch::tlb::flush_page_local(CLEAN);
                event(6);
                FaultResult::Handled
            }
            MISSING if fault.from_user => {
                assert_eq!(fault.access, Access::Write);
                event(7);
                frame.set_ip(frame.ip() + 4);
                FaultResult::Handled
            }
            MISSING => FaultResult::Failed,
            NO_STACK if !fault.from_user => FaultResult::Failed,
            _ => panic!("{fault:?} at {:#x}", frame.ip()),
        }
    }

    fn user_exception(&self, frame: &mut TrapFrame, e: Exception) {
        if e.kind == ExceptionKind::Debug {
            assert_eq!((e.signo, e.addr), (5, STEP.load(Relaxed)));
            return event(10);
        }
        match (e.kind, e.signo) {
            (ExceptionKind::Breakpoint, 5) => event(8),
            (ExceptionKind::IllegalInstruction, 4) => event(9),
            _ => panic!("{e:?}"),
        }
        assert_eq!(e.addr, frame.ip());
        frame.set_ip(frame.ip() + 4);
    }

    fn irq(&self, irq: IrqNumber) {
        panic!("{irq:?}");
    }

    fn timer(&self, _: &TrapFrame) {
        TICKS.fetch_add(1, Relaxed);
        if TICKS.load(Relaxed) % 16 < 10 {
            time::set_oneshot_ns(time::now_ns() + 1_000_000);
        }
    }

    fn ipi(&self, ipi: Ipi) {
        assert_eq!(ipi, Ipi::Reschedule);
        IPIS[cpu::current().index()].fetch_add(1, Release);
    }

    fn preempt_irq(&self) {}

    fn preempt(&self) {}

    fn exit_to_user(&self, _: &mut TrapFrame, flags: ThreadFlags) {
        assert!(irq::enabled());
        thread::current_ref().flags().clear(flags);
    }

    fn oops(&self, oops: &Oops<'_>) -> ! {
        println!("oops: {}", oops.reason);
        if let Some(frame) = oops.frame {
            let _ = frame.write(&mut earlycon::EarlyCon);
        }
        arch::backtrace::frames(oops.frame_pointer, |ip| {
            println!("  {ip:#x}");
            true
        });
        arch::power::poweroff();
        cpu::halt()
    }
}

/// Finds a symbol as a dynamic linker would: by PT_DYNAMIC, DT_HASH, DT_SYMTAB, DT_STRTAB.
fn symbol(image: &[u8], name: &str) -> Option<usize> {
    let word = |at: usize| usize::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let half = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
    let dynamic = word(64 + 56 + 8);
    let entry =
        |tag| (dynamic..).step_by(16).map(|at| (word(at), word(at + 8))).find(|e| e.0 == tag).map(|e| e.1);
    let (hash, symbols, strings) = (entry(4)?, entry(6)?, entry(5)?);
    (0..half(hash + 4)).map(|i| symbols + i * 24).find_map(|at| {
        let start = strings + half(at);
        let len = image[start..].iter().position(|b| *b == 0)?;
        (&image[start..start + len] == name.as_bytes()).then(|| word(at + 8))
    })
}

fn new_thread(entry: extern "C" fn(usize) -> !, arg: usize) -> *mut Thread {
    let thread = Box::leak(Box::new(Thread::new()));
    let layout = Layout::from_size_align(arch::layout::KERNEL_STACK_SIZE, 4096).unwrap();
    // SAFETY: a fresh stack.
    unsafe {
        let stack = alloc::alloc::alloc(layout).addr() + layout.size();
        thread.init(VirtAddr(stack), entry, arg);
    }
    thread
}

extern "C" fn idle(cpu: usize) -> ! {
    assert_eq!(cpu::current().index(), cpu);
    cpu::mark_online(cpu::current());
    loop {
        cpu::wait_for_interrupt_irqs_off();
        irq::local_enable();
        irq::local_disable();
    }
}

extern "C" fn user_thread(_: usize) -> ! {
    // SAFETY: the running thread and its own frame.
    unsafe {
        (*thread::current().as_ref().user_frame()).set_user_entry(CODE, STACK + PAGE_SIZE);
        return_to_user()
    }
}

fn wait(what: &str, f: impl Fn() -> bool) {
    let start = time::now_ns();
    while !f() {
        assert!(time::now_ns() - start < 5_000_000_000, "timeout: {what}");
        core::hint::spin_loop();
    }
}

fn test_memory() {
    // The compiler's memory functions against themselves, byte by byte, at all alignments.
    let mut a = [0u8; 600];
    let mut b = [0u8; 600];
    for (i, x) in a.iter_mut().enumerate() {
        *x = (i * 7 + i / 256) as u8;
    }
    for len in (0..140).chain([255, 256, 300, 400]) {
        for shift in 0..9 {
            b.fill(0xee);
            b[shift..shift + len].copy_from_slice(&a[16 - shift..16 - shift + len]);
            for i in 0..600 {
                let expected = if i >= shift && i < shift + len { a[16 - shift + i - shift] } else { 0xee };
                assert_eq!(b[i], expected, "memcpy {len} {shift} {i}");
            }
            let mut c = a;
            c.copy_within(shift..shift + len, 5);
            let mut d = a;
            d.copy_within(5..5 + len, shift);
            for i in 0..len {
                assert_eq!((c[5 + i], d[shift + i]), (a[shift + i], a[5 + i]), "memmove {len} {shift} {i}");
            }
            b[shift..shift + len].fill(0x5a);
            assert!(b[..shift].iter().all(|x| *x == 0xee) && b[shift + len..].iter().all(|x| *x == 0xee));
            assert!(b[shift..shift + len].iter().all(|x| *x == 0x5a));
            let mut e = a;
            assert_eq!(&e[shift..shift + len], &a[shift..shift + len]);
            if len > 0 {
                e[shift + len - 1] ^= 0x80;
                let less = e[shift + len - 1] < a[shift + len - 1];
                assert_eq!(e[shift..shift + len] < a[shift..shift + len], less, "memcmp {len}");
            }
        }
    }
    println!("ok memory");
}

fn test_timer() {
    irq::local_enable();
    let start = time::now_ns();
    time::set_oneshot_ns(start + 2_000_000);
    wait("timer", || TICKS.load(Relaxed) >= 10);
    assert!(time::now_ns() - start >= 10_000_000);
    println!("ok timer {} Hz", time::clock_hz());
}

fn test_smp() {
    let me = cpu::current();
    for cpu in cpu::possible().without(CpuMask::of(me)).iter() {
        let thread = new_thread(idle, cpu.index());
        // SAFETY: a fresh thread that lives for ever.
        assert!(unsafe { smp::start_secondary(cpu, thread) });
    }
    for round in 1..=3 {
        smp::send_ipi_mask(cpu::online().without(CpuMask::of(me)), Ipi::Reschedule);
        smp::send_ipi(me, Ipi::Reschedule);
        wait("ipi", || cpu::online().iter().all(|c| IPIS[c.index()].load(Acquire) >= round));
        wait("self", || IPIS[me.index()].load(Acquire) >= round);
    }
    smp::call_on(
        CpuMask::ALL,
        |arg| {
            CALLS.fetch_add(arg as u64 + (1 << 32), Relaxed);
        },
        3,
    );
    let n = cpu::online().count() as u64;
    assert_eq!(CALLS.load(Relaxed), n * 3 + (n << 32));
    println!("ok smp {n}");
}

fn test_uaccess() {
    let mut buf = [1u8; 300];
    assert_eq!(uaccess::copy_from_user(&mut buf, MISSING), Err(uaccess::NotCopied(300)));
    assert_eq!(uaccess::copy_from_user(&mut buf, usize::MAX - 100), Err(uaccess::NotCopied(300)));
    assert_eq!(
        uaccess::copy_from_user(&mut buf, arch::layout::DIRECT_MAP + 0x4000_0000),
        Err(uaccess::NotCopied(300))
    );
    // Across the end of a mapped page: exact to the byte, in both directions and at all alignments.
    for left in [1, 7, 8, 63, 64, 65, 100, 129, 255] {
        let end = STACK + PAGE_SIZE;
        assert_eq!(uaccess::copy_to_user(end - left, &buf), Err(uaccess::NotCopied(300 - left)), "to {left}");
        let r = uaccess::copy_from_user(&mut buf, end - left);
        assert_eq!(r, Err(uaccess::NotCopied(300 - left)), "from {left}");
        assert_eq!(uaccess::clear_user(end - left, 300), Err(uaccess::NotCopied(300 - left)), "clear {left}");
    }
    // Several pages, and a fault after two of them.
    let mut big: Box<[u8]> = (0..3 * PAGE_SIZE).map(|i| (i * 31 + i / 4096) as u8).collect();
    for off in [0, 1, 24, 4095] {
        let (base, room) = (STACK - PAGE_SIZE + off, 2 * PAGE_SIZE - off);
        assert_eq!(
            uaccess::copy_to_user(base, &big),
            Err(uaccess::NotCopied(big.len() - room)),
            "big to {off}"
        );
        let mut back = alloc::vec![0; big.len()].into_boxed_slice();
        let r = uaccess::copy_from_user(&mut back, base);
        assert_eq!(r, Err(uaccess::NotCopied(big.len() - room)), "big from {off}");
        assert!(back[..room] == big[..room] && back[room..].iter().all(|b| *b == 0));
        assert_eq!(uaccess::clear_user(base, big.len()), Err(uaccess::NotCopied(big.len() - room)));
        assert_eq!(uaccess::copy_from_user(&mut back[..room], base), Ok(()));
        assert!(back.iter().all(|b| *b == 0));
    }
    big.fill(0);
    // Demand paged by the copy itself.
    assert_eq!(uaccess::get_u64(LAZY + 16), Ok(0));
    pte(LAZY).store(Pte::NONE);
    // SAFETY: as loaded below.
    arch::tlb::flush_page_local(LAZY);
    {
        let _no = uaccess::NoFault::new();
        assert_eq!(uaccess::get_u64(LAZY), Err(uaccess::UserFault));
    }
    for n in [0usize, 3, 8, 20, 63] {
        let s = &b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-"[..n];
        let at = STACK + PAGE_SIZE - n - 1;
        uaccess::copy_to_user(at, s).unwrap();
        uaccess::put_u8(at + n, 0).unwrap();
        let mut out = [0xffu8; 100];
        assert_eq!(uaccess::strncpy_from_user(&mut out, at), Ok(n));
        assert_eq!(&out[..n], s);
        assert_eq!(out[n], 0);
        assert_eq!(uaccess::strncpy_from_user(&mut out[..n], at), Ok(n));
        uaccess::put_u8(at + n, b'!').unwrap();
        assert_eq!(uaccess::strncpy_from_user(&mut out, at), Err(uaccess::UserFault));
    }
    uaccess::put_u32(STACK, 5).unwrap();
    assert_eq!(uaccess::cmpxchg_u32(STACK, 5, 9), Ok(5));
    assert_eq!(uaccess::cmpxchg_u32(STACK, 5, 11), Ok(9));
    assert_eq!(uaccess::futex_op(uaccess::FutexOp::Add, STACK, 3), Ok(9));
    assert_eq!(uaccess::futex_op(uaccess::FutexOp::AndNot, STACK, 4), Ok(12));
    assert_eq!(uaccess::futex_op(uaccess::FutexOp::Xor, MISSING, 4), Err(uaccess::UserFault));
    assert_eq!(uaccess::get_u32(STACK), Ok(8));
    println!("ok uaccess");
}

fn test_user() {
    let user = new_thread(user_thread, 0);
    // SAFETY: not running.
    unsafe { (*user).alloc_fpu().unwrap() };
    USER.store(user.expose_provenance(), Relaxed);
    let (mult, shift) = (time::clock_params().1, time::clock_params().2);
    vdso::update(&vdso::VdsoTime { clock: (time::clock_params().0, mult, shift), ..Default::default() });
    let start = time::now_ns();
    TICKS.store(0, Relaxed);
    time::set_oneshot_ns(0);
    switch_to(user.expose_provenance());
    assert_eq!(EVENTS.load(Relaxed) & 1, 1);
    // Another FP user in between.
    let other = new_thread(other_thread, 0);
    // SAFETY: not running.
    unsafe { (*other).alloc_fpu().unwrap() };
    switch_to(other.expose_provenance());
    switch_to(user.expose_provenance());
    let events = EVENTS.load(Relaxed);
    assert_eq!(STATUS.load(Relaxed), 0, "events {events:#x}");
    // Bit 6 depends on hardware dirty marking: either it faulted or the entry is dirty.
    assert!(pte(CLEAN).load().is_dirty());
    assert_eq!(events | 1 << 6, 0x7ff, "events {events:#x}");
    println!("ok user, {} ns, hardware dirty marking: {}", time::now_ns() - start, events & 1 << 6 == 0);
}

extern "C" fn other_thread(_: usize) -> ! {
    // Its registers are zero; loading them overwrote the user's.
    switch_to(BOOT.load(Relaxed));
    unreachable!()
}

fn start(info: &'static BootInfo) -> ! {
    earlycon::setup(None);
    earlycon::enable(true);
    let el2 = arch::native::platform().booted_at_el2;
    println!("hello, image {:?} slide {:#x} el2 {el2} cpus {}", info.image, info.slide, info.cpus.len());
    set_handler(&KERNEL);
    let boot = Box::leak(Box::new(Thread::new()));
    // SAFETY: lives for ever; this stack is its.
    unsafe { thread::set_current(NonNull::from(&*boot)) };
    BOOT.store((boot as *mut Thread).expose_provenance(), Relaxed);
    paging::set_table_allocator(|| Some(new_frame()));

    // One address space.
    let root = new_frame();
    ROOT.store(root.0, Relaxed);
    let code = new_frame();
    let len = (&raw const user_code_end).addr() - (&raw const user_code).addr();
    // SAFETY: a fresh page, and code that fits.
    unsafe { core::ptr::copy_nonoverlapping(&raw const user_code, phys_to_virt(code), len) };
    arch::native::sync_instructions(phys_to_virt(code).addr(), PAGE_SIZE);
    map(CODE, code, Prot::EXEC);
    map(STACK, new_frame(), Prot::WRITE);
    pte(STACK).store(pte(STACK).load().with_dirty(true));
    map(STACK - PAGE_SIZE, new_frame(), Prot::WRITE);
    pte(STACK - PAGE_SIZE).store(pte(STACK - PAGE_SIZE).load().with_dirty(true));
    map(CLEAN, new_frame(), Prot::WRITE);
    map(VVAR - PAGE_SIZE, vdso::vvar_page(), Prot::READ);
    map(VVAR, vdso::vvar_page(), Prot::READ);
    let image = arch::addr::virt_to_phys(VirtAddr(vdso::image().as_ptr().addr()));
    map(VVAR + PAGE_SIZE, image, Prot::EXEC);
    let mm = Box::leak(Box::new(MmContext::new(root)));
    {
        let _off = irq::IrqGuard::new();
        // SAFETY: the tables live for ever.
        unsafe { asid::switch_mm(mm) };
    }

    test_memory();
    test_timer();
    test_smp();
    test_uaccess();
    test_user();
    for cpu in cpu::online().iter().take(1) {
        let _ = cpu::write_cpuinfo(&mut earlycon::EarlyCon, cpu);
    }
    match info.cmdline.split(' ').find_map(|w| w.strip_prefix("oops=")) {
        // SAFETY: wrong on purpose: these end in an oops.
        Some("null") => unsafe { core::ptr::without_provenance_mut::<u8>(8).write_volatile(1) },
        // SAFETY: as above.
        Some("user") => unsafe { core::ptr::without_provenance_mut::<u8>(STACK).write_volatile(1) },
        // SAFETY: as above.
        Some("wx") => unsafe { (start as *const () as *mut u8).write_volatile(1) },
        // SAFETY: as above.
        Some("brk") => unsafe { core::arch::asm!("brk #1") },
        Some("stack") => overflow(),
        _ => {}
    }
    asid::forget(mm);
    let _ = CpuId::BOOT;
    smp::stop_others();
    assert_eq!(cpu::online().count(), 1);
    println!("selftest: ok");
    arch::power::poweroff();
    cpu::halt()
}

/// On a stack of its own, with nothing mapped below.
fn overflow() {
    #[allow(unconditional_recursion, reason = "the point of it")]
    extern "C" fn eat(depth: usize) -> ! {
        let page = [depth as u8; 512];
        core::hint::black_box(&page);
        eat(depth + page[3] as usize + 1)
    }
    let thread = Box::leak(Box::new(Thread::new()));
    let base = arch::layout::vmalloc().start + (1 << 20);
    for i in 0..arch::layout::KERNEL_STACK_SIZE / PAGE_SIZE {
        // SAFETY: an unused range.
        unsafe { paging::map_kernel(base + i * PAGE_SIZE, new_frame(), PAGE_SIZE, Prot::KERNEL_RW).unwrap() };
    }
    // SAFETY: as above.
    unsafe { thread.init(VirtAddr(base + arch::layout::KERNEL_STACK_SIZE), eat, 0) };
    switch_to((thread as *mut Thread).expose_provenance());
}
