//! Filters of sockets: `SO_ATTACH_FILTER` and its relatives on unix sockets. `socket(7)`, "Linux Socket Filtering aka Berkeley Packet
//! Filter" of the kernel's user documentation.

use crate::prelude::*;
use crate::sys::Result as SysResult;
use crate::unix::{
    BAD, fds_in, option, pair, receive, receive_with, rights, send, send_with, set_option, socket,
};

tests![
    filter_drops_and_cuts,
    filter_reads_packets,
    filter_reads_ancillary_data,
    filter_of_sequenced_packets,
    filter_is_not_for_streams,
    filter_errors,
    filter_is_detached,
    filter_is_locked,
    filter_is_shown,
    filter_and_files,
    filters_of_groups,
    filter_of_the_other_kind,
    levels_of_options,
];

const SO_ATTACH_FILTER: i32 = 26;
const SO_DETACH_FILTER: i32 = 27;
const SO_LOCK_FILTER: i32 = 44;
const SO_BPF_EXTENSIONS: i32 = 48;
const SO_ATTACH_BPF: i32 = 50;
const SO_ATTACH_REUSEPORT_CBPF: i32 = 51;
const SO_ATTACH_REUSEPORT_EBPF: i32 = 52;
const SO_DETACH_REUSEPORT_BPF: i32 = 68;

type Insn = (u16, u8, u8, u32);

#[repr(C)]
struct Program {
    len: u16,
    insns: usize,
}

const RET_K: u16 = 0x06;
const RET_A: u16 = 0x16;
const LD_B_ABS: u16 = 0x30;
const LD_H_ABS: u16 = 0x28;
const LD_W_ABS: u16 = 0x20;
const LD_B_IND: u16 = 0x50;
const LD_LEN: u16 = 0x80;
const LD_IMM: u16 = 0x00;
const LDX_IMM: u16 = 0x01;
const LDX_MSH: u16 = 0xb1;
const JEQ: u16 = 0x15;
const TXA: u16 = 0x87;
const AD: u32 = 0xffff_f000;
const ALL: u32 = 0xffff_ffff;

fn bytes_of(insns: &[Insn]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, jt, jf, k) in insns {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([*jt, *jf]);
        bytes.extend(k.to_ne_bytes());
    }
    bytes
}

fn attach_as(fd: i32, name: i32, insns: &[Insn]) -> SysResult<usize> {
    let bytes = bytes_of(insns);
    let program = Program { len: insns.len() as u16, insns: bytes.as_ptr() as usize };
    sys!(SYS_setsockopt, fd, SOL_SOCKET, name, addr(&program), 16)
}

fn attach(fd: i32, insns: &[Insn]) -> SysResult<usize> {
    attach_as(fd, SO_ATTACH_FILTER, insns)
}

