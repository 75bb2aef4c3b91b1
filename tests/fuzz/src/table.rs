//! What system calls take.
//!
//! One line per call: its name and a letter per argument. A call without a line takes random words ([`Kind::Any`]).
//!
//! | letter | argument | letter | argument |
//! |---|---|---|---|
//! | `f` | descriptor | `d` | descriptor of a directory, or `AT_FDCWD` |
//! | `p` | path | `s` | name (attribute, file system, key) |
//! | `b` | memory to write to | `B` | memory full of random words |
//! | `v` | `struct iovec` array | `k` | small count |
//! | `l` | length | `o` | file offset |
//! | `a` | page address in the arena | `A` | any address |
//! | `g` | flags, few bits | `O` | flags of `open` |
//! | `M` | file mode | `P` | protection |
//! | `m` | flags of `mmap` | `t` | short `struct timespec` |
//! | `S` | signal | `i` | process |
//! | `u` | user or group | `c` | clock |
//! | `n` | small number | `x` | any word |
//! | `e` | epoll event, sigevent, small structure | `2` | two descriptors to fill |

/// A kind of argument, by its letter.
pub type Kind = u8;

/// Any word.
pub const ANY: Kind = b'x';

const LINES: &str = "
read fbl\nwrite fBl\nopen pOM\nclose f\nstat pb\nfstat fb\nlstat pb\npoll Bkn\nlseek fon\nmmap almmfo
mprotect alP\nmunmap al\nbrk A\nrt_sigaction SBbn\nrt_sigprocmask nBbn\nioctl fxb\npread64 fblo\npwrite64 fBlo
readv fvk\nwritev fvk\naccess pM\npipe 2\nselect nbbbt\nsched_yield\nmremap allga\nmsync alg\nmincore alb\nmadvise aln
shmget nlg\nshmat nag\nshmctl nnb\ndup f\ndup2 ff\nnanosleep tb\ngetitimer nb\nalarm n\nsetitimer neb\nsendfile ffbl
socket nnn\nconnect fBn\naccept fbb\nsendto fBlgBn\nrecvfrom fblgbb\nsendmsg fBg\nrecvmsg fbg\nshutdown fn\nbind fBn
listen fn\ngetsockname fbb\ngetpeername fbb\nsocketpair nnn2\nsetsockopt fnnBn\ngetsockopt fnnbb\nclone g\nfork\nvfork
wait4 ibgb\nkill iS\nuname b\nsemget nng\nsemop nBk\nsemctl nnnb\nshmdt a\nmsgget ng\nmsgsnd nBlg\nmsgrcv nblng\nmsgctl nnb
fcntl fnx\nflock fn\nfsync f\nfdatasync f\ntruncate po\nftruncate fo\ngetdents fbl\ngetcwd bl\nchdir p\nfchdir f\nrename pp
mkdir pM\nrmdir p\ncreat pM\nlink pp\nunlink p\nsymlink pp\nreadlink pbl\nchmod pM\nfchmod fM\nchown puu\nfchown fuu\nlchown puu
umask M\ngettimeofday bb\ngetrlimit nb\ngetrusage nb\nsysinfo b\ntimes b\nptrace nixx\nsyslog nbl\nsetuid u\nsetgid u
setpgid ii\nsetsid\nsetreuid uu\nsetregid uu\ngetgroups kb\nsetgroups kB\nsetresuid uuu\nsetresgid uuu\ngetresuid bbb
getpgid i\nsetfsuid u\nsetfsgid u\ngetsid i\ncapget bb\ncapset BB\nrt_sigpending bl\nrt_sigtimedwait Bbtn\nrt_sigqueueinfo iSB
rt_sigsuspend Bn\nsigaltstack Bb\nutime pB\nmknod pMn\npersonality g\nustat nb\nstatfs pb\nfstatfs fb\nsysfs nxb
getpriority ni\nsetpriority nin\nsched_setparam iB\nsched_getparam ib\nsched_setscheduler inB\nsched_getscheduler i
sched_rr_get_interval ib\nmlock al\nmunlock al\nmlockall g\nmunlockall\nmodify_ldt nbl\npivot_root pp\nprctl nxxxx
arch_prctl nA\nadjtimex B\nsetrlimit nB\nchroot p\nsync\nacct p\nmount sps gB\numount2 pg\nsethostname Bk\nsetdomainname Bk
gettid\nreadahead fol\nsetxattr psBlg\nlsetxattr psBlg\nfsetxattr fsBlg\ngetxattr psbl\nfgetxattr fsbl\nlistxattr pbl
removexattr ps\nfremovexattr fs\ntkill iS\nfutex anntan\nsched_setaffinity ilB\nsched_getaffinity ilb\nio_setup nb\nio_destroy x
io_getevents xnnbt\nio_submit xkB\nepoll_create n\nset_tid_address A\nremap_file_pages alPog\ngetdents64 fbl\nsemtimedop nBkt
fadvise64 foln\ntimer_create ceb\ntimer_settime ngBb\ntimer_gettime nb\ntimer_getoverrun n\ntimer_delete n\nclock_gettime cb
clock_getres cb\nclock_nanosleep cntb\nepoll_wait fbkn\nepoll_ctl fnfe\ntgkill iiS\nutimes pB\nmbind alnBng\nset_mempolicy nBn
get_mempolicy bbnAg\nmq_open sOMB\nmq_unlink s\nmq_timedsend fBlnt\nmq_timedreceive fblbt\nmq_notify fe\nmq_getsetattr fBb
waitid nibgb\nadd_key ssBln\nrequest_key sssn\nkeyctl nnbbn\nioprio_set nin\nioprio_get ni\ninotify_init\ninotify_add_watch fpg
inotify_rm_watch fn\nmigrate_pages inBB\nopenat dpOM\nmkdirat dpM\nmknodat dpMn\nfchownat dpuug\nfutimesat dpB\nnewfstatat dpbg
unlinkat dpg\nrenameat dpdp\nlinkat dpdpg\nsymlinkat pdp\nreadlinkat dpbl\nfchmodat dpM\nfaccessat dpM\npselect6 nbbbtB
ppoll BktBn\nunshare g\nset_robust_list An\nget_robust_list ibb\nsplice fbfblg\ntee ffkg\nsync_file_range folg\nvmsplice fvkg
move_pages ikBBbg\nutimensat dpBg\nepoll_pwait fbknBn\nsignalfd fBn\ntimerfd_create cg\neventfd n\nfallocate fgol
timerfd_settime fgBb\ntimerfd_gettime fb\naccept4 fbbg\nsignalfd4 fBng\neventfd2 ng\nepoll_create1 g\ndup3 ffO\npipe2 2O
inotify_init1 O\npreadv fvkoo\npwritev fvkoo\nrt_tgsigqueueinfo iiSB\nrecvmmsg fBkgt\nfanotify_init gO\nfanotify_mark fgxdp
prlimit64 inBb\nname_to_handle_at dpbbg\nopen_by_handle_at dBO\nclock_adjtime cB\nsyncfs f\nsendmmsg fBkg\nsetns fg\ngetcpu bbz
process_vm_readv ivkvkg\nprocess_vm_writev ivkvkg\nkcmp iinff\nsched_setattr iBg\nsched_getattr iblg\nrenameat2 dpdpg
seccomp ngB\ngetrandom blg\nmemfd_create sg\nexecveat dpBBg\nuserfaultfd O\nmembarrier ngn\nmlock2 alg\ncopy_file_range fbfblg
preadv2 fvkoog\npwritev2 fvkoog\npkey_mprotect alPn\npkey_alloc gn\npkey_free n\nstatx dpggb\nio_pgetevents xnnbtB\nrseq Anng
pidfd_send_signal fSBg\nio_uring_setup kB\nio_uring_enter fnngBn\nio_uring_register fnBk\nopen_tree dpg\nmove_mount dpdpg
fsopen sg\nfsconfig fnsBn\nfsmount fgg\nfspick dpg\npidfd_open ig\nclone3 Bn\nclose_range nng\nopenat2 dpBn\npidfd_getfd ffg
faccessat2 dpMg\nprocess_madvise fvkng\nepoll_pwait2 fbktB\nmount_setattr dpgBn\nquotactl_fd fnub\nlandlock_create_ruleset Bng
landlock_add_rule fnBg\nlandlock_restrict_self fg\nmemfd_secret g\nprocess_mrelease fg\nfutex_waitv Bkgtc
set_mempolicy_home_node alng\ncachestat fBbg\nfchmodat2 dpMg\nmap_shadow_stack alg\nfutex_wake axng\nfutex_wait axxgtc
futex_requeue Bgnn\nstatmount Bblg\nlistmount Bbkg\nlsm_get_self_attr nbbg\nlsm_set_self_attr nBlg\nlsm_list_modules bbg
";

/// What would end the guest itself, or stop it for longer than a program may run: `acct` on a fifo holds up every exit,
/// on Linux as well.
const NEVER: &[&str] = &[
    "acct",
    "reboot",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "swapon",
    "vhangup",
];

/// One call to try.
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Its number here.
    pub nr: i64,
    /// Its arguments.
    pub kinds: [Kind; 6],
}

/// The calls whose name contains `filter`.
pub fn calls(filter: &str) -> Vec<Call> {
    abi::nr::ALL
        .iter()
        .filter(|nr| nr.name.contains(filter) && !NEVER.contains(&nr.name))
        .filter_map(|nr| {
            let number = if cfg!(target_arch = "x86_64") { nr.x86_64 } else { nr.generic }?;
            let line = LINES.lines().find(|line| line.split(' ').next() == Some(nr.name));
            let letters = line.and_then(|line| line.split_once(' ')).map_or("", |(_, letters)| letters);
            let mut kinds = [ANY; 6];
            for (kind, letter) in kinds.iter_mut().zip(letters.bytes().filter(|byte| *byte != b' ')) {
                *kind = letter;
            }
            Some(Call { name: nr.name, nr: i64::from(number), kinds })
        })
        .collect()
}
