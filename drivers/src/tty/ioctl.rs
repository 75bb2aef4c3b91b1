//! Requests to terminals: `ioctl_tty(2)`.

use abi::raw_sys::ioctl as request;
use abi::tty::{Termio, Termios, Termios2, Winsize};
use abi::{Errno, Result};
use mm::user::UserPtr;
use zerocopy::IntoBytes;

use super::core::Tty;
use super::job::job_control;
use super::termios::cflag;

/// `tcflow(3)` arguments.
const TCOOFF: usize = 0;
const TCOON: usize = 1;
const TCIOFF: usize = 2;
const TCION: usize = 3;

/// What to do before new settings take effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Drain,
    Flush,
}

/// Handles the requests that every terminal knows. `None`: not one of them.
pub(super) fn common(tty: &Tty, cmd: u32, arg: usize) -> Option<Result<isize>> {
    Some(match cmd {
        request::TCGETS => UserPtr::<Termios>::new(arg).write(&tty.settings()).map(|()| 0),
        request::TCSETS => set(tty, arg, When::Now),
        request::TCSETSW => set(tty, arg, When::Drain),
        request::TCSETSF => set(tty, arg, When::Flush),
        request::TCGETS2 => get2(tty, arg),
        request::TCSETS2 => set2(tty, arg, When::Now),
        request::TCSETSW2 => set2(tty, arg, When::Drain),
        request::TCSETSF2 => set2(tty, arg, When::Flush),
        request::TCGETA => get_termio(tty, arg),
        request::TCSETA => set_termio(tty, arg, When::Now),
        request::TCSETAW => set_termio(tty, arg, When::Drain),
        request::TCSETAF => set_termio(tty, arg, When::Flush),
        request::TIOCGLCKTRMIOS => UserPtr::<Termios>::new(arg).write(&tty.locked_settings()).map(|()| 0),
        request::TIOCSLCKTRMIOS => lock_settings(tty, arg),
        request::TIOCGSOFTCAR => put(arg, i32::from(tty.settings().cflag & cflag::CLOCAL != 0)),
        request::TIOCSSOFTCAR => soft_carrier(tty, arg),
        request::TIOCGWINSZ => UserPtr::<Winsize>::new(arg).write(&tty.window()).map(|()| 0),
        request::TIOCSWINSZ => UserPtr::<Winsize>::new(arg).read().map(|size| {
            tty.set_window(size);
            0
        }),
        request::TCSBRK if arg == 0 => tty.check_change().and_then(|()| tty.drain()).map(|()| 0),
        request::TCSBRK | request::TCSBRKP => tty.check_change().and_then(|()| tty.drain()).map(|()| 0),
        request::TCXONC => flow(tty, arg),
        request::TCFLSH => flush(tty, arg),
        request::TIOCINQ => put(arg, tty.readable_bytes() as i32),
        request::TIOCOUTQ => put(arg, tty.unsent() as i32),
        request::TIOCEXCL => {
            tty.set_exclusive(true);
            Ok(0)
        }
        request::TIOCNXCL => {
            tty.set_exclusive(false);
            Ok(0)
        }
        request::TIOCGEXCL => put(arg, i32::from(tty.is_exclusive())),
        request::TIOCSCTTY => tty.acquire(arg == 1).map(|()| 0),
        request::TIOCNOTTY => give_up(tty),
        request::TIOCGPGRP => foreground(tty, arg),
        request::TIOCSPGRP => {
            UserPtr::<i32>::new(arg).read().and_then(|number| tty.set_foreground(number)).map(|()| 0)
        }
        request::TIOCGSID => session(tty, arg),
        request::TIOCGETD => put(arg, 0),
        request::TIOCSETD => match UserPtr::<i32>::new(arg).read() {
            Ok(0) => Ok(0),
            Ok(_) => Err(Errno::EINVAL),
            Err(error) => Err(error),
        },
        request::TIOCSTI => insert(tty, arg),
        request::TIOCGDEV => UserPtr::<u32>::new(arg).write(&tty.dev().encode()).map(|()| 0),
        _ => return None,
    })
}

fn put(arg: usize, value: i32) -> Result<isize> {
    UserPtr::<i32>::new(arg).write(&value).map(|()| 0)
}

fn set(tty: &Tty, arg: usize, when: When) -> Result<isize> {
    tty.check_change()?;
    apply(tty, UserPtr::<Termios>::new(arg).read()?, when)
}

fn get2(tty: &Tty, arg: usize) -> Result<isize> {
    let Termios { iflag, oflag, cflag, lflag, line, cc } = tty.settings();
    let speed = baud(cflag);
    let settings = Termios2 { iflag, oflag, cflag, lflag, line, cc, ispeed: speed, ospeed: speed };
    UserPtr::<Termios2>::new(arg).write(&settings)?;
    Ok(0)
}

