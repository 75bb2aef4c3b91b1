use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use abi::Errno;

use super::*;
use crate::bio::{Bio, OpFlags};
use crate::limits::Limits;
use crate::testing::{Machine, Manners, Waiter, page};
use crate::{Op, Shape, Status};

const SECTORS: u64 = 4096;

#[derive(Default)]
struct Ops {
    opens: AtomicUsize,
    closes: AtomicUsize,
    lasts: AtomicUsize,
}

impl DiskOps for Ops {
    fn open(&self, _: &Disk, _: Access) -> abi::Result<()> {
        self.opens.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn release(&self, _: &Disk, last: bool) -> After {
        self.closes.fetch_add(1, Ordering::SeqCst);
        self.lasts.fetch_add(usize::from(last), Ordering::SeqCst);
        After::Nothing
    }
}

struct Rig {
    machine: Machine,
    disk: Arc<Disk>,
    ops: Arc<Ops>,
}

impl Rig {
    fn new(name: &str, limits: Limits) -> Self {
        let manners = Manners { room: 100, ..Manners::default() };
        let machine = Machine::new(SECTORS, Shape::default(), limits, manners);
        let ops = Arc::new(Ops::default());
        let spec = Spec {
            name: name.into(),
            numbers: Numbers::Extended,
            parent: None,
            removable: false,
            partitions: true,
            ops: ops.clone(),
        };
        let disk = Disk::new(spec, machine.queue.clone()).unwrap();
        disk.set_capacity(SECTORS);
        Self { machine, disk, ops }
    }

    fn added(name: &str, limits: Limits) -> Self {
        let rig = Self::new(name, limits);
        rig.disk.add().unwrap();
        rig
    }

