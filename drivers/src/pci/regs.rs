//! Registers of configuration space and bits in them: PCI Local Bus Specification 3.0, chapter 6; PCI Express Base
//! Specification 5.0, chapter 7.

/// Vendor; all ones where there is no device.
pub const VENDOR: u16 = 0x00;
/// Device.
pub const DEVICE: u16 = 0x02;
/// What the device may do.
pub const COMMAND: u16 = 0x04;
/// What it says.
pub const STATUS: u16 = 0x06;
/// Revision, with the class in the upper 24 bits.
pub const REVISION: u16 = 0x08;
/// Layout of the rest; bit 7: more functions.
pub const HEADER_TYPE: u16 = 0x0e;
/// The first address.
pub const BAR0: u16 = 0x10;
/// Subsystem vendor.
pub const SUBSYSTEM_VENDOR: u16 = 0x2c;
/// Subsystem.
pub const SUBSYSTEM: u16 = 0x2e;
/// Address of the expansion ROM.
pub const ROM: u16 = 0x30;
/// The first capability.
pub const CAPABILITIES: u16 = 0x34;
/// The line that firmware routed it to.
pub const INTERRUPT_LINE: u16 = 0x3c;
/// The pin it uses: 1 to 4, or 0.
pub const INTERRUPT_PIN: u16 = 0x3d;

/// Of a bridge: the bus above it, below it, and the last one below it.
pub const PRIMARY_BUS: u16 = 0x18;
/// See there.
pub const SECONDARY_BUS: u16 = 0x19;
/// See there.
pub const SUBORDINATE_BUS: u16 = 0x1a;
/// Ports that it lets through: base and limit.
pub const IO_BASE: u16 = 0x1c;
/// Memory.
pub const MEMORY_BASE: u16 = 0x20;
/// Memory without side effects.
pub const PREFETCH_BASE: u16 = 0x24;
/// Upper halves.
pub const PREFETCH_BASE_UPPER: u16 = 0x28;
/// See there.
pub const PREFETCH_LIMIT_UPPER: u16 = 0x2c;
/// Upper halves of ports.
pub const IO_BASE_UPPER: u16 = 0x30;
/// ROM of a bridge.
pub const BRIDGE_ROM: u16 = 0x38;

/// [`COMMAND`]: answers at ports.
pub const COMMAND_IO: u16 = 1 << 0;
/// Answers at memory addresses.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// May reach memory itself, which includes messages.
pub const COMMAND_MASTER: u16 = 1 << 2;
/// Does not use its interrupt line.
pub const COMMAND_NO_LINE: u16 = 1 << 10;
/// [`STATUS`]: there are capabilities.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;

/// [`HEADER_TYPE`]: a device.
pub const HEADER_DEVICE: u8 = 0;
/// A bridge to another PCI bus.
pub const HEADER_BRIDGE: u8 = 1;

/// Capability: message interrupts.
pub const CAP_MSI: u8 = 0x05;
/// Capability: of the vendor.
pub const CAP_VENDOR: u8 = 0x09;
/// Capability: PCI Express.
pub const CAP_EXPRESS: u8 = 0x10;
/// Capability: message interrupts with a table.
pub const CAP_MSIX: u8 = 0x11;

/// MSI: control word.
pub const MSI_CONTROL: u16 = 2;
/// On.
pub const MSI_ENABLE: u16 = 1;
/// How many messages are used, as a power of two.
pub const MSI_USED: u16 = 7 << 4;
/// Addresses have 64 bits.
pub const MSI_WIDE: u16 = 1 << 7;
/// MSI: the address.
pub const MSI_ADDRESS: u16 = 4;

/// MSI-X: control word; how many vectors less one in its lower bits.
pub const MSIX_CONTROL: u16 = 2;
/// On.
pub const MSIX_ENABLE: u16 = 1 << 15;
/// All are masked.
pub const MSIX_MASK_ALL: u16 = 1 << 14;
/// See [`MSIX_CONTROL`].
pub const MSIX_SIZE: u16 = 0x7ff;
/// MSI-X: where the table is: BAR in three bits, and offset.
pub const MSIX_TABLE: u16 = 4;
/// MSI-X: where the bits are that tell what is pending.
pub const MSIX_PENDING: u16 = 8;
/// Bytes of an entry of the table.
pub const MSIX_ENTRY: usize = 16;
/// Of an entry: its address (two words), data, and control.
pub const MSIX_ENTRY_DATA: usize = 8;
/// See there; bit 0: masked.
pub const MSIX_ENTRY_CONTROL: usize = 12;

/// PCI Express: capabilities of the slot.
pub const EXPRESS_SLOT: u16 = 0x14;
/// Devices may come and go.
pub const EXPRESS_SLOT_HOTPLUG: u32 = 1 << 6;
/// PCI Express: flags; the type of port from bit 4.
pub const EXPRESS_FLAGS: u16 = 2;
/// There is a slot.
pub const EXPRESS_FLAGS_SLOT: u16 = 1 << 8;
