//! The self-test proper.

extern crate alloc;

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use arch::addr::{PAGE_SIZE, PhysAddr, VirtAddr, phys_to_virt};
use arch::asid::MmContext;
use arch::cpu::{self, CpuId};
use arch::intc::IrqNumber;
use arch::paging::{Prot, Pte, PteCell, index};
use arch::signal::{AltStack, SigFrameInfo};
use arch::smp::Ipi;
use arch::thread::{Thread, ThreadFlags};
use arch::trap::{Exception, Fault, FaultResult, Oops, TrapFrame, TrapHandler};
use arch::{earlycon, irq, smp, thread, time, trap, uaccess};
use boot::{BootInfo, memblock};

boot::entry!(start);

macro_rules! println {
    ($($arg:tt)*) => { earlycon::print(format_args!("{}\n", format_args!($($arg)*))) };
}

struct Heap;

// SAFETY: memblock never gives a range twice, and nothing is taken back.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        memblock::with(|m| m.alloc(layout.size() as u64, layout.align() as u64))
            .map_or(core::ptr::null_mut(), phys_to_virt)
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: Heap = Heap;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    earlycon::enable(true);
    println!("{info}");
    exit(1)
}

/// Ends the emulator.
fn exit(code: u8) -> ! {
    if code == 0 {
        println!("selftest: ok");
        arch::power::poweroff();
    }
    // SAFETY: QEMU's debug exit, or nothing.
    unsafe { core::arch::asm!("out dx, al", in("dx") 0xf4_u16, in("al") code) };
    arch::power::reboot(arch::power::Mode::Auto)
}

/// Where the user program lives.
const USER_CODE: usize = 0x40_0000;
const USER_STACK: usize = 0x50_0000;
const USER_LAZY: usize = 0x60_0000;
/// Not canonical.
const BAD_IP: usize = 0x8000_0000_0000_0000;
const USER_VDSO: usize = 0x70_1000;

static TICKS: AtomicU32 = AtomicU32::new(0);
static RESCHEDULES: AtomicU32 = AtomicU32::new(0);
static FAULTS: AtomicU32 = AtomicU32::new(0);
static SYSCALLS: AtomicU32 = AtomicU32::new(0);
static EXCEPTIONS: AtomicU32 = AtomicU32::new(0);
static EXIT_WORK: AtomicU32 = AtomicU32::new(0);
static CALLED: AtomicU32 = AtomicU32::new(0);
static LAST_EXCEPTION: AtomicUsize = AtomicUsize::new(0);
static ROOT: AtomicU64 = AtomicU64::new(0);

struct Kernel;
static KERNEL: Kernel = Kernel;

impl TrapHandler for Kernel {
    fn syscall(&self, frame: &mut TrapFrame) {
        let n = SYSCALLS.fetch_add(1, Ordering::Relaxed);
        match frame.syscall_nr() {
            100 => frame.set_return(frame.syscall_args().iter().sum::<usize>() as isize),
            101 => {
                thread::current_ref().flags().set(ThreadFlags::NOTIFY_RESUME);
                frame.set_return(7);
            }
            102 => {
                frame.set_return(55);
                let sig = SigFrameInfo {
                    signo: 10,
                    handler: USER_CODE + 0x800,
                    flags: 0x0400_0000,
                    restorer: USER_CODE + 0x900,
                    sigreturn_trampoline: 0,
                    mask_before: 0x1234,
                    siginfo: &[0; 128],
                    altstack: AltStack::default(),
                    on_stack: None,
                    trap_nr: 0,
                    error_code: 0,
                    fault_addr: 0,
                    key_rights: arch::pkey::KeyRights::ALL,
                };
                arch::signal::setup_rt_frame(frame, me(), &sig).expect("signal frame");
            }
            15 => {
                let back = arch::signal::restore_rt_frame(frame, me()).expect("sigreturn");
                assert_eq!(back.mask, 0x1234);
            }
            // What sigreturn and ptrace can do: a state that the processor refuses to return to.
            103 => frame.set_ip(BAD_IP),
            60 => finish(frame.syscall_args()[0], n + 1),
            _ => frame.set_return(-38),
        }
    }