/// What comes through of `bytes`; `None`: nothing.
fn through(ends: [i32; 2], bytes: &[u8]) -> SysResult<Option<Vec<u8>>> {
    if send(ends[0], bytes, 0)? != bytes.len() {
        return Err(Errno(EIO));
    }
    match receive(ends[1], 100, MSG_DONTWAIT) {
        Ok(data) => Ok(Some(data)),
        Err(Errno(EAGAIN)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a program that ends with A returns for `bytes`: as many of them as come through.
fn value(insns: &[Insn], bytes: &[u8]) -> SysResult<usize> {
    let ends = pair(SOCK_DGRAM)?;
    let mut insns = insns.to_vec();
    insns.push((RET_A, 0, 0, 0));
    attach(ends[1], &insns)?;
    let length = through(ends, bytes)?.map_or(0, |data| data.len());
    close(ends[0])?;
    close(ends[1])?;
    Ok(length)
}

fn filter_drops_and_cuts() -> Outcome {
    let ends = pair(SOCK_DGRAM)?;
    attach(ends[1], &[(RET_K, 0, 0, 0)])?;
    check_eq!(through(ends, b"hello")?, None);
    // More than there is room for: what is dropped does not wait.
    for _ in 0..50 {
        check_eq!(send(ends[0], &[7; 8000], MSG_DONTWAIT)?, 8000);
    }
    attach(ends[1], &[(RET_K, 0, 0, 3)])?;
    check_eq!(through(ends, b"hello")?, Some(b"hel".to_vec()));
    check_eq!(through(ends, b"hi")?, Some(b"hi".to_vec()));
    check_eq!(through(ends, b"")?, Some(b"".to_vec()));
    attach(ends[1], &[(RET_K, 0, 0, ALL)])?;
    check_eq!(through(ends, b"hello")?, Some(b"hello".to_vec()));
    // The other direction has no filter.
    check_eq!(through([ends[1], ends[0]], b"hello")?, Some(b"hello".to_vec()));
    Ok(())
}

fn filter_reads_packets() -> Outcome {
    let ends = pair(SOCK_DGRAM)?;
    attach(ends[1], &[(LD_B_ABS, 0, 0, 0), (JEQ, 0, 1, b'y'.into()), (RET_K, 0, 0, ALL), (RET_K, 0, 0, 0)])?;
    check_eq!(through(ends, b"yes")?, Some(b"yes".to_vec()));
    check_eq!(through(ends, b"no")?, None);
    // A load outside ends the program, and with it the packet.
    check_eq!(through(ends, b"")?, None);
    let long = [0_u8, 0, 0, 9, 0, 5, 0x42, 0, 0, 0, 0, 0];
    check_eq!(value(&[(LD_W_ABS, 0, 0, 0)], &long)?, 9);
    check_eq!(value(&[(LD_H_ABS, 0, 0, 4)], &long)?, 5);
    check_eq!(value(&[(LDX_IMM, 0, 0, 2), (LD_B_IND, 0, 0, 1)], &long)?, 9);
    check_eq!(value(&[(LDX_MSH, 0, 0, 6), (TXA, 0, 0, 0)], &long)?, 8);
    check_eq!(value(&[(LD_LEN, 0, 0, 0)], &long)?, 12);
    check_eq!(value(&[(LD_W_ABS, 0, 0, 9)], &long)?, 0);
    check_eq!(value(&[(LD_W_ABS, 0, 0, 8), (LD_IMM, 0, 0, 2)], &long)?, 2);
    check_eq!(value(&[(LDX_IMM, 0, 0, ALL), (LD_B_IND, 0, 0, 4)], &long)?, 9);
    // From the network header on, which is where the data begin; there is no link layer.
    check_eq!(value(&[(LD_B_ABS, 0, 0, 0xfff0_0003)], &long)?, 9);
    check_eq!(value(&[(LD_B_ABS, 0, 0, 0xffe0_0003)], &long)?, 0);
    Ok(())
}

fn filter_reads_ancillary_data() -> Outcome {
    let data = [0_u8; 100];
    // Protocol, packet type, mark, queue, hash, tags, payload offset: nothing.
    for offset in [0, 4, 20, 24, 32, 44, 48, 52, 60] {
        let program = [(LD_W_ABS, 0, 0, AD + offset), (0x04, 0, 0, 2)];
        check_eq!((offset, value(&program, &data)?), (offset, 2));
    }
    // Index and type of a device: there is none, which ends the program.
    for offset in [8, 28] {
        let program = [(LD_W_ABS, 0, 0, AD + offset), (LD_IMM, 0, 0, 2)];
        check_eq!((offset, value(&program, &data)?), (offset, 0));
    }
    // The processor, of not more than 64 here.
    check!((1..=64).contains(&value(&[(LD_W_ABS, 0, 0, AD + 36), (0x04, 0, 0, 1)], &data)?));
    // A random number: not the same all the time.
    let random = [(LD_W_ABS, 0, 0, AD + 56), (0x54, 0, 0, 63), (0x04, 0, 0, 1)];
    let seen: Vec<usize> = (0..20).map(|_| value(&random, &data)).collect::<SysResult<_>>()?;
    check!(seen.iter().any(|number| *number != seen[0]));
    // A becomes A xor X.
    check_eq!(value(&[(LDX_IMM, 0, 0, 5), (LD_IMM, 0, 0, 3), (LD_W_ABS, 0, 0, AD + 40)], &data)?, 6);
    // Attributes of netlink: the offset of the one whose type is in X, from the offset in A on.
    let attributes = [8_u16, 1, 0, 0, 8, 2, 0, 0, 8, 3, 0, 0].map(u16::to_ne_bytes).concat();
    let find = |from: u32, kind: u32| {
        value(&[(LDX_IMM, 0, 0, kind), (LD_IMM, 0, 0, from), (LD_W_ABS, 0, 0, AD + 12)], &attributes)
    };
    check_eq!(find(0, 2)?, 8);
    check_eq!(find(0, 3)?, 16);
    check_eq!(find(8, 3)?, 16);
    check_eq!(find(0, 4)?, 0);
    check_eq!(find(16, 2)?, 0);
    check_eq!(find(21, 2)?, 0);
    check_eq!(find(1000, 2)?, 0);
    // One inside another.
    let nested = [16_u16, 1, 8, 2, 0, 0, 4, 3].map(u16::to_ne_bytes).concat();
    let within = |at: u32, kind: u32| {
        value(&[(LDX_IMM, 0, 0, kind), (LD_IMM, 0, 0, at), (LD_W_ABS, 0, 0, AD + 16)], &nested)
    };
    check_eq!(within(0, 2)?, 4);
    check_eq!(within(0, 3)?, 12);
    check_eq!(within(0, 4)?, 0);
    check_eq!(within(4, 3)?, 0);
    check_eq!(within(13, 3)?, 0);
    Ok(())
}

fn filter_of_sequenced_packets() -> Outcome {
    let ends = pair(SOCK_SEQPACKET)?;
    attach(ends[1], &[(LD_B_ABS, 0, 0, 0), (JEQ, 0, 1, b'y'.into()), (RET_K, 0, 0, 2), (RET_K, 0, 0, 0)])?;
    check_eq!(through(ends, b"no")?, None);
    check_eq!(through(ends, b"yes")?, Some(b"ye".to_vec()));
    Ok(())
}

fn filter_is_not_for_streams() -> Outcome {
    let ends = pair(SOCK_STREAM)?;
    attach(ends[1], &[(RET_K, 0, 0, 0)])?;
    check_eq!(through(ends, b"hello")?, Some(b"hello".to_vec()));
    sys!(SYS_setsockopt, ends[1], SOL_SOCKET, SO_DETACH_FILTER, addr(&0_i32), 4)?;
    Ok(())
}

fn filter_errors() -> Outcome {
    let fd = socket(SOCK_DGRAM)?;
    let good = bytes_of(&[(RET_K, 0, 0, 1)]);
    let program = Program { len: 1, insns: good.as_ptr() as usize };
    for len in [0_i32, 4, 15, 17, -1] {
        check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, addr(&program), len), EINVAL);
    }
    check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, BAD, 16), EFAULT);
    let with = |len: u16, insns: usize| {
        let program = Program { len, insns };
        sys!(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, addr(&program), 16)
    };
    check_err!(with(0, good.as_ptr() as usize), EINVAL);
    check_err!(with(4097, good.as_ptr() as usize), EINVAL);
    check_err!(with(1, 0), EINVAL);
    check_err!(with(1, BAD), EFAULT);
    let bad: [&[Insn]; 9] = [
        &[(LD_LEN, 0, 0, 0)],
        &[(0xffff, 0, 0, 0), (RET_K, 0, 0, 0)],
        &[(JEQ, 1, 0, 0), (RET_K, 0, 0, 0)],
        &[(0x05, 0, 0, 1), (RET_K, 0, 0, 0)],
        &[(0x34, 0, 0, 0), (RET_K, 0, 0, 0)],
        &[(0x60, 0, 0, 0), (RET_K, 0, 0, 0)],
        &[(0x02, 0, 0, 16), (RET_K, 0, 0, 0)],
        &[(LD_W_ABS, 0, 0, AD + 64), (RET_K, 0, 0, 0)],
        &[(LD_W_ABS, 0, 0, AD + 2), (RET_K, 0, 0, 0)],
    ];
    for (index, insns) in bad.iter().enumerate() {
        check_eq!((index, attach(fd, insns)), (index, Err(Errno(EINVAL))));
    }
    // The longest.
    let mut longest = vec![(LD_LEN, 0, 0, 0); 4096];
    longest[4095] = (RET_K, 0, 0, 1);
    attach(fd, &longest)?;
    check_eq!(option(fd, SO_BPF_EXTENSIONS)?, 64);
    check_err!(set_option(fd, SO_BPF_EXTENSIONS, 1), ENOPROTOOPT);
    Ok(())
}

