//! PCI and virtio in sysfs and procfs: `Documentation/ABI/testing/sysfs-bus-pci`, `Documentation/PCI/sysfs-pci.rst`.

use crate::prelude::*;
use std::collections::BTreeSet;
use std::ffi::CString;

tests![
    devices_say_what_configuration_space_says,
    resources_are_where_the_registers_say,
    configuration_space_is_for_administrators,
    old_list_agrees,
    names_lead_to_devices,
    virtio_devices,
    message_interrupts_are_listed,
];

const DEVICES: &str = "/sys/bus/pci/devices";

fn names(dir: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .map(|entries| {
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

fn text(path: &str) -> Result<String, Failure> {
    let path = CString::new(path).unwrap_or_default();
    Ok(slurp(&path)?.trim_end().to_string())
}

fn hex(path: &str) -> Result<u64, Failure> {
    let text = text(path)?;
    let digits = text.strip_prefix("0x").unwrap_or("none");
    u64::from_str_radix(digits, 16).map_err(|_| Failure::from(format!("{path}: {text:?}")))
}

fn config(device: &str) -> Result<Vec<u8>, Failure> {
    let path = CString::new(format!("{DEVICES}/{device}/config")).unwrap_or_default();
    let fd = open(&path, O_RDONLY, 0)?;
    let bytes = read_all(fd)?;
    close(fd)?;
    Ok(bytes)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 2].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn devices_say_what_configuration_space_says() -> Outcome {
    let devices = names(DEVICES);
    check!(!devices.is_empty());
    for device in devices {
        let file = |name: &str| format!("{DEVICES}/{device}/{name}");
        let config = config(&device)?;
        check!(config.len() == 256 || config.len() == 4096, "{device}: {}", config.len());
        check_eq!(stat(&CString::new(file("config")).unwrap_or_default())?.st_size as usize, config.len());
        let (vendor, id) = (word(&config, 0), word(&config, 2));
        check_eq!(hex(&file("vendor"))?, vendor);
        check_eq!(hex(&file("device"))?, id);
        let class = word(&config, 9) | u64::from(config[11]) << 16;
        check_eq!(hex(&file("class"))?, class);
        check_eq!(hex(&file("revision"))?, u64::from(config[8]));
        if config[14] & 0x7f == 0 {
            check_eq!(hex(&file("subsystem_vendor"))?, word(&config, 0x2c));
            check_eq!(hex(&file("subsystem_device"))?, word(&config, 0x2e));
        }
        let alias = text(&file("modalias"))?;
        let begin = format!("pci:v{vendor:08X}d{id:08X}sv");
        check!(alias.starts_with(&begin), "{alias}");
        let end = format!("bc{:02X}sc{:02X}i{:02X}", class >> 16, class >> 8 & 0xff, class & 0xff);
        check!(alias.ends_with(&end), "{alias}");
        let event = text(&file("uevent"))?;
        for line in [
            format!("PCI_CLASS={class:X}"),
            format!("PCI_ID={vendor:04X}:{id:04X}"),
            format!("PCI_SLOT_NAME={device}"),
            format!("MODALIAS={alias}"),
        ] {
            check!(event.lines().any(|l| l == line), "{line} in {event}");
        }
        check!(text(&file("local_cpulist"))?.starts_with('0'));
        check!(!text(&file("local_cpus"))?.is_empty());
        check!(text(&file("numa_node"))?.parse::<i32>().is_ok());
        check!(text(&file("irq"))?.parse::<u32>().is_ok());
        check!(text(&file("enable"))?.parse::<u32>().is_ok());
    }
    Ok(())
}

fn resources_are_where_the_registers_say() -> Outcome {
    let mut seen = 0;
    for device in names(DEVICES) {
        let config = config(&device)?;
        let lines: Vec<Vec<u64>> = text(&format!("{DEVICES}/{device}/resource"))?
            .lines()
            .map(|line| {
                line.split(' ')
                    .map(|n| u64::from_str_radix(n.trim_start_matches("0x"), 16).unwrap_or(1))
                    .collect()
            })
            .collect();
        check!(lines.len() >= 7, "{device}: {}", lines.len());
        check!(lines.iter().all(|line| line.len() == 3), "{device}: {lines:x?}");
        let bars = if config[14] & 0x7f == 0 { 6 } else { 2 };
        for (index, line) in lines.iter().enumerate().take(bars) {
            let (first, last, flags) = (line[0], line[1], line[2]);
            let file = CString::new(format!("{DEVICES}/{device}/resource{index}")).unwrap_or_default();
            if flags == 0 {
                check_eq!((first, last), (0, 0));
                check_err!(stat(&file), ENOENT);
                continue;
            }
            seen += 1;
            let len = last - first + 1;
            check!(len.is_power_of_two() && first % len == 0, "{device}: {line:x?}");
            check_eq!(stat(&file)?.st_size as u64, len);
            // Memory below 4 GiB is the same for CPU and device; ports may be elsewhere.
            if flags & 0x200 != 0 {
                let at = 0x10 + 4 * index;
                let low = word(&config, at) | word(&config, at + 2) << 16;
                check_eq!(low & !15, first & 0xffff_fff0);
                check_eq!(low & 8 != 0, flags & 0x2000 != 0);
                check_eq!(low & 6 == 4, flags & 0x10_0000 != 0);
            }
        }
    }
    check!(seen > 0);
    Ok(())
}

fn configuration_space_is_for_administrators() -> Outcome {
    let device = names(DEVICES).first().cloned().unwrap_or_default();
    let path = CString::new(format!("{DEVICES}/{device}/config")).unwrap_or_default();
    let whole = config(&device)?;
    checked_child(|| {
        sys!(SYS_setuid, 1000)?;
        let fd = open(&path, O_RDONLY, 0)?;
        check_eq!(read_all(fd)?, &whole[..64]);
        check_err!(open(&path, O_RDWR, 0), EACCES);
        Ok(())
    })
}

fn old_list_agrees() -> Outcome {
    let list = slurp(c"/proc/bus/pci/devices")?;
    let devices = names(DEVICES);
    check_eq!(list.lines().count(), devices.len());
    for line in list.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        check_eq!(fields.len(), 18);
        let number = |text: &str| u64::from_str_radix(text.trim(), 16).unwrap_or(u64::MAX);
        let place = number(fields[0]);
        let name = format!("0000:{:02x}:{:02x}.{}", place >> 8, place >> 3 & 0x1f, place & 7);
        check!(devices.contains(&name), "{name}");
        let vendor = hex(&format!("{DEVICES}/{name}/vendor"))?;
        let device = hex(&format!("{DEVICES}/{name}/device"))?;
        check_eq!(number(fields[1]), vendor << 16 | device);
        let resources = text(&format!("{DEVICES}/{name}/resource"))?;
        for (line, (start, size)) in resources.lines().zip(fields[3..10].iter().zip(&fields[10..17])).take(6)
        {
            let words: Vec<u64> = line.split(' ').map(|n| number(n.trim_start_matches("0x"))).collect();
            check_eq!(number(start) & !15, words[0] & !15);
            check_eq!(number(size), if words[2] == 0 { 0 } else { words[1] - words[0] + 1 });
        }
        // With its domain where there may be several.
        let bus = format!("{:02x}", place >> 8);
        let whole = format!("/proc/bus/pci/0000:{bus}");
        let bus = if std::fs::exists(&whole)? { whole } else { format!("/proc/bus/pci/{bus}") };
        let file = format!("{bus}/{:02x}.{}", place >> 3 & 0x1f, place & 7);
        let fd = open(&CString::new(file).unwrap_or_default(), O_RDONLY, 0)?;
        check_eq!(read_all(fd)?, config(&name)?);
        close(fd)?;
    }
    Ok(())
}

fn names_lead_to_devices() -> Outcome {
    for device in names(DEVICES) {
        let link = std::fs::read_link(format!("{DEVICES}/{device}"));
        let link = link.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        // Below the bridge, wherever that is.
        check!(link.starts_with("../../../devices/") && link.contains("/pci0000:00/"), "{link}");
        check!(link.ends_with(&device), "{link}");
        let bus = std::fs::canonicalize(format!("{DEVICES}/{device}/subsystem")).unwrap_or_default();
        check_eq!(bus.to_string_lossy(), "/sys/bus/pci");
        if let Ok(driver) = std::fs::canonicalize(format!("{DEVICES}/{device}/driver")) {
            let back = std::fs::canonicalize(driver.join(&device)).unwrap_or_default();
            check_eq!(back, std::fs::canonicalize(format!("{DEVICES}/{device}")).unwrap_or_default());
        }
    }
    Ok(())
}

fn virtio_devices() -> Outcome {
    const VIRTIO: &str = "/sys/bus/virtio/devices";
    let devices = names(VIRTIO);
    check!(!devices.is_empty());
    for device in devices {
        let file = |name: &str| format!("{VIRTIO}/{device}/{name}");
        let (id, vendor) = (hex(&file("device"))?, hex(&file("vendor"))?);
        check_eq!(text(&file("modalias"))?, format!("virtio:d{id:08X}v{vendor:08X}"));
        let features = text(&file("features"))?;
        check_eq!(features.len(), 64);
        check!(features.bytes().all(|bit| bit == b'0' || bit == b'1'));
        if std::fs::exists(file("driver")).unwrap_or(false) {
            // Acknowledged, driver, features, running.
            check_eq!(hex(&file("status"))?, 15);
            check_eq!(&features[32..33], "1");
        }
        let home = std::fs::canonicalize(format!("{VIRTIO}/{device}")).unwrap_or_default();
        check!(home.to_string_lossy().starts_with("/sys/devices/p"), "{home:?}");
    }
    Ok(())
}

fn message_interrupts_are_listed() -> Outcome {
    let interrupts = text("/proc/interrupts")?;
    let mut seen = BTreeSet::new();
    for device in names(DEVICES) {
        for irq in names(&format!("{DEVICES}/{device}/msi_irqs")) {
            let kind = text(&format!("{DEVICES}/{device}/msi_irqs/{irq}"))?;
            check!(kind == "msi" || kind == "msix", "{kind}");
            let line = interrupts.lines().find(|line| line.trim_start().starts_with(&format!("{irq}:")));
            let Some(line) = line else { continue };
            check!(line.contains(&format!("PCI-{}-{device}", kind.to_uppercase())), "{line}");
            check!(seen.insert(irq));
        }
    }
    check!(seen.len() >= 2, "{seen:?}\n{interrupts}");
    Ok(())
}