    fn page_fault(&self, frame: &mut TrapFrame, fault: Fault) -> FaultResult {
        FAULTS.fetch_add(1, Ordering::Relaxed);
        if (USER_LAZY..USER_LAZY + PAGE_SIZE).contains(&fault.addr.0) {
            map_user(USER_LAZY, page(), Prot::READ | Prot::WRITE | Prot::USER);
            return FaultResult::Handled;
        }
        if fault.from_user {
            // The program expects a fault here: skip its two-byte instruction.
            frame.set_ip(frame.ip() + 2);
            return FaultResult::Handled;
        }
        FaultResult::Failed
    }

    fn user_exception(&self, frame: &mut TrapFrame, exception: Exception) {
        EXCEPTIONS.fetch_add(1, Ordering::Relaxed);
        LAST_EXCEPTION.store(exception.signo as usize, Ordering::Relaxed);
        match frame.ip() {
            // The return to a bad address failed.
            BAD_IP => frame.set_ip(USER_CODE + 0xa00),
            _ if exception.signo != 5 => frame.set_ip(frame.ip() + 2),
            _ => frame.set_single_step(false),
        }
    }

    fn irq(&self, _: IrqNumber) {}

    fn timer(&self, _: &TrapFrame) {
        TICKS.fetch_add(1, Ordering::Relaxed);
    }

    fn ipi(&self, ipi: Ipi) {
        if ipi == Ipi::Reschedule {
            RESCHEDULES.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn preempt_irq(&self) {}

    fn preempt(&self) {}

    fn exit_to_user(&self, _: &mut TrapFrame, flags: ThreadFlags) {
        EXIT_WORK.fetch_add(1, Ordering::Relaxed);
        thread::current_ref().flags().clear(flags);
    }

    fn oops(&self, oops: &Oops<'_>) -> ! {
        println!("OOPS: {}", oops.reason);
        oops.report(|line| println!("{line}"));
        exit(2)
    }
}

/// The running thread.
fn me() -> &'static mut Thread {
    // SAFETY: only the running thread asks for itself, and keeps one reference.
    unsafe { thread::current().as_mut() }
}

/// Where the vDSO's symbol lies in its image.
fn vdso_symbol(name: &str) -> usize {
    let image = arch::vdso::image();
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes")) as usize;
    let dynamic = word(64 + 56 + 8);
    let entry = |tag| {
        (0..).map(|i| dynamic + i * 16).find(|&at| word(at) == tag).map(|at| word(at + 8)).expect("tag")
    };
    let (strings, symbols) = (entry(5), entry(6));
    let symbol = (1..11).map(|i| symbols + i * 24).find(|&at| {
        let text = &image[strings + (word(at) & 0xffff_ffff)..];
        text.starts_with(name.as_bytes()) && text[name.len()] == 0
    });
    word(symbol.expect("symbol") + 8)
}

fn page() -> PhysAddr {
    let page = memblock::with(|m| m.alloc(PAGE_SIZE as u64, PAGE_SIZE as u64)).expect("memory");
    // SAFETY: just allocated.
    unsafe { phys_to_virt(page).write_bytes(0, PAGE_SIZE) };
    page
}

fn table(at: PhysAddr) -> &'static [PteCell; 512] {
    // SAFETY: page tables of this test, never freed.
    unsafe { &*phys_to_virt(at).cast() }
}

fn map_user(va: usize, pa: PhysAddr, prot: Prot) {
    let mut at = PhysAddr(ROOT.load(Ordering::Relaxed));
    for level in (1..4).rev() {
        let cell = &table(at)[index(level, va)];
        if cell.load().is_none() {
            cell.store(Pte::table(page(), true));
        }
        at = cell.load().pfn().addr();
    }
    table(at)[index(0, va)].store(Pte::leaf(pa.pfn(), prot, 0));
}

