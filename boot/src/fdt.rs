//! Flattened device trees: a reader that trusts nothing (Devicetree Specification v0.4, chapter 5).
//!
//! Works on the bytes in place, allocates nothing, and never panics on a malformed tree: reads beyond the end give
//! `None`, and walks end. It runs before relocation, too, so it keeps no tables of pointers.
//!
//! A [`Node`] knows where its content begins, its depth, and the cell sizes that its parent gives to its `reg`.

/// A device tree.
#[derive(Clone, Copy, Debug)]
pub struct Fdt<'a> {
    data: &'a [u8],
    structure: usize,
    structure_end: usize,
    strings: usize,
    reservations: usize,
}

const MAGIC: u32 = 0xd00d_feed;
const HEADER: usize = 40;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
/// Deeper trees than this are not read on.
const MAX_DEPTH: usize = 16;

fn be32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn be64(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(be32(data, at)?) << 32 | u64::from(be32(data, at.checked_add(4)?)?))
}

fn c_str(data: &[u8], at: usize) -> Option<&[u8]> {
    let rest = data.get(at..)?;
    let len = rest.iter().position(|b| *b == 0)?;
    rest.get(..len)
}

/// How many bytes the tree at the start of `header` has, from its first 8 bytes; `None` if it is no tree.
pub fn total_size(header: &[u8]) -> Option<usize> {
    let size = be32(header, 4)? as usize;
    (be32(header, 0)? == MAGIC && size >= HEADER).then_some(size)
}

impl<'a> Fdt<'a> {
    /// Checks the header.
    pub fn new(data: &'a [u8]) -> Option<Self> {
        let data = data.get(..total_size(data)?)?;
        let structure = be32(data, 8)? as usize;
        let strings = be32(data, 12)? as usize;
        let reservations = be32(data, 16)? as usize;
        let last_compatible = be32(data, 24)?;
        let structure_end = structure.checked_add(be32(data, 36)? as usize)?.min(data.len());
        if last_compatible > 17
            || !structure.is_multiple_of(4)
            || structure >= data.len()
            || strings > data.len()
        {
            return None;
        }
        Some(Self { data, structure, structure_end, strings, reservations })
    }

    /// Bytes of the tree.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether it has no bytes (it always has).
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The memory reservation block: address and length of each.
    pub fn reservations(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let data = self.data;
        let mut at = self.reservations;
        core::iter::from_fn(move || {
            let (address, len) = (be64(data, at)?, be64(data, at + 8)?);
            at += 16;
            if address == 0 && len == 0 {
                at = data.len();
                return None;
            }
            Some((address, len))
        })
    }

    /// All nodes, parents before children.
    pub fn nodes(&self) -> Nodes<'a> {
        Nodes { fdt: *self, at: self.structure, depth: 0, cells: [Cells::DEFAULT; MAX_DEPTH] }
    }

    /// The root.
    pub fn root(&self) -> Option<Node<'a>> {
        self.nodes().next()
    }

    /// A node by its path, unit addresses being optional: `/chosen`, `/cpus/cpu-map`.
    pub fn find(&self, path: &str) -> Option<Node<'a>> {
        let mut node = self.root()?;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            node = node.children().find(|child| child.is_named(part))?;
        }
        Some(node)
    }

    /// The first node that is compatible with `what`.
    pub fn find_compatible(&self, what: &str) -> Option<Node<'a>> {
        self.nodes().find(|node| node.is_compatible(what))
    }

    /// The node with this phandle.
    pub fn by_phandle(&self, phandle: u32) -> Option<Node<'a>> {
        self.nodes().find(|node| node.u32("phandle") == Some(phandle))
    }

    fn name_at(&self, offset: usize) -> Option<&'a [u8]> {
        c_str(self.data, self.strings.checked_add(offset)?)
    }
}

/// How many 32-bit cells addresses and sizes have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cells {
    /// `#address-cells`
    pub address: usize,
    /// `#size-cells`
    pub size: usize,
}

impl Cells {
    /// What the specification says where nothing is said.
    pub const DEFAULT: Self = Self { address: 2, size: 1 };
}

/// A node of the tree.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    fdt: Fdt<'a>,
    name: &'a [u8],
    /// Where its properties begin.
    at: usize,
    depth: usize,
    /// For its own `reg`.
    cells: Cells,
}

impl<'a> Node<'a> {
    /// Its name with unit address.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// 0 for the root.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Whether it is called `name`, with or without a unit address.
    pub fn is_named(&self, name: &str) -> bool {
        match self.name.strip_prefix(name.as_bytes()) {
            Some(rest) => rest.is_empty() || rest[0] == b'@',
            None => false,
        }
    }