fn set2(tty: &Tty, arg: usize, when: When) -> Result<isize> {
    tty.check_change()?;
    let Termios2 { iflag, oflag, cflag, lflag, line, cc, .. } = UserPtr::<Termios2>::new(arg).read()?;
    apply(tty, Termios { iflag, oflag, cflag, lflag, line, cc }, when)
}

fn get_termio(tty: &Tty, arg: usize) -> Result<isize> {
    let Termios { iflag, oflag, cflag, lflag, line, cc: all } = tty.settings();
    let [iflag, oflag, cflag, lflag] = [iflag, oflag, cflag, lflag].map(|flags| flags as u16);
    let mut cc = [0; 8];
    cc.iter_mut().zip(all).for_each(|(to, from)| *to = from);
    UserPtr::new(arg).write(&Termio { iflag, oflag, cflag, lflag, line, cc, pad: 0 })?;
    Ok(0)
}

fn set_termio(tty: &Tty, arg: usize, when: When) -> Result<isize> {
    tty.check_change()?;
    let new: Termio = UserPtr::new(arg).read()?;
    let mut settings = tty.settings();
    let lower = |flags: &mut u32, new: u16| *flags = *flags & 0xffff_0000 | u32::from(new);
    lower(&mut settings.iflag, new.iflag);
    lower(&mut settings.oflag, new.oflag);
    lower(&mut settings.cflag, new.cflag);
    lower(&mut settings.lflag, new.lflag);
    settings.line = new.line;
    settings.cc.iter_mut().zip(new.cc).for_each(|(to, from)| *to = from);
    apply(tty, settings, when)
}

/// `TIOCSLCKTRMIOS`: what is not zero there cannot be changed any more.
fn lock_settings(tty: &Tty, arg: usize) -> Result<isize> {
    if !job_control()?.is_admin() {
        return Err(Errno::EPERM);
    }
    tty.lock_settings(UserPtr::new(arg).read()?);
    Ok(0)
}

/// `TIOCSSOFTCAR`: whether the line's carrier does not matter.
fn soft_carrier(tty: &Tty, arg: usize) -> Result<isize> {
    tty.check_change()?;
    let wanted = UserPtr::<i32>::new(arg).read()? != 0;
    let mut settings = tty.settings();
    settings.cflag = settings.cflag & !cflag::CLOCAL | if wanted { cflag::CLOCAL } else { 0 };
    apply(tty, settings, When::Now)
}

fn apply(tty: &Tty, settings: Termios, when: When) -> Result<isize> {
    if when != When::Now {
        tty.drain()?;
    }
    tty.set_settings(settings, when == When::Flush);
    Ok(0)
}

/// The speed that `c_cflag` encodes, in bits per second.
fn baud(flags: u32) -> u32 {
    const SLOW: [u32; 16] =
        [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400];
    const FAST: [u32; 15] = [
        57600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000,
        2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
    ];
    let code = (flags & cflag::CBAUD) as usize;
    match code {
        0..16 => SLOW[code],
        _ => FAST.get((code & 0o17).wrapping_sub(1)).copied().unwrap_or(0),
    }
}

fn flow(tty: &Tty, arg: usize) -> Result<isize> {
    tty.check_change()?;
    match arg {
        TCOOFF => tty.hold(true),
        TCOON => tty.hold(false),
        // Asking the other side to stop or go on: no line here listens for it.
        TCIOFF | TCION => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn flush(tty: &Tty, arg: usize) -> Result<isize> {
    tty.check_change()?;
    match arg {
        0 => tty.flush(true, false),
        1 => tty.flush(false, true),
        2 => tty.flush(true, true),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn give_up(tty: &Tty) -> Result<isize> {
    let control = job_control()?;
    if !tty.is_controlling()? {
        return Err(Errno::ENOTTY);
    }
    let session = control.session();
    if control.is_session_leader() {
        tty.disassociate(&session);
    }
    Ok(0)
}

fn foreground(tty: &Tty, arg: usize) -> Result<isize> {
    if !tty.is_controlling()? {
        return Err(Errno::ENOTTY);
    }
    put(arg, tty.foreground().map_or(0, |group| group.number()))
}

fn session(tty: &Tty, arg: usize) -> Result<isize> {
    if !tty.is_controlling()? {
        return Err(Errno::ENOTTY);
    }
    let session = tty.session().ok_or(Errno::ENOTTY)?;
    put(arg, session.number())
}

/// `TIOCSTI`: as if the byte had been typed. Linux lets only administrators do it by default.
fn insert(tty: &Tty, arg: usize) -> Result<isize> {
    if !job_control()?.is_admin() {
        return Err(Errno::EIO);
    }
    let byte = UserPtr::<u8>::new(arg).read()?;
    tty.receive(byte.as_bytes());
    Ok(0)
}