fn stack() -> VirtAddr {
    let at = memblock::with(|m| m.alloc(16 << 10, 4096)).expect("memory");
    VirtAddr(phys_to_virt(at).addr() + (16 << 10))
}

fn new_thread(entry: extern "C" fn(usize) -> !, arg: usize) -> &'static mut Thread {
    let thread = alloc::boxed::Box::leak(alloc::boxed::Box::new(Thread::new()));
    // SAFETY: a stack of its own for ever.
    unsafe { thread.init(stack(), entry, arg) };
    thread
}

fn start(info: &'static BootInfo) -> ! {
    earlycon::enable(true);
    println!(
        "selftest: slide {:#x}, {} CPUs, {} nodes, {} KiB",
        info.slide,
        info.cpus.len(),
        info.numa.nodes,
        memblock::with(|m| m.total()) >> 10
    );
    trap::set_handler(&KERNEL);
    println!("  TSC {} kHz, epoch {}", time::clock_hz() / 1000, time::boot_epoch_ns() / 1_000_000_000);
    if info.cmdline.contains("cpuinfo") {
        let _ = cpu::write_cpuinfo(&mut earlycon::EarlyCon, CpuId(0));
    }
    if info.cmdline.contains("oops") {
        // SAFETY: it is not sound: that is what is tested.
        unsafe { core::ptr::without_provenance::<u8>(16).read_volatile() };
    }
    timer();
    copies();
    secondaries(info.cpus.len());
    switches();
    let user = new_thread(user_thread, 0);
    user.alloc_fpu().expect("memory");
    arch::preempt::disable();
    irq::local_disable();
    // SAFETY: the running thread and a new one.
    unsafe { thread::switch(thread::current().as_ptr(), user) };
    unreachable!()
}

/// One-shot interrupts come, and not much too late.
fn timer() {
    irq::local_enable();
    for _ in 0..5 {
        let before = TICKS.load(Ordering::Relaxed);
        let start = time::now_ns();
        time::set_oneshot_ns(start + 1_000_000);
        while TICKS.load(Ordering::Relaxed) == before {
            irq::local_disable();
            if TICKS.load(Ordering::Relaxed) == before {
                cpu::wait_for_interrupt_irqs_off();
            }
            irq::local_enable();
        }
        let took = time::now_ns() - start;
        assert!(took >= 990_000, "the timer fired after {took} ns instead of 1 ms");
    }
    println!("  timer: {} interrupts", TICKS.load(Ordering::Relaxed));
}

