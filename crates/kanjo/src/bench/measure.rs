//! What the node says it used: processor time by stage, log bytes, memory.

use super::child::Child;
use crate::fail::{Done, Fail};
use crate::figures;
use kanjo_client::Client;
use std::collections::BTreeMap;

/// Readings at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measure {
    /// Seconds of processor time of the whole process.
    pub cpu: f64,
    /// Seconds of processor time by stage.
    pub stages: BTreeMap<String, f64>,
    /// Bytes appended to the block log.
    pub log_bytes: f64,
    /// Final blocks.
    pub blocks: f64,
    /// Resident memory.
    pub rss_bytes: u64,
}

impl Measure {
    /// Reads the metrics of a node at `client`.
    pub fn of(client: &Client) -> Done<Self> {
        Ok(parse(&client.metrics()?))
    }

    /// Reads the node's metrics.
    pub fn take(client: &Client, node: &Child) -> Done<Self> {
        let mut measure = Self::of(client)?;
        if measure.cpu == 0.0 {
            measure.cpu = process_cpu(node.id());
        }
        if measure.stages.is_empty() {
            return Err(Fail::new("metrics", "the node tells no processor time by stage"));
        }
        Ok(measure)
    }

    /// What was used between an earlier reading and this one: by stage in the order of a payment's
    /// way.
    pub fn stages_since(&self, before: &Self) -> Vec<(String, f64)> {
        const ORDER: [&str; 6] = ["network", "signature", "execution", "tree", "log", "background"];
        let rank =
            |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
        let mut used: Vec<(String, f64)> = self
            .stages
            .iter()
            .map(|(name, after)| {
                let earlier = before.stages.get(name).copied().unwrap_or_default();
                (name.clone(), figures::increase(earlier, *after))
            })
            .collect();
        used.sort_by_key(|(name, _)| rank(name));
        used
    }
}

fn parse(text: &str) -> Measure {
    let mut measure = Measure::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        match name {
            "kanjo_cpu_seconds_total" | "process_cpu_seconds_total" => measure.cpu = value,
            "kanjo_log_bytes_total" => measure.log_bytes = value,
            "kanjo_blocks_total" => measure.blocks = value,
            "process_resident_memory_bytes" => measure.rss_bytes = value as u64,
            _ => {
                let stage = name
                    .strip_prefix("kanjo_stage_cpu_seconds_total{stage=\"")
                    .and_then(|rest| rest.strip_suffix("\"}"));
                if let Some(stage) = stage {
                    measure.stages.insert(stage.to_owned(), value);
                }
            }
        }
    }
    measure
}

/// Seconds of processor time that this process has used.
pub fn own_cpu() -> f64 {
    process_cpu(std::process::id())
}

/// User and system time of a process from /proc, for nodes that don't tell it.
pub fn process_cpu(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|text| text.parse::<u64>().ok());
    figures::ticks_to_seconds(ticks.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let text = "# HELP x\nkanjo_stage_cpu_seconds_total{stage=\"tree\"} 1.5\n\
            kanjo_stage_cpu_seconds_total{stage=\"network\"} 0.5\nkanjo_log_bytes_total 1234\n\
            process_resident_memory_bytes 4096\nkanjo_cpu_seconds_total 2.25\n# EOF\n";
        let measure = parse(text);
        assert_eq!(measure.rss_bytes, 4096);
        assert!((measure.cpu - 2.25).abs() < 1e-9);
        let since = measure.stages_since(&Measure::default());
        let names: Vec<&str> = since.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["network", "tree"]);
    }

    #[test]
    fn this_process_has_used_a_processor() {
        assert!(own_cpu() >= 0.0);
    }
}
