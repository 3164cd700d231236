//! What a bench says: a JSON line per figure for machines, then a table for people.

use super::paired::Comparison;
use serde::Serialize;

/// One measured figure. A ratio is ours divided by the peer's: below one, ours needs less.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    pub bench: &'static str,
    pub figure: &'static str,
    pub unit: &'static str,
    pub ours: Option<f64>,
    pub peer_name: Option<String>,
    pub peer: Option<f64>,
    pub ratio: Option<f64>,
    /// The 95 % interval of the ratio; the goal is met when its upper end is.
    pub ratio_low: Option<f64>,
    pub ratio_high: Option<f64>,
    /// Where the question is by how much ours needs more: the difference, with its 95 % interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference_low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference_high: Option<f64>,
    /// A ratio where there is a peer, else a value in `unit`; of a difference, in `unit` too.
    pub goal: Option<f64>,
    /// Pairs, or single runs where there is no peer.
    pub runs: usize,
    /// `power`: an acknowledged message survives a power cut; `process`: a crash of ours only.
    /// `none` for figures in which nothing durable is acknowledged.
    pub durability: &'static str,
    /// The share of the machine that others used while it was measured.
    pub machine_used_by_others: Option<f64>,
}

/// The name of a figure before it has a value.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    pub bench: &'static str,
    pub figure: &'static str,
    pub unit: &'static str,
    pub goal: Option<f64>,
    pub durability: &'static str,
}

impl Figure {
    pub fn compared(name: Name, peer_name: &str, found: &Comparison) -> Self {
        Self {
            peer_name: Some(peer_name.to_owned()),
            peer: Some(round(found.peer)),
            ratio: Some(round(found.ratio.median)),
            ratio_low: Some(round(found.ratio.low)),
            ratio_high: Some(round(found.ratio.high)),
            ..Self::alone(name, found.ours, found.pairs)
        }
    }

    /// By how much ours needs more than the peer: what the goal is about is the difference.
    pub fn added(name: Name, peer_name: &str, found: &Comparison) -> Self {
        Self {
            peer_name: Some(peer_name.to_owned()),
            peer: Some(round(found.peer)),
            difference: Some(round(found.difference.median)),
            difference_low: Some(round(found.difference.low)),
            difference_high: Some(round(found.difference.high)),
            ..Self::alone(name, found.ours, found.pairs)
        }
    }

    pub fn alone(name: Name, ours: f64, runs: usize) -> Self {
        Self {
            bench: name.bench,
            figure: name.figure,
            unit: name.unit,
            ours: Some(round(ours)),
            peer_name: None,
            peer: None,
            ratio: None,
            ratio_low: None,
            ratio_high: None,
            difference: None,
            difference_low: None,
            difference_high: None,
            goal: name.goal,
            runs,
            durability: name.durability,
            machine_used_by_others: None,
        }
    }

    /// One line for people, if there is a goal.
    pub fn verdict(&self) -> Option<String> {
        let verdict = if self.meets_goal()? { "met" } else { "MISSED" };
        let worst = self.worst()?;
        let what = match &self.peer_name {
            Some(peer) if self.difference.is_some() => {
                format!("{} more than {peer}, upper end of 95 %", self.unit)
            }
            Some(peer) => format!("times {peer}, upper end of 95 %"),
            None => self.unit.to_owned(),
        };
        Some(format!(
            "{verdict:6} {}: {}: {worst} {what}; goal {}",
            self.bench, self.figure, self.goal?
        ))
    }

    /// By the worse end of the interval; `None` without a goal.
    pub fn meets_goal(&self) -> Option<bool> {
        let worst = self.worst()?;
        self.goal.map(|goal| worst <= goal)
    }

    fn worst(&self) -> Option<f64> {
        self.ratio_high.or(self.difference_high).or(self.ours)
    }
}