/// User copies: faults are resolved or reported, never fatal.
fn copies() {
    let root = page();
    ROOT.store(root.0, Ordering::Relaxed);
    // SAFETY: a zeroed page of its own.
    unsafe { arch::paging::init_user_root(root) };
    let mm = alloc::boxed::Box::leak(alloc::boxed::Box::new(MmContext::new(root)));
    // SAFETY: never freed.
    unsafe { arch::asid::switch_mm(mm) };
    map_user(USER_STACK, page(), Prot::READ | Prot::WRITE | Prot::USER);
    map_user(USER_CODE, page(), Prot::READ | Prot::WRITE | Prot::USER);

    let mut out = [0u8; 300];
    let data: [u8; 300] = core::array::from_fn(|i| i as u8);
    for len in (0..80).chain([127, 128, 255, 300]) {
        uaccess::copy_to_user(USER_STACK + 3, &data[..len]).expect("copy");
        uaccess::copy_from_user(&mut out[..len], USER_STACK + 3).expect("copy");
        assert_eq!(out[..len], data[..len]);
    }
    // Exactly as many bytes as there are before the page ends.
    for len in [1, 7, 8, 9, 63, 64, 100, 300] {
        for there in 0..len {
            let at = USER_STACK + PAGE_SIZE - there;
            assert_eq!(
                uaccess::copy_to_user(at, &data[..len]),
                Err(uaccess::NotCopied(len - there)),
                "{len} {there}"
            );
            assert_eq!(uaccess::copy_from_user(&mut out[..len], at), Err(uaccess::NotCopied(len - there)));
            assert_eq!(uaccess::clear_user(at, len), Err(uaccess::NotCopied(len - there)));
        }
    }
    assert_eq!(uaccess::copy_from_user(&mut out[..8], usize::MAX - 3), Err(uaccess::NotCopied(8)));
    assert_eq!(
        uaccess::copy_from_user(&mut out[..8], arch::layout::TASK_SIZE - 4),
        Err(uaccess::NotCopied(8))
    );
    assert!(uaccess::get_u32(0).is_err() && uaccess::put_u64(8, 1).is_err());
    uaccess::put_u32(USER_LAZY + 8, 5).expect("a page on demand");
    assert_eq!(uaccess::cmpxchg_u32(USER_LAZY + 8, 5, 6), Ok(5));
    assert_eq!(uaccess::futex_op(uaccess::FutexOp::Add, USER_LAZY + 8, 10), Ok(6));
    assert_eq!(uaccess::get_u32(USER_LAZY + 8), Ok(16));
    assert!(uaccess::cmpxchg_u32(16, 0, 1).is_err());
    let end = USER_STACK + PAGE_SIZE;
    uaccess::copy_to_user(end - 6, b"hello\0").expect("copy");
    assert_eq!(uaccess::strncpy_from_user(&mut out, end - 6), Ok(5));
    assert_eq!(&out[..6], b"hello\0");
    uaccess::copy_to_user(end - 6, b"helloo").expect("copy");
    assert!(uaccess::strncpy_from_user(&mut out, end - 6).is_err());
    assert_eq!(uaccess::strncpy_from_user(&mut out[..4], end - 6), Ok(4));
    {
        let before = FAULTS.load(Ordering::Relaxed);
        let _no = uaccess::NoFault::new();
        assert!(uaccess::get_u8(0x1000).is_err());
        assert_eq!(FAULTS.load(Ordering::Relaxed), before);
    }
    println!("  user copies: {} faults", FAULTS.load(Ordering::Relaxed));
}

extern "C" fn idle(cpu: usize) -> ! {
    cpu::mark_online(CpuId(cpu as u32));
    irq::local_enable();
    loop {
        irq::local_disable();
        cpu::wait_for_interrupt_irqs_off();
        irq::local_enable();
    }
}

/// The other CPUs come up and answer.
fn secondaries(count: usize) {
    for i in 1..count {
        let idle = new_thread(idle, i);
        // SAFETY: lives for ever.
        assert!(unsafe { smp::start_secondary(CpuId(i as u32), idle) }, "CPU {i} did not start");
    }
    assert_eq!(cpu::online().count(), count);
    for _ in 0..100 {
        smp::call_on(
            cpu::online(),
            |n| {
                CALLED.fetch_add(n as u32, Ordering::Relaxed);
            },
            3,
        );
    }
    assert_eq!(CALLED.load(Ordering::Relaxed), 300 * count as u32);
    for cpu in cpu::online().iter().skip(1) {
        let before = RESCHEDULES.load(Ordering::Relaxed);
        smp::send_ipi(cpu, Ipi::Reschedule);
        while RESCHEDULES.load(Ordering::Relaxed) == before {
            cpu::relax();
        }
    }
    arch::tlb::flush_kernel(0xffff_c900_0000_0000..0xffff_c900_0000_1000);
    println!("  {count} CPUs answer");
}

static MAIN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn ping(arg: usize) -> ! {
    let mut arg = arg;
    loop {
        arg += 1;
        CALLED.store(arg as u32, Ordering::Relaxed);
        let main = core::ptr::with_exposed_provenance_mut(MAIN.load(Ordering::Relaxed));
        // SAFETY: the test's two threads, on one CPU, interrupts off.
        unsafe { thread::switch(thread::current().as_ptr(), main) };
    }
}

