//! Joules, where the processor tells them (RAPL).

use std::path::{Path, PathBuf};

/// Where the system shows counters of energy.
const POWERCAP: &str = "/sys/class/powercap";

/// Counters of all processor packages at one moment.
#[derive(Debug, Clone)]
pub struct Energy(Vec<Counter>);

#[derive(Debug, Clone)]
struct Counter {
    path: PathBuf,
    microjoules: u64,
    /// Where it begins anew.
    range: u64,
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl Energy {
    /// Reads them; `None` where there are none, or this user may not read them.
    pub fn take() -> Option<Self> {
        Self::take_from(Path::new(POWERCAP))
    }

    fn take_from(dir: &Path) -> Option<Self> {
        let mut counters = Vec::new();
        for entry in std::fs::read_dir(dir).ok()?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Packages alone, `intel-rapl:0`: what is below them is part of them.
            if name.starts_with("intel-rapl:") && name.matches(':').count() == 1 {
                let path = entry.path();
                let microjoules = number(&path.join("energy_uj"))?;
                let range = number(&path.join("max_energy_range_uj")).unwrap_or(u64::MAX);
                counters.push(Counter { path, microjoules, range });
            }
        }
        (!counters.is_empty()).then_some(Self(counters))
    }

    /// Microjoules of all packages since an earlier moment, at most one turn of a counter ago.
    pub fn microjoules_since(&self, before: &Self) -> u64 {
        let used = |now: &Counter| {
            let earlier = before.0.iter().find(|earlier| earlier.path == now.path);
            let earlier = earlier.map_or(now.microjoules, |earlier| earlier.microjoules);
            match now.microjoules.checked_sub(earlier) {
                Some(used) => used,
                None => now.range.saturating_sub(earlier).saturating_add(now.microjoules),
            }
        };
        self.0.iter().map(used).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(dir: &Path, package: &str, microjoules: u64) {
        let dir = dir.join(package);
        std::fs::create_dir_all(&dir).expect("made");
        std::fs::write(dir.join("energy_uj"), format!("{microjoules}\n")).expect("written");
        std::fs::write(dir.join("max_energy_range_uj"), "1000\n").expect("written");
    }

    #[test]
    fn packages_are_added_up_also_when_a_counter_begins_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(Energy::take_from(dir.path()).is_none());
        set(dir.path(), "intel-rapl:0", 100);
        set(dir.path(), "intel-rapl:1", 900);
        set(dir.path(), "intel-rapl:0:0", 7);
        let before = Energy::take_from(dir.path()).expect("readable");
        set(dir.path(), "intel-rapl:0", 150);
        set(dir.path(), "intel-rapl:1", 20);
        let after = Energy::take_from(dir.path()).expect("readable");
        assert_eq!(after.microjoules_since(&before), 50 + 120);
    }
}