/// Four significant digits: more would claim what was not measured.
pub fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powf(3.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

/// A table in Markdown, columns aligned, so that it can be pasted into a page.
pub fn table(figures: &[Figure]) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| v.to_string());
    let head = [
        "bench",
        "figure",
        "unit",
        "ours",
        "peer",
        "ratio",
        "95 %",
        "goal",
        "runs",
        "durability",
        "others",
    ];
    let rows = figures.iter().map(|figure| {
        let peer = match &figure.peer_name {
            Some(name) => format!("{} ({name})", number(figure.peer)),
            None => "–".to_owned(),
        };
        let interval = match (
            figure.ratio_low.or(figure.difference_low),
            figure.ratio_high.or(figure.difference_high),
        ) {
            (Some(low), Some(high)) => format!("{low} to {high}"),
            _ => "–".to_owned(),
        };
        let ratio = match figure.difference {
            Some(more) => format!("{more:+} {}", figure.unit),
            None => number(figure.ratio),
        };
        let goal = match figure.meets_goal() {
            Some(true) => format!("{} met", number(figure.goal)),
            Some(false) => format!("{} missed", number(figure.goal)),
            None => "–".to_owned(),
        };
        [
            figure.bench.to_owned(),
            figure.figure.to_owned(),
            figure.unit.to_owned(),
            number(figure.ours),
            peer,
            ratio,
            interval,
            goal,
            figure.runs.to_string(),
            figure.durability.to_owned(),
            match figure.machine_used_by_others {
                Some(share) => format!("{:.0} %", share * 100.0),
                None => "–".to_owned(),
            },
        ]
    });
    let rows: Vec<[String; 11]> = std::iter::once(head.map(str::to_owned))
        .chain(rows)
        .collect();
    let mut widths = [0; 11];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            format!("| {} |", cells.join(" | "))
        })
        .collect();
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    lines.insert(1, format!("| {} |", rule.join(" | ")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::paired::Interval;
    use super::*;

    const NAME: Name = Name {
        bench: "gateway",
        figure: "paced",
        unit: "µs",
        goal: Some(0.5),
        durability: "none",
    };

    fn found(high: f64) -> Comparison {
        Comparison {
            ours: 22.51234,
            peer: 45.0,
            ratio: Interval {
                low: 0.4,
                median: 0.45,
                high,
            },
            difference: Interval {
                low: -1.0,
                median: 2.0,
                high: 2.5,
            },
            pairs: 7,
        }
    }

    fn compared(high: f64) -> Figure {
        Figure::compared(NAME, "mosquitto 2.0.11", &found(high))
    }

    #[test]
    fn the_line_has_every_field_and_no_false_digits() {
        let line = serde_json::to_value(compared(0.5)).unwrap();
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 13, "{keys:?}");
        assert_eq!(line["ours"], 22.51);
        assert_eq!(line["peer_name"], "mosquitto 2.0.11");
        let alone = serde_json::to_value(Figure::alone(NAME, 1.0, 3)).unwrap();
        assert!(alone["ratio"].is_null() && alone["peer"].is_null());
    }

    #[test]
    fn a_goal_is_met_by_the_worse_end_only() {
        assert_eq!(compared(0.50).meets_goal(), Some(true));
        assert_eq!(compared(0.51).meets_goal(), Some(false));
        let no_goal = Name { goal: None, ..NAME };
        let alone = Figure::alone(no_goal, 1.0, 1);
        assert_eq!((alone.meets_goal(), alone.verdict()), (None, None));
        assert_eq!(
            compared(0.51).verdict().unwrap(),
            "MISSED gateway: paced: 0.51 times mosquitto 2.0.11, upper end of 95 %; goal 0.5"
        );
        let met = Figure::alone(NAME, 0.4, 1).verdict().unwrap();
        assert_eq!(met, "met    gateway: paced: 0.4 µs; goal 0.5");
    }

    #[test]
    fn what_ours_needs_more_is_judged_by_the_greater_end() {
        for (goal, met) in [(2.5, true), (2.4, false)] {
            let name = Name {
                goal: Some(goal),
                ..NAME
            };
            let added = Figure::added(name, "ours without it", &found(9.0));
            assert_eq!(added.meets_goal(), Some(met));
            let said = added.verdict().unwrap();
            assert!(said.contains("2.5 µs more than ours without it"), "{said}");
        }
    }

    #[test]
    fn the_table_is_aligned_markdown() {
        let added = Figure::added(NAME, "ours", &found(1.0));
        let table = table(&[compared(0.51), Figure::alone(NAME, 1.0, 3), added]);
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 5);
        assert!(table.contains("+2 µs"), "{table}");
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
        assert!(table.contains("0.5 missed"));
    }
}