fn switches() {
    let other = new_thread(ping, 40);
    let main = thread::current().as_ptr();
    MAIN.store(main.expose_provenance(), Ordering::Relaxed);
    arch::preempt::disable();
    irq::local_disable();
    let start = time::now_ns();
    for i in 0..1000 {
        // SAFETY: as above.
        let last = unsafe { thread::switch(main, other) };
        assert_eq!(last, &raw mut *other);
        assert_eq!(CALLED.load(Ordering::Relaxed), 41 + i);
    }
    println!("  2000 switches, {} ns each", (time::now_ns() - start) / 2000);
    irq::local_enable();
    arch::preempt::enable();
}

// The user program. Exits with the number of the first check that failed, or 0.
core::arch::global_asm!(
    ".pushsection .rodata.user, \"a\"",
    "user_start:",
    // 1: arguments arrive, callee-saved registers survive.
    "mov rbx, 11", "mov rbp, 22", "mov r12, 33", "mov r13, 44", "mov r14, 55", "mov r15, 66",
    "mov edi, 1", "mov esi, 2", "mov edx, 3", "mov r10d, 4", "mov r8d, 5", "mov r9d, 6", "mov eax, 100",
    "syscall",
    "mov r9d, 1", "cmp eax, 21", "jne 9f", "cmp rbx, 11", "jne 9f", "cmp rbp, 22", "jne 9f", "cmp r12, 33", "jne 9f",
    "cmp r13, 44", "jne 9f", "cmp r14, 55", "jne 9f", "cmp r15, 66", "jne 9f", "cmp edi, 1", "jne 9f", "cmp edx, 3", "jne 9f",
    // 2: the slow way out gives the result too, and keeps vector registers.
    "mov eax, 0x12345678", "movd xmm7, eax",
    "mov eax, 101", "syscall",
    "mov r9d, 2", "cmp eax, 7", "jne 9f", "movd eax, xmm7", "cmp eax, 0x12345678", "jne 9f",
    // 3: a page on demand.
    "mov r9d, 3", "mov dword ptr [{LAZY} + 64], 77", "cmp dword ptr [{LAZY} + 64], 77", "jne 9f",
    // 4: faults and exceptions come back behind the instruction.
    "mov r9d, 4",
    "xor eax, eax", "mov [rax], al",
    "ud2",
    "int3",
    "xor edx, edx", "mov eax, 1", "xor ecx, ecx", "div ecx",
    "cli", "nop",
    // 5: an unknown system call.
    "mov r9d, 5", "mov eax, 9999", "syscall", "mov r9d, 5", "cmp rax, -38", "jne 9f",
    // 6: fs base.
    "mov r9d, 6", "cmp dword ptr fs:[64], 77", "jne 9f",
    // 7: the vDSO's clock.
    "mov r12d, 7", "mov edi, 1", "mov esi, {LAZY} + 256", "call [{LAZY} + 128]", "mov r9d, r12d", "test eax, eax", "jnz 9f",
    "mov rbx, [{LAZY} + 256]", "imul rbx, rbx, 1000000000", "add rbx, [{LAZY} + 264]", "cmp rbx, [{LAZY} + 144]", "jb 9f",
    "sub rbx, [{LAZY} + 144]", "mov eax, 1000000000", "cmp rbx, rax", "ja 9f",
    "mov edi, {LAZY} + 256", "xor esi, esi", "call [{LAZY} + 136]", "mov r9d, r12d", "cmp dword ptr [{LAZY} + 256], 0", "jne 9f",
    // 8: a signal handler runs and comes back with everything as it was.
    "mov eax, 0x12345678", "movd xmm7, eax", "mov r13d, 8", "mov eax, 102", "syscall", "mov r9d, r13d",
    "cmp eax, 55", "jne 9f", "cmp dword ptr [{LAZY} + 300], 10", "jne 9f", "movd eax, xmm7", "cmp eax, 0x12345678", "jne 9f",
    "jmp 6f",
    // The handler, at a known place: notes its argument, spoils registers.
    ".org user_start + 0x800", "mov [{LAZY} + 300], edi", "xorps xmm7, xmm7", "xor r13d, r13d", "mov eax, 9", "ret",
    // The restorer.
    ".org user_start + 0x900", "mov eax, 15", "syscall", "ud2",
    "6:",
    // 9: single steps, also over a system call.
    "mov r9d, 9", "pushfq", "or dword ptr [rsp], 0x100", "popfq", "nop",
    "mov eax, 9999", "pushfq", "or dword ptr [rsp], 0x100", "popfq", "syscall", "mov r9d, 9", "cmp rax, -38", "jne 9f",
    // 10: a return to nowhere.
    "mov eax, 103", "mov ebx, 1234", "syscall", "ud2",
    ".org user_start + 0xa00", "mov r9d, 10", "cmp ebx, 1234", "jne 9f",
    "xor edi, edi", "jmp 8f",
    "9: mov edi, r9d",
    "8: mov eax, 60", "syscall", "ud2",
    "user_end:",
    ".popsection",
    LAZY = const USER_LAZY,
);