fn filter_is_detached() -> Outcome {
    let ends = pair(SOCK_DGRAM)?;
    check_err!(set_option(ends[1], SO_DETACH_FILTER, 0), ENOENT);
    attach(ends[1], &[(RET_K, 0, 0, 0)])?;
    // One that is refused leaves the old one.
    check_err!(attach(ends[1], &[(LD_LEN, 0, 0, 0)]), EINVAL);
    check_eq!(through(ends, b"x")?, None);
    check_err!(sys!(SYS_setsockopt, ends[1], SOL_SOCKET, SO_DETACH_FILTER, addr(&0_i32), 3), EINVAL);
    set_option(ends[1], SO_DETACH_FILTER, 0)?;
    check_eq!(through(ends, b"x")?, Some(b"x".to_vec()));
    check_err!(set_option(ends[1], SO_DETACH_FILTER, 0), ENOENT);
    Ok(())
}

fn filter_is_locked() -> Outcome {
    let ends = pair(SOCK_DGRAM)?;
    check_eq!(option(ends[1], SO_LOCK_FILTER)?, 0);
    attach(ends[1], &[(RET_K, 0, 0, 0)])?;
    set_option(ends[1], SO_LOCK_FILTER, 0)?;
    set_option(ends[1], SO_LOCK_FILTER, 5)?;
    check_eq!(option(ends[1], SO_LOCK_FILTER)?, 1);
    set_option(ends[1], SO_LOCK_FILTER, 1)?;
    check_err!(set_option(ends[1], SO_LOCK_FILTER, 0), EPERM);
    check_err!(attach(ends[1], &[(RET_K, 0, 0, 1)]), EPERM);
    check_err!(attach(ends[1], &[(LD_LEN, 0, 0, 0)]), EPERM);
    check_err!(set_option(ends[1], SO_DETACH_FILTER, 0), EPERM);
    check_err!(attach_as(ends[1], SO_ATTACH_REUSEPORT_CBPF, &[(RET_K, 0, 0, 1)]), EPERM);
    check_err!(set_option(ends[1], SO_ATTACH_BPF, 9999), EPERM);
    check_err!(set_option(ends[1], SO_ATTACH_REUSEPORT_EBPF, 9999), EPERM);
    check_eq!(through(ends, b"x")?, None);
    Ok(())
}