    fn whole(&self) -> Arc<BlockDevice> {
        self.disk.whole().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.disk.remove(Removal::Orderly);
    }
}

/// A master boot record with two primary partitions.
fn mbr(parts: &[(u32, u32)]) -> Vec<u8> {
    let mut sector = vec![0; 512];
    for (n, (start, sectors)) in parts.iter().enumerate() {
        let at = 446 + n * 16;
        sector[at + 4] = 0x83;
        sector[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        sector[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[test]
fn names_go_on_after_z() {
    for (index, name) in [(0, "vda"), (25, "vdz"), (26, "vdaa"), (701, "vdzz"), (702, "vdaaa")] {
        assert_eq!(letters("vd", index).unwrap(), name);
    }
}

#[test]
fn partitions_are_found_and_are_where_they_are() {
    let rig = Rig::added("ta", Limits::default());
    let whole = rig.whole();
    whole.write_bytes(0, &mbr(&[(64, 100), (1024, 2048)])).unwrap();
    rig.disk.rescan().unwrap();
    let second = by_name("ta2").unwrap();
    assert_eq!((second.start(), second.sectors(), second.partition()), (1024, 2048, Some(2)));
    assert!(Arc::ptr_eq(&by_number(second.dev()).unwrap(), &second));
    assert_eq!(second.dev().major, BLKEXT_MAJOR);
    let bytes: Vec<u8> = (0..70000u32 / 512 * 512).map(|n| (n / 7) as u8).collect();
    second.write_bytes(1024, &bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    whole.read_bytes((1024 << 9) + 1024, &mut back).unwrap();
    assert!(back == bytes);
    // Both are counted for the disk, one for the partition.
    let (part, all) = (second.stats().totals(), whole.stats().totals());
    assert_eq!((part.sectors[1], part.sectors[0]), (bytes.len() as u64 / 512, 0));
    assert!(all.sectors[1] > part.sectors[1] && all.sectors[0] >= part.sectors[1]);
    assert_eq!(all.in_flight, [0, 0]);
}

#[test]
fn nothing_goes_beyond_the_end() {
    let rig = Rig::added("tb", Limits::default());
    rig.disk.add_partition(1, 8, 16).unwrap();
    let part = rig.disk.partition(1).unwrap();
    let mut bytes = [0; 512];
    assert!(part.read_bytes(15 * 512, &mut bytes).is_ok());
    assert_eq!(part.read_bytes(16 * 512, &mut bytes), Err(Errno::EIO));
    assert_eq!(part.read_bytes(15 * 512, &mut [0; 1024]), Err(Errno::EIO));
    assert_eq!(part.read_bytes(100, &mut bytes), Err(Errno::EIO));
    assert_eq!(part.discard(0, 8), Err(Errno::EOPNOTSUPP));
    // A huge sector number does not wrap.
    let waiter = Waiter::new();
    let bio = crate::testing::bio(Op::Write, OpFlags::empty(), u64::MAX - 3, 4, &page(1), &waiter);
    part.submit(bio, None);
    assert_eq!(waiter.take().status, Status::IoError);
    part.set_read_only(true);
    assert_eq!(part.write_zeroes(0, 8, Zeroing::default()), Err(Errno::EPERM));
    assert!(!rig.whole().is_read_only());
    rig.disk.set_read_only(true);
    assert!(rig.whole().is_read_only());
}

#[test]
fn zeroes_are_written_if_there_is_no_command_for_it() {
    for most in [0, 64] {
        let limits =
            Limits { max_write_zeroes_sectors: most, max_discard_sectors: most, ..Limits::default() };
        let rig = Rig::added("tc", limits);
        let whole = rig.whole();
        whole.write_bytes(0, &vec![7; 2 << 20]).unwrap();
        assert_eq!(whole.write_zeroes(3, 0, Zeroing::default()), Err(Errno::EINVAL));
        whole.write_zeroes(3, 3000, Zeroing::default()).unwrap();
        let mut bytes = vec![1; 2 << 20];
        whole.read_bytes(0, &mut bytes).unwrap();
        let zero = |n: usize| (3 * 512..3003 * 512).contains(&n);
        assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == if zero(n) { 0 } else { 7 }));
        let only = Zeroing { no_fallback: true, ..Zeroing::default() };
        let expected = if most == 0 { Err(Errno::EOPNOTSUPP) } else { Ok(()) };
        assert_eq!(whole.write_zeroes(0, 8, only), expected);
        assert_eq!(whole.discard(0, 8), expected);
    }
}

#[test]
fn only_one_has_a_device_for_itself() {
    let rig = Rig::added("td", Limits::default());
    rig.disk.add_partition(1, 8, 16).unwrap();
    rig.disk.add_partition(2, 32, 16).unwrap();
    let (whole, one, two) = (rig.whole(), rig.disk.partition(1).unwrap(), rig.disk.partition(2).unwrap());
    let (a, b) = (HolderId::new(), HolderId::new());
    let open = |device: &Arc<BlockDevice>, id| device.open(Access::default(), Some(Claim::new(id)));
    let first = open(&one, a).unwrap();
    assert_eq!(open(&one, b).err(), Some(Errno::EBUSY));
    assert_eq!(open(&whole, a).err(), Some(Errno::EBUSY), "a partition is claimed");
    let again = open(&one, a).unwrap();
    let other = open(&two, b).unwrap();
    assert!(one.open(Access::default(), None).is_ok());
    drop(first);
    assert_eq!(open(&one, b).err(), Some(Errno::EBUSY), "once is left");
    drop((again, other));
    let all = open(&whole, a).unwrap();
    assert_eq!(open(&one, b).err(), Some(Errno::EBUSY), "the whole is claimed");
    drop(all);
    assert!(open(&one, b).is_ok());
    assert_eq!((whole.openers(), one.openers(), one.claimed_by()), (0, 0, None));
    assert_eq!(rig.ops.opens.load(Ordering::SeqCst), rig.ops.closes.load(Ordering::SeqCst));
    assert!(rig.ops.lasts.load(Ordering::SeqCst) >= 3);
}

#[test]
fn partitions_that_are_open_stay() {
    let rig = Rig::added("te0", Limits::default());
    let disk = &rig.disk;
    disk.add_partition(1, 8, 16).unwrap();
    assert_eq!(disk.partition(1).unwrap().name(), "te0p1");
    assert_eq!(disk.add_partition(1, 100, 16), Err(Errno::EBUSY));
    assert_eq!(disk.add_partition(2, 23, 16), Err(Errno::EBUSY), "overlaps");
    assert_eq!(disk.add_partition(2, SECTORS - 1, 2), Err(Errno::EINVAL));
    assert_eq!(disk.add_partition(2, u64::MAX, 2), Err(Errno::EINVAL));
    assert_eq!(disk.add_partition(256, 100, 2), Err(Errno::EINVAL));
    disk.add_partition(2, 24, 16).unwrap();
    assert_eq!(disk.resize_partition(1, 8, 17), Err(Errno::EBUSY));
    assert_eq!(disk.resize_partition(1, 9, 8), Err(Errno::EINVAL));
    disk.resize_partition(1, 8, 8).unwrap();
    assert_eq!(disk.partition(1).unwrap().sectors(), 8);
    let open = disk.partition(1).unwrap().open(Access::default(), None).unwrap();
    assert_eq!(disk.remove_partition(1), Err(Errno::EBUSY));
    assert_eq!(disk.rescan(), Err(Errno::EBUSY));
    drop(open);
    disk.remove_partition(1).unwrap();
    assert_eq!(disk.remove_partition(1), Err(Errno::ENXIO));
    let gone = disk.partition(2).unwrap();
    disk.rescan().unwrap();
    assert!(disk.partition(2).is_none() && by_name("te0p2").is_none());
    assert_eq!(gone.open(Access::default(), None).err(), Some(Errno::ENXIO));
}

#[test]
fn what_is_removed_fails_and_harms_nobody() {
    struct Mount(AtomicUsize);
    impl Holder for Mount {
        fn device_gone(&self, _: &BlockDevice) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    for how in [Removal::Surprise, Removal::Orderly] {
        let rig = Rig::added("tf", Limits::default());
        let whole = rig.whole();
        let mount = Arc::new(Mount(AtomicUsize::new(0)));
        let holder: std::sync::Weak<dyn Holder> = Arc::downgrade(&(mount.clone() as Arc<dyn Holder>));
        let claim = Claim { id: HolderId::new(), holder: Some(holder) };
        let open = whole.open(Access { read: true, write: true }, Some(claim)).unwrap();
        assert!(Rig::new("tf", Limits::default()).disk.add() == Err(Errno::EBUSY), "the name is taken");
        rig.disk.remove(how);
        assert_eq!(mount.0.load(Ordering::SeqCst), 1);
        assert!(by_name("tf").is_none() && by_number(whole.dev()).is_none());
        assert_eq!((whole.sectors(), whole.read_bytes(0, &mut [0; 512])), (0, Err(Errno::EIO)));
        let waiter = Waiter::new();
        whole.submit(Bio::without_data(Op::Flush, OpFlags::empty(), 0, 0, waiter.end()).unwrap(), None);
        assert_eq!(waiter.take().status, Status::Offline);
        assert_eq!(whole.open(Access::default(), None).err(), Some(Errno::ENXIO));
        drop(open);
        rig.disk.remove(how);
        let next = Rig::added("tf", Limits::default());
        assert_ne!(next.whole().dev(), whole.dev(), "the number is not free yet");
        assert!(next.disk.sequence() > rig.disk.sequence());
        assert!(rig.machine.queue.in_flight() == 0);
    }
}

#[test]
fn majors_come_from_the_top() {
    let first = register_major("one", 0).unwrap();
    let second = register_major("two", 0).unwrap();
    assert!(first <= 254 && second < first);
    assert_eq!(register_major("again", first), Err(Errno::EBUSY));
    assert!(majors().unwrap().windows(2).all(|pair| pair[0].0 < pair[1].0));
}
