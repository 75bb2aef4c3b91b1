//! The types that system call arguments are declared with.

use core::fmt;

use super::SyscallArg;

/// A file descriptor argument: the register's low 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(pub i32);

/// An untyped user address. Typed ones are `mm::user::UserPtr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ptr(pub usize);

macro_rules! integers {
    ($($ty:ty),*) => {
        $(impl SyscallArg for $ty {
            #[inline]
            fn from_reg(register: usize) -> Self {
                register as $ty
            }

            fn trace(register: usize, out: &mut dyn fmt::Write) -> fmt::Result {
                write!(out, "{}", register as $ty)
            }
        })*
    };
}

integers!(i32, u32, i64, u64, isize, usize, u16);

impl SyscallArg for Fd {
    #[inline]
    fn from_reg(register: usize) -> Self {
        Self(register as i32)
    }

    fn trace(register: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}", register as i32)
    }
}

impl SyscallArg for Ptr {
    #[inline]
    fn from_reg(register: usize) -> Self {
        Self(register)
    }

    fn trace(register: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{register:#x}")
    }
}

impl<T> SyscallArg for mm::user::UserPtr<T> {
    #[inline]
    fn from_reg(register: usize) -> Self {
        Self::new(register)
    }

    fn trace(register: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}", Self::new(register))
    }
}

impl SyscallArg for mm::user::UserStr {
    #[inline]
    fn from_reg(register: usize) -> Self {
        Self::new(register)
    }

    fn trace(register: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}", Self::new(register))
    }
}

impl SyscallArg for vfs::fdtable::Fd {
    #[inline]
    fn from_reg(register: usize) -> Self {
        Self(register as u32)
    }

    fn trace(register: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}", register as i32)
    }
}

impl super::SyscallValue for vfs::fdtable::Fd {
    #[inline]
    fn into_register(self) -> isize {
        self.0 as isize
    }
}