fn filter_is_shown() -> Outcome {
    let fd = socket(SOCK_DGRAM)?;
    let shown = |room: i32| -> SysResult<(Vec<u8>, i32)> {
        let (mut buffer, mut len) = (vec![0xee_u8; 64], room);
        let place = buffer.as_mut_ptr();
        sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, place, addr_mut(&mut len))?;
        Ok((buffer, len))
    };
    check_eq!(shown(64)?.1, 0);
    let program = [(LD_B_ABS, 0, 0, 7), (JEQ, 0, 1, 9), (RET_K, 0, 0, 5), (RET_K, 0, 0, 0)];
    attach(fd, &program)?;
    // The length is one of instructions, whatever the unit of the room.
    check_eq!(shown(0)?, (vec![0xee; 64], 4));
    check_err!(shown(3), EINVAL);
    let (buffer, len) = shown(4)?;
    check_eq!((&buffer[..32], len), (&bytes_of(&program)[..], 4));
    check_eq!(buffer[32..], [0xee; 32]);
    check_eq!(shown(64)?.1, 4);
    let mut len = 4_i32;
    check_err!(sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, BAD, addr_mut(&mut len)), EFAULT);
    Ok(())
}

fn filter_and_files() -> Outcome {
    let ends = pair(SOCK_DGRAM)?;
    let [reader, writer] = pipe(0)?;
    // What is dropped takes its files with it.
    attach(ends[1], &[(RET_K, 0, 0, 0)])?;
    send_with(ends[0], b"x", &rights(&[writer]), 0)?;
    close(writer)?;
    check_eq!(read_vec(reader, 1)?, b"");
    // What is cut keeps them.
    attach(ends[1], &[(RET_K, 0, 0, 2)])?;
    send_with(ends[0], b"hello", &rights(&[reader]), 0)?;
    let message = receive_with(ends[1], 10, 64, 0)?;
    check_eq!((message.data.as_slice(), fds_in(&message).len()), (&b"he"[..], 1));
    check_eq!(message.flags & MSG_TRUNC, 0);
    Ok(())
}

