//! Trees built by hand, whole and broken.

use super::*;

/// Builds a tree; `close` ends the node begun last.
#[derive(Default)]
struct Builder {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn word(&mut self, w: u32) {
        self.structure.extend(w.to_be_bytes());
    }

    fn pad(&mut self) {
        while !self.structure.len().is_multiple_of(4) {
            self.structure.push(0);
        }
    }

    fn open(&mut self, name: &str) -> &mut Self {
        self.word(BEGIN_NODE);
        self.structure.extend(name.bytes().chain([0]));
        self.pad();
        self
    }

    fn prop(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.word(PROP);
        self.word(value.len() as u32);
        self.word(self.strings.len() as u32);
        self.strings.extend(name.bytes().chain([0]));
        self.structure.extend(value);
        self.pad();
        self
    }

    fn cells(&mut self, name: &str, cells: &[u32]) -> &mut Self {
        let bytes: Vec<u8> = cells.iter().flat_map(|c| c.to_be_bytes()).collect();
        self.prop(name, &bytes)
    }

    fn close(&mut self) -> &mut Self {
        self.word(END_NODE);
        self
    }

    fn finish(&mut self) -> Vec<u8> {
        self.word(9);
        let reservations = 40;
        let structure = reservations + 32;
        let strings = structure + self.structure.len();
        let total = strings + self.strings.len();
        let header = [
            MAGIC,
            total as u32,
            structure as u32,
            strings as u32,
            reservations as u32,
            17,
            16,
            0,
            self.strings.len() as u32,
            self.structure.len() as u32,
        ];
        let mut out: Vec<u8> = header.iter().flat_map(|w| w.to_be_bytes()).collect();
        out.extend([0x4000_0000u64, 0x1000, 0, 0].iter().flat_map(|w| w.to_be_bytes()));
        out.extend(&self.structure);
        out.extend(&self.strings);
        out
    }
}

fn sample() -> Vec<u8> {
    let mut b = Builder::default();
    b.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    b.open("memory@40000000")
        .prop("device_type", b"memory\0")
        .cells("reg", &[0, 0x4000_0000, 0, 0x800_0000])
        .close();
    b.open("cpus").cells("#address-cells", &[1]).cells("#size-cells", &[0]);
    b.open("cpu@0").cells("reg", &[0]).close();
    b.open("cpu@1").cells("reg", &[1]).prop("compatible", b"arm,cortex-a72\0arm,armv8\0").close();
    b.close();
    b.open("chosen").prop("bootargs", b"console=ttyAMA0 nokaslr\0").close();
    b.close();
    b.finish()
}

#[test]
fn reads_a_tree() {
    let data = sample();
    let fdt = Fdt::new(&data).unwrap();
    assert_eq!(fdt.reservations().collect::<Vec<_>>(), [(0x4000_0000, 0x1000)]);
    let names: Vec<_> =
        fdt.nodes().map(|n| (n.depth(), String::from_utf8_lossy(n.name()).into_owned())).collect();
    let expected = [(0, ""), (1, "memory@40000000"), (1, "cpus"), (2, "cpu@0"), (2, "cpu@1"), (1, "chosen")];
    assert_eq!(names, expected.map(|(d, n)| (d, n.to_string())));
    let memory = fdt.find("/memory").unwrap();
    assert_eq!(memory.reg().collect::<Vec<_>>(), [(0x4000_0000, 0x800_0000)]);
    assert_eq!(fdt.find("/chosen").unwrap().str("bootargs"), Some("console=ttyAMA0 nokaslr"));
    let cpus = fdt.find("/cpus").unwrap();
    assert_eq!(cpus.children().map(|c| c.reg().next().unwrap()).collect::<Vec<_>>(), [(0, 0), (1, 0)]);
    assert!(fdt.find_compatible("arm,armv8").unwrap().is_named("cpu"));
    assert!(fdt.find("/cpus/cpu@2").is_none() && fdt.find("/chose").is_none());
}

#[test]
fn survives_broken_trees() {
    let good = sample();
    let walk = |data: &[u8]| {
        let Some(fdt) = Fdt::new(data) else { return };
        for _ in fdt.reservations().take(1000) {}
        for node in fdt.nodes().take(1000) {
            let _ =
                (node.reg().take(100).count(), node.children().take(100).count(), node.is_compatible("x"));
            for (_, value) in node.properties().take(100) {
                assert!(value.len() <= data.len());
            }
        }
    };
    for cut in 0..good.len() {
        walk(&good[..cut]);
    }
    for at in 0..good.len() {
        for value in [0, 1, 3, 4, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            walk(&bad);
        }
    }
}
