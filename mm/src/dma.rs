//! Memory that devices read and write, as safe types.
//!
//! [`Coherent`] is shared with the device for its whole life: rings, descriptors, mailboxes. Its elements are read and written whole, with
//! volatile accesses, and never borrowed. [`Stream`] is a buffer that belongs either to the driver or to the device, and which of them is
//! its type: [`Stream::start`] moves it to the device ([`InFlight`]), [`InFlight::finish`] back.
//!
//! Device addresses are physical addresses (no IOMMU), and all supported machines keep DMA coherent with the caches.

use crate::folio::Frame;
use crate::gfp::{Gfp, Order, OutOfMemory};
use crate::page_alloc::alloc_pages;
use core::marker::PhantomData;
use core::sync::atomic::{Ordering, fence};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// An address as the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceAddr(pub u64);

/// What a device can address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All memory.
    Full,
    /// Below 4 GiB.
    Low4G,
    /// Below 16 MiB.
    Low16M,
}

impl Reach {
    fn gfp(self) -> Gfp {
        match self {
            Reach::Full => Gfp::KERNEL,
            Reach::Low4G => Gfp::KERNEL | Gfp::DMA32,
            Reach::Low16M => Gfp::KERNEL | Gfp::DMA,
        }
    }
}

/// An array shared with a device.
#[derive(Debug)]
pub struct Coherent<T: FromBytes + IntoBytes + Immutable + Copy> {
    frame: Frame,
    len: usize,
    _type: PhantomData<T>,
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> Coherent<T> {
    /// `len` zeroed elements, contiguous and page-aligned.
    pub fn new(len: usize, reach: Reach) -> Result<Self, OutOfMemory> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(OutOfMemory)?;
        let order = Order::for_size(bytes).ok_or(OutOfMemory)?;
        let frame = alloc_pages(reach.gfp() | Gfp::ZERO, order)?;
        Ok(Self { frame, len, _type: PhantomData })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the device finds element 0.
    pub fn device_addr(&self) -> DeviceAddr {
        DeviceAddr(self.frame.phys().0)
    }

    fn slot(&self, index: usize) -> Option<*mut T> {
        (index < self.len).then(|| self.frame.as_ptr().cast::<T>().wrapping_add(index))
    }

    /// Reads an element; `None` beyond the end.
    #[inline]
    pub fn read(&self, index: usize) -> Option<T> {
        // SAFETY: inside the frame, aligned (the frame is page-aligned, and a page is a multiple of any `T`'s alignment); any bytes
        // are a `T`. The device may write at the same time: hence volatile.
        self.slot(index).map(|slot| unsafe { slot.read_volatile() })
    }

    /// Writes an element; false beyond the end.
    #[inline]
    pub fn write(&self, index: usize, value: T) -> bool {
        // SAFETY: as for `read`.
        self.slot(index).map(|slot| unsafe { slot.write_volatile(value) }).is_some()
    }
}

// SAFETY: elements are only accessed whole and volatile; what two CPUs do to one of them is the driver's protocol.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Copy + Send> Sync for Coherent<T> {}

/// Everything written before is visible to the device before what is written after.
#[inline]
pub fn write_barrier() {
    fence(Ordering::SeqCst);
}

/// Everything read before is read before what is read after.
#[inline]
pub fn read_barrier() {
    fence(Ordering::SeqCst);
}

/// A buffer in the driver's hands.
#[derive(Debug)]
pub struct Stream {
    frame: Frame,
    len: usize,
}

/// A buffer in the device's hands. Dropping it leaks the memory rather than let the device write into what is somebody
/// else's by then.
#[derive(Debug)]
#[must_use]
pub struct InFlight {
    stream: core::mem::ManuallyDrop<Stream>,
}

impl Stream {
    /// `len` zeroed bytes, contiguous and page-aligned.
    pub fn new(len: usize, reach: Reach) -> Result<Self, OutOfMemory> {
        let order = Order::for_size(len).ok_or(OutOfMemory)?;
        Ok(Self { frame: alloc_pages(reach.gfp() | Gfp::ZERO, order)?, len })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.frame.bytes().get(..self.len).unwrap_or(&[])
    }

    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.frame.bytes_mut().get_mut(..self.len).unwrap_or(&mut [])
    }

    /// Hands the buffer to the device; the address is for its descriptor.
    pub fn start(self) -> (InFlight, DeviceAddr) {
        write_barrier();
        let address = DeviceAddr(self.frame.phys().0);
        (InFlight { stream: core::mem::ManuallyDrop::new(self) }, address)
    }
}

impl InFlight {
    /// The device is done with it.
    pub fn finish(self) -> Stream {
        read_barrier();
        core::mem::ManuallyDrop::into_inner(self.stream)
    }
}