extern "C" fn user_thread(_: usize) -> ! {
    unsafe extern "C" {
        static user_start: u8;
        static user_end: u8;
    }
    let (start, end) = (&raw const user_start, &raw const user_end);
    // SAFETY: the program's bytes.
    let program = unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) };
    uaccess::copy_to_user(USER_CODE, program).expect("copy");
    let time = arch::vdso::VdsoTime {
        clock: time::clock_params(),
        raw_clock: time::clock_params(),
        ..Default::default()
    };
    arch::vdso::update(&time);
    for number in 1..=arch::vdso::VVAR_PAGES {
        map_user(USER_VDSO - number * PAGE_SIZE, arch::vdso::vvar_page(), Prot::READ | Prot::USER);
    }
    let image = arch::addr::virt_to_phys(VirtAddr(arch::vdso::image().as_ptr().addr()));
    map_user(USER_VDSO, image, Prot::READ | Prot::EXEC | Prot::USER);
    let functions = ["__vdso_clock_gettime", "__vdso_getcpu"];
    for (i, name) in functions.into_iter().enumerate() {
        uaccess::put_u64(USER_LAZY + 128 + 8 * i, (USER_VDSO + vdso_symbol(name)) as u64).expect("put");
    }
    uaccess::put_u64(USER_LAZY + 144, time::now_ns()).expect("put");
    me().set_tls(USER_LAZY);
    let code = arch::paging::Pte(walk(USER_CODE));
    map_user(USER_CODE, code.pfn().addr(), Prot::READ | Prot::EXEC | Prot::USER);
    arch::tlb::flush_page_local(USER_CODE);
    let frame = thread::current_ref().user_frame();
    arch::preempt::enable_no_resched();
    // SAFETY: the frame is at the top of this thread's stack, which ends above this code's frames.
    unsafe {
        frame.write(TrapFrame::default());
        (*frame).set_user_entry(USER_CODE, USER_STACK + PAGE_SIZE);
        trap::return_to_user()
    }
}

fn walk(va: usize) -> u64 {
    let mut at = PhysAddr(ROOT.load(Ordering::Relaxed));
    for level in (1..4).rev() {
        at = table(at)[index(level, va)].load().pfn().addr();
    }
    table(at)[index(0, va)].load().0
}

fn finish(status: usize, syscalls: u32) -> ! {
    println!(
        "  user mode: {syscalls} system calls, {} exceptions, {} exit work",
        EXCEPTIONS.load(Ordering::Relaxed),
        EXIT_WORK.load(Ordering::Relaxed)
    );
    assert_eq!(status, 0, "the user program's check failed");
    assert_eq!(syscalls, 8);
    assert_eq!(EXCEPTIONS.load(Ordering::Relaxed), 7);
    assert_eq!(EXIT_WORK.load(Ordering::Relaxed), 1);
    exit(0)
}