    /// Its properties.
    pub fn properties(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let fdt = self.fdt;
        let mut at = self.at;
        core::iter::from_fn(move || {
            loop {
                match be32(fdt.data, at)? {
                    NOP => at += 4,
                    PROP => {
                        let len = be32(fdt.data, at + 4)? as usize;
                        let name = fdt.name_at(be32(fdt.data, at + 8)? as usize)?;
                        let start = at + 12;
                        let value = fdt.data.get(start..start.checked_add(len)?)?;
                        at = (start + len).next_multiple_of(4);
                        return Some((name, value));
                    }
                    _ => return None,
                }
            }
        })
    }

    /// A property's bytes.
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        self.properties().find(|(n, _)| *n == name.as_bytes()).map(|(_, value)| value)
    }

    /// A property of one cell.
    pub fn u32(&self, name: &str) -> Option<u32> {
        be32(self.property(name)?, 0)
    }

    /// A string property, without its NUL.
    pub fn str(&self, name: &str) -> Option<&'a str> {
        core::str::from_utf8(c_str(self.property(name)?, 0)?).ok()
    }

    /// The cells of a property.
    pub fn cells(&self, name: &str) -> impl Iterator<Item = u32> + use<'a> {
        let value = self.property(name).unwrap_or(&[]);
        value.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// Whether `compatible` lists `what`.
    pub fn is_compatible(&self, what: &str) -> bool {
        let value = self.property("compatible").unwrap_or(&[]);
        value.split(|b| *b == 0).any(|s| s == what.as_bytes())
    }

    /// Whether `status` allows its use.
    pub fn is_enabled(&self) -> bool {
        self.str("status").is_none_or(|s| s == "okay" || s == "ok")
    }

    /// `reg`: address and size of each range. Addresses are those of the parent's bus.
    pub fn reg(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        self.ranges_of("reg", self.cells)
    }

    /// A property of (address, size) pairs.
    pub fn ranges_of(&self, name: &str, cells: Cells) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let value = self.property(name).unwrap_or(&[]);
        let step = (cells.address + cells.size) * 4;
        let mut at = 0;
        core::iter::from_fn(move || {
            if step == 0 || at + step > value.len() {
                return None;
            }
            let address = number(value.get(at..at + cells.address * 4)?);
            let size = number(value.get(at + cells.address * 4..at + step)?);
            at += step;
            Some((address, size))
        })
    }

    /// What it says for its children's `reg`.
    pub fn child_cells(&self) -> Cells {
        let cell = |name, default| self.u32(name).map_or(default, |n| (n as usize).min(4));
        Cells {
            address: cell("#address-cells", Cells::DEFAULT.address),
            size: cell("#size-cells", Cells::DEFAULT.size),
        }
    }

    /// Its children.
    pub fn children(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let (depth, cells) = (self.depth, self.child_cells());
        let mut nodes = Nodes { fdt: self.fdt, at: self.at, depth: depth + 1, cells: [cells; MAX_DEPTH] };
        core::iter::from_fn(move || {
            loop {
                let child = nodes.next_above(depth)?;
                if child.depth == depth + 1 {
                    return Some(child);
                }
            }
        })
    }
}

/// A number of up to two cells; of longer ones the low 64 bits.
fn number(cells: &[u8]) -> u64 {
    cells.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// A walk over all nodes; see [`Fdt::nodes`].
#[derive(Clone, Debug)]
pub struct Nodes<'a> {
    fdt: Fdt<'a>,
    at: usize,
    /// Of the next node.
    depth: usize,
    /// What each depth's nodes use in `reg`.
    cells: [Cells; MAX_DEPTH],
}

impl<'a> Nodes<'a> {
    /// The next node, unless the walk leaves the subtree of a node at depth `above`.
    fn next_above(&mut self, above: usize) -> Option<Node<'a>> {
        let data = self.fdt.data;
        loop {
            if self.at >= self.fdt.structure_end {
                return None;
            }
            match be32(data, self.at)? {
                NOP => self.at += 4,
                PROP => {
                    let len = be32(data, self.at + 4)? as usize;
                    self.at = self.at.checked_add(12)?.checked_add(len)?.checked_next_multiple_of(4)?;
                }
                END_NODE => {
                    self.at += 4;
                    self.depth = self.depth.checked_sub(1)?;
                    if self.depth <= above {
                        self.at = data.len();
                        return None;
                    }
                }
                BEGIN_NODE => {
                    let name = c_str(data, self.at + 4)?;
                    self.at = (self.at + 4 + name.len() + 1).next_multiple_of(4);
                    let cells = *self.cells.get(self.depth)?;
                    let node = Node { fdt: self.fdt, name, at: self.at, depth: self.depth, cells };
                    self.depth += 1;
                    if let Some(children) = self.cells.get_mut(self.depth) {
                        *children = node.child_cells();
                    }
                    return Some(node);
                }
                _ => return None,
            }
        }
    }
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        // The root has depth 0 and nothing above it; leaving it ends the walk by the subtraction.
        self.next_above(0)
    }
}

#[cfg(test)]
mod tests;