fn filters_of_groups() -> Outcome {
    let fd = socket(SOCK_DGRAM)?;
    check_err!(attach_as(fd, SO_ATTACH_REUSEPORT_CBPF, &[(RET_K, 0, 0, 0)]), EINVAL);
    check_err!(attach_as(fd, SO_ATTACH_REUSEPORT_CBPF, &[(LD_LEN, 0, 0, 0)]), EINVAL);
    check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, BAD, 16), EFAULT);
    check_err!(set_option(fd, SO_DETACH_REUSEPORT_BPF, 0), EINVAL);
    check_err!(set_option(fd, SO_REUSEPORT, 1), EOPNOTSUPP);
    set_option(fd, SO_REUSEPORT, 0)?;
    check_eq!(option(fd, SO_REUSEPORT)?, 0);
    Ok(())
}

fn filter_of_the_other_kind() -> Outcome {
    let fd = socket(SOCK_DGRAM)?;
    for name in [SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF] {
        check_err!(set_option(fd, name, 9999), EBADF);
        check_err!(set_option(fd, name, -1), EBADF);
        check_err!(set_option(fd, name, fd), EINVAL);
        check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, name, BAD, 4), EFAULT);
        check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, name, addr(&0_u64), 8), EINVAL);
        let (mut value, mut len) = (0_i32, 4_i32);
        check_err!(
            sys!(SYS_getsockopt, fd, SOL_SOCKET, name, addr_mut(&mut value), addr_mut(&mut len)),
            ENOPROTOOPT
        );
    }
    Ok(())
}

fn levels_of_options() -> Outcome {
    let fd = socket(SOCK_STREAM)?;
    // IP, TCP, IPv6, netlink, packets, TLS, and none.
    for level in [0, 6, 41, 270, 263, 282, 999, -1] {
        let (mut value, mut len) = (0_i32, 4_i32);
        let get = sys!(SYS_getsockopt, fd, level, 1, addr_mut(&mut value), addr_mut(&mut len));
        check_eq!((level, get), (level, Err(Errno(EOPNOTSUPP))));
        let set = sys!(SYS_setsockopt, fd, level, 1, addr(&value), 4);
        check_eq!((level, set), (level, Err(Errno(EOPNOTSUPP))));
        // The level is looked at first.
        check_err!(sys!(SYS_getsockopt, fd, level, 1, BAD, BAD), EOPNOTSUPP);
        check_err!(sys!(SYS_setsockopt, fd, level, 1, BAD, 4), EOPNOTSUPP);
        check_err!(sys!(SYS_setsockopt, fd, level, 1, addr(&value), -1_i32), EINVAL);
    }
    check_err!(sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, BAD, BAD), EFAULT);
    Ok(())
}
